package driver_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/store"
)

func mustPrefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

// TestDeleteWhileDataplaneIsDown: what can't be removed now is journalled, survives a restart and is finished by Sync.
func TestDeleteWhileDataplaneIsDown(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart-", restart), func(t *testing.T) {
			w := newWorld(t)
			a := w.host("a").run()
			w.must(a.create("n1", "LocalDefault"))
			a.container("n1", "e1", "10.1.0.7/24")
			a.plane.setDown(errPlane)
			w.must(a.leave("n1", "e1"))
			w.must(a.delete("n1", "e1"))
			if !a.Pending() {
				t.Fatal("nothing is pending")
			}
			w.wants(a.Sync(w.ctx), errPlane)
			if restart {
				a.boot()
				a.run()
			}
			if !a.Pending() {
				t.Fatal("nothing is pending after the restart")
			}
			a.plane.setDown(nil)
			w.must(a.Sync(w.ctx))
			if a.Pending() {
				t.Fatal("something is pending")
			}
			w.wantClaims(shared)
			a.container("n1", "e2", "10.1.0.7/24") // free again
			a.plane.setDown(errPlane)
			w.must(a.remove("n1"))
			a.plane.setDown(nil)
			w.must(a.Sync(w.ctx))
			w.clean(a)
		})
	}
}

// TestUsed: a network that Docker has removed needs nothing on this host, though the cluster could not be told.
func TestUsed(t *testing.T) {
	w := newWorld(t)
	a := w.host("a").run()
	used := func(want bool) {
		t.Helper()
		if got, err := driver.Used(w.ctx, a.local.KV); got != want || err != nil {
			t.Fatalf("used is %t, %v, want %t", got, err, want)
		}
	}
	used(false)
	w.must(a.create("n1", "LocalDefault"))
	a.container("n1", "e1", "10.1.0.7/24")
	used(true)
	w.must(a.leave("n1", "e1"))
	w.must(a.delete("n1", "e1"))
	used(true)
	a.shared.set(true)
	w.must(a.remove("n1"))
	if !a.Pending() {
		t.Fatal("nothing is pending")
	}
	used(false)
	a.shared.set(false)
	w.must(a.Sync(w.ctx))
	w.clean(a)
	used(false)
}

// TestFailurePoints: each call fails at each of its writes to either store, with and without the agent's death
// after it; then Docker goes on. At the end nothing is left, and no two endpoints ever shared a port.
func TestFailurePoints(t *testing.T) {
	const e1, e2 = "10.1.0.7/24", "10.1.0.8/24"
	calls := []struct {
		name string
		do   func(h *host) error
	}{
		{"create-network", func(h *host) error { return h.create("n1", "LocalDefault") }},
		{"create-endpoint", func(h *host) error { _, err := h.endpoint("n1", "e1", e1, ""); return err }},
		{"join", func(h *host) error { _, err := h.join("n1", "e1"); return err }},
		{"leave", func(h *host) error { return h.leave("n1", "e1") }},
		{"delete-endpoint", func(h *host) error { return h.delete("n1", "e1") }},
		{"another", func(h *host) error { _, err := h.endpoint("n1", "e2", e2, ""); return err }},
		{"remove-network", func(h *host) error { return h.remove("n1") }},
	}
	for at, broken := range calls {
		for point := range 2 * 2 * 7 {
			local, dies, writes := point&1 == 0, point&2 == 0, point>>2
			name := fmt.Sprintf("%s-local=%t-dies=%t-after=%d", broken.name, local, dies, writes)
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				h := w.host("a")
				faulty := h.shared
				if local {
					faulty = h.local
				}
				for i, call := range calls {
					if i == at {
						faulty.failAfter(writes)
					}
					err := call.do(h)
					if i != at {
						w.must(err)
						portsApart(t, h.plane)
						continue
					}
					if dies {
						h.boot()
					}
					faulty.set(false)
					if err != nil { // the user tries again
						w.must(h.Sync(w.ctx))
						w.must(h.ipam.Sync(w.ctx))
						w.must(call.do(h))
					}
				}
				w.must(h.Sync(w.ctx))
				w.must(h.ipam.Sync(w.ctx))
				w.clean(h)
			})
		}
	}
}

func portsApart(t *testing.T, p *plane) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.networks {
		seen := map[uint32]string{}
		for _, e := range n.Local {
			if other, dup := seen[e.Port]; dup {
				t.Errorf("%s and %s share port %d", e.ID, other, e.Port)
			}
			seen[e.Port] = e.ID
		}
	}
}

// TestDeleteWhileStoreIsDown: Docker is answered, and Sync tells the cluster later.
func TestDeleteWhileStoreIsDown(t *testing.T) {
	w := newWorld(t)
	a := w.host("a").run()
	w.must(a.create("n1", "LocalDefault"))
	a.container("n1", "e1", "10.1.0.7/24")
	a.shared.set(true)
	w.must(a.leave("n1", "e1"))
	w.must(a.delete("n1", "e1"))
	w.must(a.remove("n1"))
	if a.plane.count() != 0 {
		t.Fatalf("still forwarded: %s", a.plane)
	}
	a.boot()
	a.run()
	a.shared.set(false)
	w.must(a.Sync(w.ctx))
	w.must(a.ipam.Sync(w.ctx))
	w.clean(a)
}

