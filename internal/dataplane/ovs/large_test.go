package ovs_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
)

// TestSwitchRestartsWithManyEndpoints: traffic on a host with 1,000 endpoints comes back by itself after a restarted ovs-vswitchd has its
// socket again; it measures how long that takes (docs/design/0012-restarts.md).
func TestSwitchRestartsWithManyEndpoints(t *testing.T) {
	if testing.Short() {
		t.Skip("hundreds of links take a while")
	}
	const each = 250
	h := newHost(t)
	var networks []dataplane.Network
	for i := range uint32(4) {
		networks = append(networks, wide(fmt.Sprintf("n%d", i), 100+i, each, 0))
	}
	for _, n := range networks {
		for _, e := range n.Local {
			veth := hostlink.Veth{Host: e.HostLink, Peer: e.PeerLink, PeerMAC: e.MAC, MTU: n.MTU, Alias: hostlink.OwnerPrefix + "endpoint:" + e.ID, TXChecksum: true}
			if err := h.links.EnsureVeth(h.ctx(), veth); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.begin(networks...)
	n := networks[0]
	a := h.wideContainer(n.Local[0])
	h.wideContainer(n.Local[each-1])
	to := n.Local[each-1].Addrs[0].String()
	within := func(what string, is func() error) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for err := is(); err != nil; err = is() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v; the agent says %v, %+v", what, err, h.agent.Ready(), h.agent.Status())
			}
		}
	}
	within("the containers talk", func() error { return reaches(a, to, "-W", "0.3") })
	for range 2 {
		h.ovs.StopVswitchd()
		if reaches(a, to) == nil {
			t.Fatal("they talk without a switch")
		}
		began := time.Now()
		socket := make(chan time.Time, 1)
		go func() {
			for {
				if _, err := h.dump(); err == nil {
					socket <- time.Now()
					return
				}
				if time.Since(began) > 2*time.Minute {
					socket <- time.Time{}
					return
				}
			}
		}()
		h.ovs.StartVswitchd()
		there := <-socket
		within("the containers talk again", func() error { return reaches(a, to, "-W", "0.1") })
		t.Logf("%d endpoints: the switch had its socket %v after its start, and traffic %v after that", 4*each,
			there.Sub(began).Round(time.Millisecond), time.Since(there).Round(time.Millisecond))
		if took := time.Since(there); took > 30*time.Second {
			t.Errorf("traffic was back %v after the switch's socket", took)
		}
	}
	// Each port is served under its number again.
	eventually(t, "all ports", func() error {
		if got, want := len(h.agent.sw.Ports()), 4*each+4; got != want { // with a tunnel for each network
			return fmt.Errorf("%d of %d ports", got, want)
		}
		for _, p := range h.agent.sw.Ports() {
			if p.OFPortActual != int(p.OFPort) {
				return fmt.Errorf("port %s has number %d, not %d", p.Name, p.OFPortActual, p.OFPort)
			}
		}
		return nil
	})
}

// wideContainer moves an endpoint's link into a namespace of its own.
func (h *host) wideContainer(e dataplane.Endpoint) string {
	h.t.Helper()
	container := newSpace(h.t)
	h.ip("link", "set", e.PeerLink, "netns", container, "name", "eth0")
	four := slices.IndexFunc(e.Addrs, netip.Addr.Is4)
	run(h.t, "ip", "-n", container, "addr", "add", e.Addrs[four].String()+"/16", "dev", "eth0")
	run(h.t, "ip", "-n", container, "link", "set", "eth0", "up")
	return container
}
