package ovs_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/retry"
)

// filled is a host that forwards networks with so many endpoints here each, whose ports are there.
func filled(t *testing.T, networks, each int) *host {
	t.Helper()
	h := newHost(t)
	var all []dataplane.Network
	for i := range networks {
		n := wide(fmt.Sprintf("n%02d", i), 100+uint32(i), each, 0)
		for j, e := range n.Local {
			n.Local[j].Port = uint32(i*each + j + 1)
			veth := hostlink.Veth{Host: e.HostLink, Peer: e.PeerLink, PeerMAC: e.MAC, MTU: n.MTU, Alias: hostlink.OwnerPrefix + "endpoint:" + e.ID, TXChecksum: true}
			if err := h.links.EnsureVeth(h.ctx(), veth); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, n)
	}
	h.begin(all...)
	eventually(t, "all ports", func() error {
		got := 0
		for _, p := range h.agent.sw.Ports() {
			if p.OFPortActual == int(p.OFPort) {
				got++
			}
		}
		if want := networks * (each + 1); got != want || h.agent.Ready() != nil { // with a tunnel for each network
			return fmt.Errorf("%d of %d ports", got, want)
		}
		return nil
	})
	eventually(t, "what the first pass did has been looked at", func() error {
		if h.agent.Status().Passes < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	return h
}

// TestAJoinCostsItsOwn: a container that starts and one that stops, on a network that is here and on a new one, cost no more on a host with many
// endpoints or networks than on one with few, counted in what Open vSwitch and the kernel are asked for.
func TestAJoinCostsItsOwn(t *testing.T) {
	few := map[string]map[string]uint64{} // by step and what is counted
	for _, c := range []struct {
		name           string
		networks, each int
	}{{"few", 2, 5}, {"many endpoints", 2, 100}, {"many networks", 40, 5}} {
		h := filled(t, c.networks, c.each)
		e := wide("n00", 100, 999, 0).Local[998]
		e.Port = 5000
		other := wide("new", 250, 1, 0)
		other.Local[0].Port = 5001
		for _, step := range []struct {
			name string
			do   func() error
		}{
			{"one joins", func() error {
				return h.agent.Plane.Attach(h.ctx(), dataplane.Change{Network: "n00", Local: []dataplane.Endpoint{e}}, e.ID)
			}},
			{"it goes", func() error {
				return h.agent.Apply(h.ctx(), dataplane.Change{Network: "n00", LocalGone: []string{e.ID}})
			}},
			{"one joins a new network", func() error {
				first := other.Local[0]
				first.Attached = false
				if err := h.agent.SetNetwork(h.ctx(), dataplane.Network{ID: other.ID, VNI: other.VNI, MTU: other.MTU, Local: []dataplane.Endpoint{first}}); err != nil {
					return err
				}
				return h.agent.Plane.Attach(h.ctx(), dataplane.Change{Network: other.ID, Local: other.Local}, first.ID)
			}},
			{"the network goes", func() error { return h.agent.RemoveNetwork(h.ctx(), other.ID) }},
		} {
			before := h.costs()
			if err := step.do(); err != nil {
				t.Fatalf("%s, %s: %v", c.name, step.name, err)
			}
			now := h.costs()
			cost := map[string]uint64{
				"flow-mods": now.flows.FlowMods - before.flows.FlowMods, "flow dumps": now.flows.Dumps - before.flows.Dumps,
				"transactions": now.db.Transactions - before.db.Transactions, "operations": now.db.Operations - before.db.Operations,
				"lists of the kernel": now.links.Dumps - before.links.Dumps, "links read": now.links.Read - before.links.Read,
				"forwarding entries": now.links.Entries - before.links.Entries, "requests for links": now.links.Requests - before.links.Requests,
			}
			t.Logf("%s: %s: %v", c.name, step.name, cost)
			if few[step.name] == nil {
				few[step.name] = cost
			}
			for what, n := range cost {
				if most := few[step.name][what]; n > most {
					t.Errorf("%s: %s: %d %s, with few %d", c.name, step.name, n, what, most)
				}
			}
		}
		h.agent.stop()
	}
}

// TestRemovalsCauseNoPass: events of the kernel and of the database about links and ports that the plane itself has removed cause no pass, before, between and after the removals:
// the pause before each removal varies that, and nothing waits for it.
func TestRemovalsCauseNoPass(t *testing.T) {
	h := filled(t, 2, 5)
	before, began := h.agent.Status().Passes, time.Now()
	for i := range 24 {
		n := wide(fmt.Sprintf("new%02d", i), 300+uint32(i), 1, 0)
		n.Local[0].Port = 5001
		first := n.Local[0]
		first.Attached = false
		if err := h.agent.SetNetwork(h.ctx(), dataplane.Network{ID: n.ID, VNI: n.VNI, MTU: n.MTU, Local: []dataplane.Endpoint{first}}); err != nil {
			t.Fatal(err)
		}
		if err := h.agent.Plane.Attach(h.ctx(), dataplane.Change{Network: n.ID, Local: n.Local}, first.ID); err != nil {
			t.Fatal(err)
		}
		// News are taken some tens of milliseconds after they came: before, between and after the removals.
		retry.Sleep(h.ctx(), time.Duration(i%8)*10*time.Millisecond)
		if err := h.agent.RemoveNetwork(h.ctx(), n.ID); err != nil {
			t.Fatal(err)
		}
	}
	byClock := 1 + uint64(time.Since(began)/resync) // the whole is looked at by the clock, too
	if got := h.agent.Status().Passes - before; got > byClock {
		t.Errorf("%d passes for 24 networks that came and went", got)
	}
}
