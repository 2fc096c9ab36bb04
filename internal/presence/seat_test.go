package presence

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/underlay"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// machine is a host that acts under an id.
type machine struct {
	*Presence
	t    *testing.T
	stop func()
}

const sameID = "0123456789abcdef"

func (w *seats) machine(vtep string) *machine {
	w.t.Helper()
	local := w.file()
	m := &machine{t: w.t, stop: func() {}}
	tracker := fixedUnderlay(w.t, vtep)
	m.Presence = New(Deps{
		Cluster: store.NewCluster(w.kv, sameID), Local: local, Name: "web1", Logger: slog.New(slog.DiscardHandler), Changed: tracker.Subscribe, Layout: func() (int, <-chan struct{}) { return store.NewestLayout, nil },
		Where: func() underlay.Underlay { u, _ := tracker.Current(); return u }, Forgotten: func() {},
	})
	return m
}

// run publishes and announces this machine as the host, and answers questions, until stop.
func (m *machine) run() {
	m.t.Helper()
	ctx, cancel := context.WithCancel(m.t.Context())
	m.write()
	done := make(chan struct{}, 2)
	go func() {
		_ = m.deps.Cluster.KV().Announce(ctx, store.AliveKey(sameID), []byte(sameID), aliveTTL)
		done <- struct{}{}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		for index := uint64(0); ctx.Err() == nil; {
			members, next, err := m.deps.Cluster.WatchHosts(ctx, index)
			if err != nil {
				return
			}
			index = next
			if h, ok := members.Hosts[sameID]; ok {
				m.OwnRecord(h)
			}
			select {
			case <-m.seat.changed:
				m.write()
			default:
			}
		}
	}()
	until := func() bool { alive, err := m.deps.Cluster.Alive(ctx); return alive && err == nil }
	if err := testenv.Poll(ctx, time.Millisecond, until); err != nil {
		m.t.Fatal(err)
	}
	m.stop = func() { cancel(); <-done; <-done }
}

func (m *machine) write() {
	m.t.Helper()
	m.seat.say(m.deps.Where().Addr)
	if err := m.deps.Cluster.PutHost(m.t.Context(), store.Host{Name: m.deps.Name, VTEP: m.deps.Where().Addr, Answered: m.seat.answer()}); err != nil {
		m.t.Error(err)
	}
}

type seats struct {
	t  *testing.T
	kv store.KV
	n  int
}

func (w *seats) file() store.KV {
	w.t.Helper()
	w.n++
	kv, err := bolt.Open(filepath.Join(w.t.TempDir(), "db"), bolt.Options{NoSync: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = kv.Close() })
	return kv
}

func newSeats(t *testing.T) *seats {
	w := &seats{t: t}
	w.kv = w.file()
	return w
}

// TestCopiedMachine covers weave#3263 and consul#9467: a machine that was copied with its disk is refused while the first one lives, also
// while that one is restarted; both say why.
func TestCopiedMachine(t *testing.T) {
	w := newSeats(t)
	first, copy := w.machine("192.0.2.1"), w.machine("192.0.2.2")
	if err := first.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.run()
	defer func() { first.stop() }()
	refused := func(what string) {
		t.Helper()
		err := copy.Claim(t.Context())
		if !errors.Is(err, store.ErrSameID) {
			t.Fatalf("%s: %v", what, err)
		}
		for _, text := range []string{"192.0.2.1", "192.0.2.2", sameID, "socketplane clean", "web1"} {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q does not say %q", what, err, text)
			}
		}
	}
	refused("the first one lives")
	if c := first.Copied(); c == nil || c.Addr != "192.0.2.2" {
		t.Errorf("the first one knows of the copy: %+v", c)
	}
	refused("again")
	if c := copy.Copied(); c != nil {
		t.Errorf("the copy takes the first one for a copy: %+v", c)
	}
	first.stop()
	refused("the first one is restarted")
	if err := first.Claim(t.Context()); err != nil {
		t.Fatalf("the first one comes back: %v", err)
	}
	first.run()
	refused("the first one is back")
	// The first one goes for good, and an operator says so.
	first.stop()
	first.stop = func() {}
	if err := store.NewCluster(w.kv, "third").RemoveHost(t.Context(), sameID); err != nil {
		t.Fatal(err)
	}
	if err := copy.Claim(t.Context()); err != nil {
		t.Errorf("the first one is removed: %v", err)
	}
	if e, err := copy.deps.Local.Get(t.Context(), store.LocalCopyKey); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the copy remembers %s, %v", e.Value, err)
	}
}

