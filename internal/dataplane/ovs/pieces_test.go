package ovs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// TestLargeChangeComesInPieces: 2,000 endpoints come, move to other hosts and go in bundles of some 512 each, with as many flow-mods as in one,
// and none of an endpoint that moves is missing at any moment.
func TestLargeChangeComesInPieces(t *testing.T) {
	const hosts, each = 20, 100
	h := newHost(t)
	few := crowd(1)
	h.start(few)
	all := crowd(hosts)
	apply := func(name string, mods uint64, c dataplane.Change) {
		t.Helper()
		before := openflow.Totals()
		if err := h.agent.Apply(h.ctx(), c); err != nil {
			t.Fatal(err)
		}
		now := openflow.Totals()
		if sent := now.FlowMods - before.FlowMods; sent != mods {
			t.Errorf("%s: %d flow-mods, want %d", name, sent, mods)
		}
		if bundles := now.Bundles - before.Bundles; bundles > 1+mods/1000 || bundles < mods/2000 {
			t.Errorf("%s: %d bundles", name, bundles)
		}
	}
	come := dataplane.Change{Network: few.ID}
	for _, p := range all.Remote[1:] {
		come.Peers = append(come.Peers, dataplane.PeerChange{Host: p.Host, VTEP: p.VTEP, Set: p.Endpoints})
	}
	apply("they come", 3*each*(hosts-1), come)
	if diff := h.compare(all); diff != "" {
		t.Fatalf("they came:\n%s", diff)
	}

	// All endpoints of a host move to the next one; those of the first are not there any more.
	moved := crowd(hosts)
	move := dataplane.Change{Network: few.ID, Peers: []dataplane.PeerChange{{Host: moved.Remote[0].Host, Gone: true}}}
	m := h.follow()
	for i, p := range all.Remote[1:] {
		moved.Remote[i+1].Endpoints = all.Remote[i].Endpoints
		change := dataplane.PeerChange{Host: p.Host, VTEP: p.VTEP, Set: all.Remote[i].Endpoints}
		for _, e := range p.Endpoints {
			change.Unset = append(change.Unset, e.ID)
		}
		move.Peers = append(move.Peers, change)
	}
	lost := all.Remote[hosts-1].Endpoints
	moved.Remote = moved.Remote[1:]
	apply("they move", 3*each, move) // only the last host's endpoints are gone: which host has one the device knows
	m.mustHaveLostNothingBut(t, func(f string) bool {
		return slices.ContainsFunc(lost, func(e dataplane.PeerEndpoint) bool {
			return strings.Contains(f, e.MAC.String()) || strings.Contains(f, e.Addrs[0].String()+" ") || strings.Contains(f, e.Addrs[0].String()+",")
		})
	})
	if diff := h.compare(moved); diff != "" {
		t.Errorf("they moved:\n%s", diff)
	}
	// And the whole, at once, as SetNetwork has it.
	h.set(few)
	if diff := h.compare(few); diff != "" {
		t.Errorf("they went:\n%s", diff)
	}
}