// TestTwoHosts: hosts see each other's endpoints and VTEPs, keep the last known through an
// outage and a restart, and forget when the other's are gone.
func TestTwoHosts(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a").run(), w.host("b").run()
	w.must(a.cluster.PutHost(w.ctx, store.Host{Name: "a", VTEP: netip.MustParseAddr("192.0.2.1")}))
	w.must(a.create("na", "LocalDefault"))
	w.must(b.create("nb", "LocalDefault"))
	a.container("na", "ea", "10.1.0.7/24")
	b.container("nb", "eb", "10.1.0.8/24")
	sees := func(h *host, what string) {
		t.Helper()
		w.eventually("sees "+what, func() bool { return strings.Contains(h.plane.String(), what) })
	}
	blind := func(h *host, what string) {
		t.Helper()
		w.eventually("does not see "+what, func() bool { return !strings.Contains(h.plane.String(), what) })
	}
	sees(b, "[10.1.0.7] at 192.0.2.1")
	blind(a, "10.1.0.8") // b's VTEP is not known yet
	w.must(b.cluster.PutHost(w.ctx, store.Host{Name: "b", VTEP: netip.MustParseAddr("192.0.2.2")}))
	sees(a, "[10.1.0.8] at 192.0.2.2")
	w.must(b.cluster.PutHost(w.ctx, store.Host{Name: "b", VTEP: netip.MustParseAddr("192.0.2.3")}))
	sees(a, "[10.1.0.8] at 192.0.2.3")

	w.eventually("the host's own copy has the VTEP", func() bool { // it follows the data plane
		e, err := a.local.Get(w.ctx, store.LocalHostsKey("b"))
		return err == nil && strings.Contains(string(e.Value), "192.0.2.3")
	})

	// An outage, and a restart during it: the last known stays.
	before := a.plane.String()
	a.shared.set(true)
	b.container("nb", "eb2", "10.1.0.9/24")
	a.boot()
	a.run()
	if got := a.plane.String(); got != before {
		t.Fatalf("after a restart without the store:\n%s\nwant\n%s", got, before)
	}
	a.shared.set(false)
	sees(a, "[10.1.0.9] at 192.0.2.3")
	sees(b, "[10.1.0.7] at 192.0.2.1")

	w.must(b.leave("nb", "eb"))
	blind(a, "10.1.0.8")
	w.must(b.leave("nb", "eb2"))
	blind(a, "192.0.2.3")
	for _, h := range []*host{a, b} {
		for _, e := range []string{"ea", "eb", "eb2"} {
			w.must(h.delete("n"+e[1:2], e))
		}
	}
	w.must(a.remove("na"))
	w.must(b.remove("nb"))
	w.clean(a, b)
}

// TestNetworksDoNotBlockEachOther: while the data plane hangs on one network, the others go on.
func TestNetworksDoNotBlockEachOther(t *testing.T) {
	w := newWorld(t)
	a := w.host("a").run()
	w.must(a.create("n1", "LocalDefault"))
	other := &netRequest{id: "n2", pool: "10.2.0.0/24"}
	w.must(a.CreateNetwork(w.ctx, other.request()))
	a.container("n1", "e1", "10.1.0.7/24")
	release := make(chan struct{})
	a.plane.mu.Lock()
	for id, n := range a.plane.networks {
		if len(n.Local) > 0 {
			a.plane.block[id] = release
		}
	}
	a.plane.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- a.leave("n1", "e1") }()
	for i := range 3 {
		e := fmt.Sprint("f", i)
		a.container("n2", e, fmt.Sprintf("10.2.0.%d/24", 10+i))
		w.must(a.leave("n2", e))
		w.must(a.delete("n2", e))
	}
	w.must(a.remove("n2"))
	close(release)
	w.must(<-done)
	w.must(a.delete("n1", "e1"))
	w.must(a.remove("n1"))
	w.clean(a)
}

// TestChurn: containers, networks, Sync and both hosts' watches at once; nothing is left at the end.
func TestChurn(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	var hosts []*host
	for i, name := range []string{"a", "b"} {
		h := w.host(name).run()
		hosts = append(hosts, h)
		w.must(h.cluster.PutHost(w.ctx, store.Host{Name: name, VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}))
		for worker := range 3 {
			wg.Go(func() {
				for round := range 6 {
					id := fmt.Sprintf("n%s%d-%d", name, worker, round)
					r := &netRequest{id: id, pool: fmt.Sprintf("10.9.%d.0/24", worker)}
					if err := h.CreateNetwork(w.ctx, r.request()); err != nil {
						w.Error(err)
						return
					}
					for k := range 2 {
						e, addr := fmt.Sprint(id, "e", k), fmt.Sprintf("10.9.%d.%d/24", worker, 10+20*i+k)
						_, err := h.endpoint(id, e, addr, "")
						if err == nil {
							_, err = h.join(id, e)
						}
						if err != nil {
							w.Error(err)
							return
						}
					}
					_ = h.Networks()
					if err := h.delete(id, fmt.Sprint(id, "e0")); err != nil {
						w.Error(err)
					}
					if err := h.remove(id); err != nil { // with an endpoint left
						w.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			for range 10 {
				if err := h.Sync(w.ctx); err != nil {
					w.Error(err)
				}
				_ = h.Pending()
			}
		})
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(patience):
		t.Fatal("deadlock")
	}
	for _, h := range hosts {
		w.must(h.Sync(w.ctx))
		w.must(h.ipam.Sync(w.ctx))
	}
	w.clean(hosts...)
}
