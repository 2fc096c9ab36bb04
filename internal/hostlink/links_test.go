package hostlink

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestOwnedAndDelete(t *testing.T) {
	s, v, x := newSpace(t), testVeth(), testVXLAN()
	ensureVeth(t, s, v)
	ensureVXLAN(t, s, x)
	s.nic("br0", "10.1.0.1/24")
	s.ip("link", "set", "br0", "alias", "somebody's")

	owned, err := s.Owned(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Link{
		{Name: v.Host, Alias: v.Alias, Kind: "veth", Index: s.show(v.Host).Index, MTU: 1450, Up: true},
		{Name: x.Name, Alias: x.Alias, Kind: "vxlan", Index: s.show(x.Name).Index, MTU: 1450, Up: true},
	}
	if !slices.Equal(owned, want) {
		t.Errorf("owned %+v, want %+v", owned, want)
	}
	for _, name := range []string{v.Host, x.Name, "absent", v.Host} {
		if err := s.DeleteLink(t.Context(), name); err != nil {
			t.Errorf("DeleteLink(%s): %v", name, err)
		}
		if name != "absent" && s.exists(name) {
			t.Errorf("%s is still there", name)
		}
	}
	if s.exists(v.Peer) {
		t.Error("the peer is still there")
	}
	for _, name := range []string{"br0", "lo"} {
		if err := s.DeleteLink(t.Context(), name); !errors.Is(err, ErrForeign) || !s.exists(name) {
			t.Errorf("DeleteLink(%s): %v", name, err)
		}
	}
}

func TestLinkName(t *testing.T) {
	shape := regexp.MustCompile(`^[a-z]{1,3}[0-9a-f]{12}$`)
	seen := map[string][]string{}
	for _, id := range [][]string{{"a", "bc"}, {"ab", "c"}, {"abc"}, {"10.1.11.1"}, {"10.11.1.1"}, {}, {""}, {"", ""}} {
		name := LinkName("sph", id...)
		if !shape.MatchString(name) || len(name) > 15 || name != LinkName("sph", id...) {
			t.Errorf("%q for %q", name, id)
		}
		if other, ok := seen[name]; ok && len(id)+len(other) > 1 {
			t.Errorf("%q and %q share %s", id, other, name)
		}
		seen[name] = id
	}
	if got := LinkName("toolong", "x"); len(got) != 15 || !strings.HasPrefix(got, "too") {
		t.Errorf("long prefix: %s", got)
	}
}

// Lists must be whole while links come and go: whoever misses one removes its flows.
func TestOwnedIsWholeWhileLinksChange(t *testing.T) {
	s, stays := newSpace(t), testVXLAN()
	ensureVXLAN(t, s, stays)
	var churn sync.WaitGroup
	for worker := range 4 {
		churn.Go(func() {
			for i := range 10 {
				id := fmt.Sprint(worker, "-", i)
				v := Veth{Host: LinkName("sph", id), Peer: LinkName("spp", id), MTU: 1450, Alias: OwnerPrefix + id}
				if err := errors.Join(s.EnsureVeth(t.Context(), v), s.DeleteLink(t.Context(), v.Host)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { churn.Wait(); close(done) }()
	for lists := 0; ; lists++ {
		owned, err := s.Owned(t.Context())
		if err != nil || !slices.ContainsFunc(owned, func(l Link) bool { return l.Name == stays.Name }) {
			t.Errorf("list %d: %v, %v", lists, owned, err)
		}
		select {
		case <-done:
			t.Logf("%d lists during 40 pairs", lists)
			return
		default:
		}
	}
}
