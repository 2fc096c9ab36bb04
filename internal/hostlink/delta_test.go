package hostlink

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
)

func host(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }

func fdbOf(t *testing.T, s *space, dev string) map[FDBEntry]bool {
	t.Helper()
	entries, err := s.FDB(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	out := map[FDBEntry]bool{}
	for _, e := range entries {
		out[e] = true
	}
	return out
}

// TestChangeFDB: what is named changes, in whatever state the device is, and the rest stays.
func TestChangeFDB(t *testing.T) {
	s, v := newSpace(t), testVXLAN()
	ensureVXLAN(t, s, v)
	a, b, flood := dataplane.MAC{2, 0, 0, 0, 0, 1}, dataplane.MAC{2, 0, 0, 0, 0, 2}, dataplane.MAC{}
	type list = []FDBEntry
	for _, step := range []struct {
		name            string
		set, gone, want list
	}{
		{"comes", list{{a, host(2)}, {flood, host(2)}, {flood, host(3)}}, nil, list{{a, host(2)}, {flood, host(2)}, {flood, host(3)}}},
		{"again", list{{a, host(2)}, {flood, host(3)}, {flood, host(3)}}, nil, list{{a, host(2)}, {flood, host(2)}, {flood, host(3)}}},
		{"moves", list{{a, host(3)}}, list{{a, host(2)}}, list{{a, host(3)}, {flood, host(2)}, {flood, host(3)}}},
		{"gone from where it is not", nil, list{{a, host(2)}, {b, host(2)}, {flood, host(9)}}, list{{a, host(3)}, {flood, host(2)}, {flood, host(3)}}},
		{"both", list{{b, host(2)}}, list{{flood, host(2)}, {b, host(2)}}, list{{a, host(3)}, {b, host(2)}, {flood, host(3)}}},
		{"mapped", nil, list{{a, netip.MustParseAddr("::ffff:192.0.2.3")}}, list{{b, host(2)}, {flood, host(3)}}},
		{"nothing", nil, nil, list{{b, host(2)}, {flood, host(3)}}},
		{"all", nil, list{{b, host(2)}, {flood, host(3)}}, nil},
	} {
		if err := s.ChangeFDB(t.Context(), v.Name, step.set, step.gone); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		want := map[FDBEntry]bool{}
		for _, e := range step.want {
			want[e] = true
		}
		if got := fdbOf(t, s, v.Name); !maps.Equal(got, want) {
			t.Errorf("%s: has %v, want %v", step.name, got, want)
		}
	}
	// Another device of this name is noticed.
	s.ip("link", "del", v.Name)
	ensureVXLAN(t, s, v)
	if err := s.ChangeFDB(t.Context(), v.Name, list{{a, host(4)}}, list{{b, host(2)}}); err != nil || !fdbOf(t, s, v.Name)[FDBEntry{a, host(4)}] {
		t.Errorf("after the device was made again: %v, %v", err, fdbOf(t, s, v.Name))
	}
	if err := s.ChangeFDB(t.Context(), "nosuch", list{{a, host(2)}}, nil); !errors.Is(err, ErrNoLink) {
		t.Errorf("no device: %v", err)
	}
	s.ip("link", "add", "theirs", "type", "vxlan", "id", "5", "dstport", "4790")
	if err := s.ChangeFDB(t.Context(), "theirs", list{{a, host(2)}}, nil); !errors.Is(err, ErrForeign) {
		t.Errorf("another's device: %v", err)
	}
	err := s.ChangeFDB(t.Context(), v.Name, list{{a, host(2)}, {b, netip.MustParseAddr("2001:db8::1")}}, nil)
	if err == nil || !strings.Contains(err.Error(), b.String()) || !fdbOf(t, s, v.Name)[FDBEntry{a, host(2)}] {
		t.Errorf("one entry is refused: %v", err)
	}
}

// TestForwardingEntryCostsItself: one entry costs the same on a device with few entries as on one with hundreds, and no list.
func TestForwardingEntryCostsItself(t *testing.T) {
	s, v := newSpace(t), testVXLAN()
	ensureVXLAN(t, s, v)
	for _, n := range []int{10, 500} {
		var many []FDBEntry
		for i := range n {
			many = append(many, FDBEntry{dataplane.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)}, host(2 + i%200)})
		}
		if err := s.ChangeFDB(t.Context(), v.Name, many, nil); err != nil {
			t.Fatal(err)
		}
		before := s.Counts()
		one := FDBEntry{dataplane.MAC{2, 9}, host(7)}
		if err := errors.Join(s.ChangeFDB(t.Context(), v.Name, []FDBEntry{one}, nil), s.ChangeFDB(t.Context(), v.Name, nil, []FDBEntry{one})); err != nil {
			t.Fatal(err)
		}
		after := s.Counts()
		dumps, entries, links := after.Dumps-before.Dumps, after.Entries-before.Entries, after.Read-before.Read
		if dumps != 0 || entries != 2 || links != 0 {
			t.Errorf("with %d entries: %d lists, %d entries sent, %d links read", n, dumps, entries, links)
		}
		if got := len(fdbOf(t, s, v.Name)); got != n {
			t.Errorf("%d entries of %d", got, n)
		}
		if s.Counts().Dumps == after.Dumps {
			t.Error("the list of entries was not counted")
		}
	}
}

