package ovs_test

import (
	"maps"
	"net/netip"
	"regexp"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// TestRestartTakesOverFlows: an agent that starts again sends what differs from what the switch has, after one dump. Only when that is very much it gives
// all flows again, under a new generation. No flow that stays wanted is missing at any moment.
func TestRestartTakesOverFlows(t *testing.T) {
	const hosts = 60 // with more flows than are taken for a small difference
	n, other, moved := crowd(hosts), crowd(hosts), crowd(hosts)
	other.ID, other.VNI, other.Local = "network-b", 101, []dataplane.Endpoint{other.Local[0]}
	other.Local[0].ID, other.Local[0].Port, other.Local[0].HostLink = "b0", 900, "sphb0"
	moved.Remote[5].VTEP = netip.AddrFrom4([4]byte{127, 1, 99, 99})
	h := newHost(t)
	h.start(n, other)
	for _, c := range []struct {
		name       string
		meanwhile  func()
		want       []dataplane.Network
		least      uint64 // flow-mods
		most       uint64
		generation string
		undone     string // matches flows that are not to stay
	}{
		{"nothing", func() {}, []dataplane.Network{n, other}, 0, 0, "1", "none"},
		{"a flow went", func() { h.ovs.Ofctl("--strict", "del-flows", bridge, "table=50,priority=0") },
			[]dataplane.Network{n, other}, 1, 1, "1", "none"},
		{"flows of an older generation were left", func() {
			h.ovs.Ofctl("add-flow", bridge, "cookie=0x5350000000000000,table=10,priority=7,ip,actions=drop")
			h.ovs.Ofctl("add-flow", bridge, "cookie=0x5350000000000000,table=50,priority=0,actions=goto_table:60")
		}, []dataplane.Network{n, other}, 2, 2, "1", "table=10, priority=7,"},
		{"a host moved", func() {}, []dataplane.Network{moved, other}, 0, 100, "1", "none"},
		{"a large network went", func() {}, []dataplane.Network{moved}, 300 * hosts, 350 * hosts, "2", "0x65\\b|in_port=900"},
	} {
		h.agent.stop()
		c.meanwhile()
		m := h.follow()
		maps.DeleteFunc(m.have, func(_ string, f openflow.Flow) bool { return regexp.MustCompile(c.undone).MatchString(f.String()) })
		before := openflow.Totals()
		h.start(c.want...)
		now := openflow.Totals()
		if mods := now.FlowMods - before.FlowMods; mods < c.least || mods > c.most {
			t.Errorf("%s: %d flow-mods, want %d to %d", c.name, mods, c.least, c.most)
		}
		if dumps := now.Dumps - before.Dumps; dumps > 1 {
			t.Errorf("%s: %d dumps", c.name, dumps)
		}
		m.mustHaveLostNothing(t)
		_ = m.conn.Close()
		if g := h.generations(); len(g) != 1 || g[0] != "cookie=0x535000000000000"+c.generation {
			t.Errorf("%s: generations %v", c.name, g)
		}
		if got, want := len(h.flows()), h.agent.Status().Flows; got != want {
			t.Errorf("%s: the switch has %d flows of %d", c.name, got, want)
		}
	}
}
