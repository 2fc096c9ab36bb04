package ovs_test

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
)

// TestUnreachedHostsAreTold: with tunnels of Open vSwitch in user space a broadcast reaches 700 hosts. Of more, Status says how many it does not reach.
func TestUnreachedHostsAreTold(t *testing.T) {
	h := newHost(t)
	h.ovs.AddBridge("und", "fail_mode=standalone")
	h.bridgeAddress(1)
	h.opts.Underlay = hostlink.Underlay{Addr: netip.MustParseAddr("192.0.2.1"), Dev: "und", MTU: 1500}
	n := crowd(750)
	for i := range n.Remote {
		n.Remote[i].Endpoints = n.Remote[i].Endpoints[:1]
	}
	h.start(n)
	told := func(want map[string]int) {
		t.Helper()
		s := h.agent.Status()
		if s.Tunnel != dataplane.TunnelOVS || s.Err != nil || !maps.Equal(s.Unreached, want) {
			t.Errorf("status %+v, want %v", s, want)
		}
	}
	told(map[string]int{n.ID: 50})
	c := dataplane.Change{Network: n.ID}
	for _, p := range n.Remote[:50] {
		c.Peers = append(c.Peers, dataplane.PeerChange{Host: p.Host, Gone: true})
	}
	if err := h.agent.Apply(h.ctx(), c); err != nil {
		t.Fatal(err)
	}
	told(nil)
}