// TestNoCopy: who comes back, whatever of it is left in the cluster, is no copy.
func TestNoCopy(t *testing.T) {
	left := func(w *seats, vtep string, alive bool) {
		ops := []store.Op{{Kind: store.OpPut, Key: store.HostKey(sameID), Value: store.Encode(store.Host{ID: sameID, Name: "web1", VTEP: netip.MustParseAddr(vtep)})}}
		if alive {
			ops = append(ops, store.Op{Kind: store.OpPut, Key: store.AliveKey(sameID), Value: []byte(sameID)})
		}
		if err := w.kv.Apply(w.t.Context(), ops...); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		left  func(*seats)
		limit time.Duration
	}{
		"new":                      {func(*seats) {}, time.Second},
		"restarted":                {func(w *seats) { left(w, "192.0.2.2", false) }, time.Second},
		"killed":                   {func(w *seats) { left(w, "192.0.2.2", true) }, time.Second},
		"moved":                    {func(w *seats) { left(w, "192.0.2.9", false) }, time.Second},
		"killed and moved at once": {func(w *seats) { left(w, "192.0.2.9", true) }, seatLimit},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSeats(t)
			c.left(w)
			m := w.machine("192.0.2.2")
			began := time.Now()
			if err := m.Claim(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > c.limit {
				t.Errorf("it took %v, at most %v are expected", took, c.limit)
			}
		})
	}
}

// TestSeatWithoutStore: while the store does not answer, the agent runs and publishes nothing under an id that may be another's.
func TestSeatWithoutStore(t *testing.T) {
	w := newSeats(t)
	m := w.machine("192.0.2.1")
	if err := w.kv.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Claim(t.Context()); !errors.Is(err, ErrUnknown) || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the seat is not known to be free: %v", err)
	}
	if err := m.publish(t.Context(), true); !errors.Is(err, ErrUnknown) {
		t.Errorf("published all the same: %v", err)
	}
}

// TestCopyIsFoundLate: a copy that started while the store did not answer publishes nothing before it has asked, and ends once it knows.
func TestCopyIsFoundLate(t *testing.T) {
	w := newSeats(t)
	first, copy := w.machine("192.0.2.1"), w.machine("192.0.2.2")
	if err := first.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.run()
	defer first.stop()
	ended := make(chan error, 1)
	go func() { ended <- copy.Run(t.Context()) }()
	select {
	case err := <-ended:
		if !errors.Is(err, store.ErrSameID) {
			t.Errorf("the copy ended with %v", err)
		}
	case <-time.After(2 * seatLimit):
		t.Fatal("the copy's announcement does not end")
	}
	members, err := first.deps.Cluster.Hosts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at := members.Hosts[sameID].VTEP; at != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("the host's record says %s: the copy has overwritten it", at)
	}
}

// oneAddress is a machine with one address that never changes.
type oneAddress struct{ addr netip.Addr }

func (o oneAddress) Choose(context.Context, netip.Addr, underlay.Underlay) (hostlink.Choice, error) {
	return hostlink.Choice{Underlay: underlay.Underlay{Addr: o.addr}}, nil
}

func (oneAddress) WatchNetwork(context.Context) (<-chan struct{}, error) { return nil, nil }

func fixedUnderlay(t *testing.T, addr string) *underlay.Tracker {
	tracker := underlay.New(oneAddress{netip.MustParseAddr(addr)}, underlay.Options{})
	tracker.Look(t.Context())
	return tracker
}

// TestOwnQuestion: what this machine has asked itself, at its own address, makes no copy of it.
func TestOwnQuestion(t *testing.T) {
	s := newSeat()
	own, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	s.say(own)
	for addr, want := range map[netip.Addr]bool{own: false, other: true} {
		fresh := s.hear(store.Host{Asked: &store.Question{Nonce: addr.String(), Asker: "key", VTEP: addr}})
		if q, is := s.copied(); fresh != want || (is && q.VTEP == addr) != want {
			t.Errorf("a question from %s: %t, %+v", addr, fresh, q)
		}
	}
}
