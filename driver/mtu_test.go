package driver_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// mtus lists the MTU of the network, and of each endpoint, as the data plane is to have them.
func (p *plane) mtus() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, n := range p.networks {
		line := fmt.Sprint(n.MTU, ":")
		for _, e := range n.Local {
			line += fmt.Sprint(" ", e.MTU)
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestMTUIsWhatEveryHostCarries: new containers get what the least host can carry, also after that has changed, and those that
// run keep what they have.
func TestMTUIsWhatEveryHostCarries(t *testing.T) {
	w := newWorld(t)
	b, c := w.host("b"), w.host("c")
	tell := func(h *host, vtep string, mtu int) {
		w.must(h.cluster.PutHost(w.ctx, store.Host{Name: h.cluster.Host(), VTEP: netip.MustParseAddr(vtep), MTU: mtu}))
	}
	tell(b, "192.0.2.2", 1500)
	tell(c, "192.0.2.3", 0) // an older agent
	a := w.host("a")
	a.plane.mtu = 8950
	a.run()
	w.must(a.create("na", "LocalDefault"))
	a.container("na", "e1", "10.1.0.7/24")
	is := func(want string) {
		t.Helper()
		w.eventually("the MTUs are "+want, func() bool { return a.plane.mtus() == want })
	}
	is("1450: 1450")
	tell(c, "2001:db8::3", 1400)
	is("1330: 1450")
	a.container("na", "e2", "10.1.0.8/24")
	is("1330: 1450 1330")
	tell(c, "192.0.2.3", 9000)
	is("1450: 1450 1330")
	a.plane.mu.Lock()
	a.plane.mtu = 1350 // this host's own
	a.plane.mu.Unlock()
	a.Refit(w.ctx)
	is("1350: 1450 1330")
	w.eventually("the other hosts are told", func() bool {
		all, err := a.cluster.Networks(w.ctx)
		w.must(err)
		e, err := a.cluster.Endpoints(w.ctx, all[0].ID, "a")
		w.must(err)
		return len(e.Endpoints) == 2 && e.Endpoints[0].MTU == 1450 && e.Endpoints[1].MTU == 1330
	})
	// Without the cluster's store the last known hosts count: those that the host's own store has.
	w.eventually("the other host's MTU is in the host's own store", func() bool {
		e, err := a.local.Get(w.ctx, store.LocalHostsKey("c"))
		if err != nil {
			return false
		}
		h, err := store.Decode[store.Host](e)
		return err == nil && h.MTU == 9000
	})
	a.stop()
	a.shared.set(true)
	a.boot()
	a.plane.mtu = 8950
	if got := a.MTU(); got != 1450 {
		t.Errorf("after a restart without the store the MTU is %d", got)
	}
}

// TestOwnMTUStays: the MTU that a network was created with is nobody's to change.
func TestOwnMTUStays(t *testing.T) {
	w := newWorld(t)
	b := w.host("b")
	w.must(b.cluster.PutHost(w.ctx, store.Host{Name: "b", VTEP: netip.MustParseAddr("192.0.2.2"), MTU: 1300}))
	a := w.host("a").run()
	w.must(a.create("na", "LocalDefault", "mtu", "1400"))
	a.container("na", "e1", "10.1.0.7/24")
	w.eventually("the MTU is its own", func() bool { return a.plane.mtus() == "1400: 1400" })
}
