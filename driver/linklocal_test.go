package driver_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// TestLinkLocal covers docker/compose#3757: --link-local-ip addresses, of which Docker tells no driver, work on all hosts once the agent has found
// them. Of two containers with the same one, one has it, the same on all hosts, and the other one's host knows.
func TestLinkLocal(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	for h, vtep := range map[*host]string{a: "192.0.2.1", b: "192.0.2.2"} {
		w.must(h.cluster.PutHost(w.ctx, store.Host{Name: h.cluster.Host(), VTEP: netip.MustParseAddr(vtep)}))
		w.must(h.create("n"+h.cluster.Host(), "LocalDefault"))
		h.run()
	}
	a.container("na", "e1", "10.1.0.7/24")
	b.container("nb", "e2", "10.1.0.8/24")
	describe := func(h *host, network, endpoint, name string, addrs ...string) {
		t.Helper()
		c := store.Container{ID: name, Name: name}
		for _, text := range addrs {
			c.LinkLocal = append(c.LinkLocal, netip.MustParseAddr(text))
		}
		w.must(h.Describe(w.ctx, network, endpoint, c))
	}
	describe(a, "na", "e1", "c1", "169.254.7.7", "fe80::77", "10.9.9.9") // the last one is none
	sees := func(h *host, what string, yes bool) {
		t.Helper()
		w.eventually(what, func() bool { return strings.Contains(h.plane.String(), what) == yes })
	}
	sees(a, "[10.1.0.7 169.254.7.7 fe80::77] attached=true", true)
	sees(b, "[10.1.0.7 169.254.7.7 fe80::77] at 192.0.2.1", true)
	if all := append(a.Duplicates(), b.Duplicates()...); len(all) > 0 {
		t.Errorf("duplicates %+v", all)
	}
	describe(b, "nb", "e2", "c2", "169.254.7.7", "169.254.8.8")
	sees(b, "[10.1.0.8 169.254.8.8] attached=true", true)
	sees(a, "[10.1.0.8 169.254.8.8] at 192.0.2.2", true)
	sees(a, "[10.1.0.7 169.254.7.7 fe80::77] attached=true", true)
	if all := b.Duplicates(); len(all) != 1 || all[0].Container != "c2" || all[0].Owner != "container c1 of host a" || all[0].Addr.String() != "169.254.7.7" {
		t.Errorf("duplicates of b: %+v", all)
	}
	if all := a.Duplicates(); len(all) > 0 {
		t.Errorf("duplicates of a, which has the address: %+v", all)
	}
	// A restart forgets nothing, and what goes makes room.
	b.boot()
	sees(b, "[10.1.0.8 169.254.8.8] attached=true", true)
	b.run()
	w.must(a.leave("na", "e1"))
	w.must(a.delete("na", "e1"))
	sees(b, "[10.1.0.8 169.254.7.7 169.254.8.8] attached=true", true)
}
