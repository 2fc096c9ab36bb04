package pipeline_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// TestLargeFlood floods to 5,000 local ports and 500 other hosts of both address families, which the real switch takes and carries out,
// and to one more by a single change. In user space Open vSwitch itself ends at some 700 hosts (docs/design/0002-pipeline.md).
func TestLargeFlood(t *testing.T) {
	const outputs, others = 5000, 500
	n := pipeline.Crowd(outputs, others)
	for i := range n.Local {
		n.Local[i].Addrs = nil // flows by which nothing is flooded
	}
	for i := range n.Remote {
		n.Remote[i].Endpoints[0].Addrs = nil
	}
	// Ports in three chunks have links.
	small := dataplane.Network{VNI: n.VNI, Local: []dataplane.Endpoint{n.Local[0], n.Local[1], n.Local[outputs-1]}}
	from, here, last := small.Local[0].Port, small.Local[1].Port, small.Local[2].Port
	cfg := pipeline.Config{Tunnel: dataplane.TunnelOVS}
	b := newBench(t, cfg, small)
	// The other hosts are behind one router for each family.
	b.underlay(ip("192.0.2.2"), ip("2001:db8::3"))
	b.sw.NSExec("ip", "route", "add", "198.18.0.0/15", "via", "192.0.2.2", "dev", "und")
	b.sw.NSExec("ip", "-6", "route", "add", "2001:db8:1::/48", "via", "2001:db8::3", "dev", "und")
	install(t, b.sw.Mgmt("br0"), append(pipeline.Base(cfg), pipeline.Network(cfg, n, 0)...))
	und := b.wires[portUnderlay]
	if err := unix.SetsockoptInt(und.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
		t.Fatal(err)
	}

	flood := func(text string) map[netip.Addr]int {
		t.Helper()
		b.seq++
		frame := ether(broadcast, n.Local[0].MAC, 0x88b6, []byte(text))
		b.wires[from].send(frame)
		b.mark(0, from)
		for _, port := range []uint32{here, last} {
			if got := b.until(b.wires[port], from); len(got) != 1 || string(got[0]) != string(frame) {
				t.Errorf("port %d got %x", port, got)
			}
		}
		hosts := map[netip.Addr]int{}
		for _, f := range b.until(und, from) {
			if o, ok := decapsulate(f); ok && o.inner == string(frame) && o.vni == n.VNI {
				hosts[o.dst]++
			}
		}
		return hosts
	}
	want := map[netip.Addr]int{}
	var state pipeline.Flood
	for i := range outputs {
		state.AddPort(n.Local[i].Port)
	}
	for i := range others {
		want[pipeline.CrowdHost(i)] = 1
		state.AddHost(pipeline.CrowdHost(i))
	}
	if got := flood("all"); !maps.Equal(got, want) {
		t.Errorf("%d hosts of %d are reached", len(got), len(want))
	}

	state.Flows(cfg, pipeline.Segment{VNI: n.VNI}) // the switch has them
	more := pipeline.CrowdHost(others)
	state.AddHost(more)
	c, err := openflow.Dial(t.Context(), b.sw.Mgmt("br0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	change := state.Changes(cfg, pipeline.Segment{VNI: n.VNI})
	if len(change.Add) != 1 || len(change.Delete) != 0 {
		t.Errorf("one host more costs %d flow-mods", len(change.Add)+len(change.Delete))
	}
	if err := c.Apply(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	b.sw.Appctl("revalidator/wait") // cache entries follow the flows
	want[more] = 1
	if got := flood("one more"); !maps.Equal(got, want) {
		t.Errorf("%d hosts of %d are reached: %t", len(got), len(want), slices.Contains(slices.Collect(maps.Keys(got)), more))
	}
}

// TestFlowsOfAnEndpointAreFewAllocations: a comparison of all flows computes those of each endpoint elsewhere, and their content.
func TestFlowsOfAnEndpointAreFewAllocations(t *testing.T) {
	e := dataplane.PeerEndpoint{ID: "x", MAC: dataplane.MAC{2, 1, 2, 3, 4, 5}, Addrs: []netip.Addr{netip.MustParseAddr("10.1.2.3")}}
	vtep := netip.MustParseAddr("192.0.2.3")
	cfg, segment := pipeline.Config{Tunnel: dataplane.TunnelKernel, NDExtensions: true}, pipeline.Segment{VNI: 77, Device: 60000}
	got := testing.AllocsPerRun(100, func() {
		var room [256]byte
		for _, f := range pipeline.RemoteFlows(cfg, segment, vtep, e, pipeline.WinsAll) {
			_, _ = f.AppendContent(room[:0])
		}
	})
	if got > 12 {
		t.Errorf("%v allocations, 12 are right", got)
	}
}
