package ovs_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// crowd is a network with endpoints on so many other hosts, 100 each, and 20 here that have joined.
func crowd(hosts int) dataplane.Network {
	n := dataplane.Network{ID: "network-a", VNI: 100, MTU: 1450}
	for i := range 20 {
		id := fmt.Sprintf("l%d", i)
		n.Local = append(n.Local, dataplane.Endpoint{
			ID: id, Port: uint32(i + 1), Attached: true, MAC: dataplane.MAC{2, 1, 0, 0, 0, byte(i)},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}, HostLink: "sph" + id, PeerLink: "spp" + id,
		})
	}
	for i := range hosts {
		hi, lo := byte(i>>8), byte(i)
		p := dataplane.Peer{Host: fmt.Sprintf("h%03d", i), VTEP: netip.AddrFrom4([4]byte{127, 1, hi, lo})}
		for j := range 100 {
			p.Endpoints = append(p.Endpoints, dataplane.PeerEndpoint{
				ID: fmt.Sprintf("%s-%d", p.Host, j), MAC: dataplane.MAC{2, 2, 0, hi, lo, byte(j)},
				Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 1 + hi, lo, byte(j + 1)})},
			})
		}
		n.Remote = append(n.Remote, p)
	}
	return n
}

// cost is what a change costs outside of the agent.
type cost struct {
	flows openflow.Counts
	db    ovsctl.Counts
	links hostlink.Counts
}

func (h *host) costs() cost {
	return cost{openflow.Totals(), h.agent.sw.Counts(), h.links.Counts()}
}

// told is the part of a cost that must not depend on the size of the network.
func (c cost) told(since cost) string {
	return fmt.Sprintf("%d flow-mods, %d flow dumps, %d transactions, %d netlink dumps, %d forwarding entries",
		c.flows.FlowMods-since.flows.FlowMods, c.flows.Dumps-since.flows.Dumps, c.db.Transactions-since.db.Transactions,
		c.links.Dumps-since.links.Dumps, c.links.Entries-since.links.Entries)
}

// TestWhatChangesIsWhatItCosts: an endpoint elsewhere that comes and goes, and a Join and a Leave here, cost the same in a network of 10
// other hosts and of 500, each with 100 endpoints.
func TestWhatChangesIsWhatItCosts(t *testing.T) {
	costs := map[int]string{}
	for _, hosts := range []int{10, 500} {
		h := newHost(t)
		h.start(crowd(hosts))
		eventually(t, "what the first pass did has been looked at", func() error {
			if h.agent.Status().Passes < 2 {
				return errors.New("not yet")
			}
			return nil
		})
		for _, c := range []struct {
			name string
			do   func() error
		}{
			{"an endpoint elsewhere comes", func() error { return h.agent.Apply(h.ctx(), elsewhere()) }},
			{"it goes", func() error {
				c := elsewhere()
				c.Peers[0].Set, c.Peers[0].Unset = nil, []string{"new"}
				return h.agent.Apply(h.ctx(), c)
			}},
			{"one here joins", func() error { return h.agent.Plane.Attach(h.ctx(), joined(), "join") }},
			{"it leaves and is removed", func() error {
				return h.agent.Apply(h.ctx(), dataplane.Change{Network: "network-a", LocalGone: []string{"join"}})
			}},
		} {
			before := h.costs()
			if err := c.do(); err != nil {
				t.Fatal(err)
			}
			costs[hosts] += c.name + ": " + h.costs().told(before) + "\n"
		}
		h.agent.stop()
	}
	t.Logf("\n%s", costs[10])
	if costs[10] != costs[500] {
		t.Errorf("with 10 hosts:\n%swith 500 hosts:\n%s", costs[10], costs[500])
	}
}

func elsewhere() dataplane.Change {
	return dataplane.Change{Network: "network-a", Peers: []dataplane.PeerChange{{
		Host: "h003", VTEP: netip.AddrFrom4([4]byte{127, 1, 0, 3}),
		Set: []dataplane.PeerEndpoint{{ID: "new", MAC: dataplane.MAC{2, 3}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 200, 0, 1})}}},
	}}}
}

func joined() dataplane.Change {
	e := local("a", 150)
	e.ID, e.Port = "join", 300
	return dataplane.Change{Network: "network-a", Local: []dataplane.Endpoint{e}}
}