// news takes what a watch gathers until it is enough.
func newsOf(t *testing.T, changed <-chan struct{}, take func() LinkNews, enough func(LinkNews) bool) LinkNews {
	t.Helper()
	var all LinkNews
	for deadline := time.After(20 * time.Second); ; {
		n := take()
		all.All = all.All || n.All
		all.Links = append(all.Links, n.Links...)
		if enough(all) {
			return all
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("told only %+v", all)
		}
	}
}

func TestWatchLinksTellsWhichAndHow(t *testing.T) {
	s, v := newSpace(t), testVXLAN()
	ensureVXLAN(t, s, v)
	s.ip("link", "add", "theirs", "type", "bridge")
	changed, take, err := s.WatchLinks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if first := newsOf(t, changed, take, func(LinkNews) bool { return true }); !first.All {
		t.Errorf("at first %+v", first)
	}
	told := func(what string, is func(LinkEvent) bool) {
		t.Helper()
		got := newsOf(t, changed, take, func(n LinkNews) bool { return slices.ContainsFunc(n.Links, is) })
		for _, e := range got.Links {
			if e.Link.Name != v.Name && e.Link.Alias != testVeth().Alias {
				t.Errorf("%s: told of %+v", what, e)
			}
		}
		if got.All {
			t.Errorf("%s: told that all may have changed", what)
		}
	}
	dumps := s.Counts().Dumps
	s.ip("link", "set", "theirs", "up")
	s.ip("link", "set", v.Name, "down")
	told("down", func(e LinkEvent) bool { return e.Link.Name == v.Name && !e.Link.Up && !e.Gone })
	s.ip("link", "set", v.Name, "mtu", "1300")
	told("MTU", func(e LinkEvent) bool { return e.Link.Name == v.Name && e.Link.MTU == 1300 })
	s.ip("addr", "add", "10.9.0.1/24", "dev", v.Name)
	told("address", func(e LinkEvent) bool { return e.Link.Name == v.Name && e.Addr })
	if got := s.Counts().Dumps; got != dumps {
		t.Errorf("%d lists", got-dumps)
	}
	ensureVeth(t, s, testVeth())
	told("new", func(e LinkEvent) bool { return e.Link.Name == testVeth().Host && e.Link.Up })
	s.ip("link", "set", v.Name, "up") // of one that is down the kernel would not tell
	s.ip("link", "set", v.Name, "alias", "")
	told("alias lost", func(e LinkEvent) bool { return e.Link.Name == v.Name && e.Gone })
	if err := s.DeleteLink(t.Context(), testVeth().Host); err != nil {
		t.Fatal(err)
	}
	told("deleted", func(e LinkEvent) bool { return e.Link.Name == testVeth().Host && e.Gone })
}

// A kernel that lacks the module runs modprobe at each question by name.
func TestModuleIsAskedForSeldom(t *testing.T) {
	s := newSpace(t)
	if !s.listsFamily("nlctrl") || s.listsFamily("nosuchfamily") {
		t.Error("the families of the kernel are not listed rightly")
	}
	has := s.HasKernelDatapath()
	for range 10 {
		if s.HasKernelDatapath() != has {
			t.Error("the answer changes")
		}
	}
	want := uint64(1)
	if has {
		want = s.Counts().ModuleAsks // asked by name if it was loaded by that
	}
	if got := s.Counts().ModuleAsks; got != want || got > 1 {
		t.Errorf("asked %d times", got)
	}
	s.family.again = 0
	s.HasKernelDatapath()
	if got := s.Counts().ModuleAsks; !has && got != 2 {
		t.Errorf("asked %d times after the pause", got)
	}
}
