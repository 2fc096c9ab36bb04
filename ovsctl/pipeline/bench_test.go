package pipeline_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/ovs"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// patience bounds every wait for a frame; a frame takes a millisecond.
const patience = 10 * time.Second

// etherMark is an ethertype for experiments (IEEE 802): frames of the bench's own
// that follow a tested frame and tell that it has been dealt with.
const etherMark = 0x88b5

var markMagic = []byte("socketplane mark")

// datapath lets the same tests run where the kernel has the openvswitch module.
var datapath = flag.String("datapath", "netdev", "datapath_type of the bridges in the tests")

// Configurations of the benches.
var (
	kernelTunnel = pipeline.Config{Tunnel: dataplane.TunnelKernel}
	answering    = pipeline.Config{Tunnel: dataplane.TunnelKernel, NDExtensions: true}
)

// bench is a real switch that holds the flows of some networks, with a namespace
// at each endpoint's port. A veth plays each kernel VXLAN device.
type bench struct {
	t        *testing.T
	sw       *ovs.Switch
	spaces   map[uint32]*namespace // by port
	wires    map[uint32]*wire
	networks []dataplane.Network
	devices  []uint32 // in the order of networks
	seq      uint32
}

func newBench(t *testing.T, cfg pipeline.Config, networks ...dataplane.Network) *bench {
	t.Helper()
	testenv.Need(t, "ip", "ethtool", "nsenter")
	b := &bench{t: t, sw: ovs.Start(t), spaces: map[uint32]*namespace{}, wires: map[uint32]*wire{}, networks: networks}
	// The switch's end of a link would speak IPv6 to the container.
	b.sw.NSExec("sh", "-c", "for d in all default; do echo 1 >/proc/sys/net/ipv6/conf/$d/disable_ipv6; done")
	mgmt := b.sw.AddBridge("br0", "datapath_type="+*datapath)
	flows := pipeline.Base(cfg)
	for i, n := range networks {
		device := uint32(dataplane.PortDeviceFirst + i)
		if cfg.Tunnel == dataplane.TunnelKernel {
			b.devices = append(b.devices, device)
			b.attach("br0", device, dataplane.MAC{2, 0xff, 0, 0, 0, byte(i)})
		}
		for _, e := range n.Local {
			b.attach("br0", e.Port, e.MAC)
		}
		flows = append(flows, pipeline.Network(cfg, n, device)...)
	}
	install(t, mgmt, flows)
	return b
}

// install puts flows into a switch and compares what the switch reports back:
// the reconciler takes any difference for drift.
func install(t *testing.T, mgmt string, flows []openflow.Flow) {
	t.Helper()
	c, err := openflow.Dial(t.Context(), mgmt)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Apply(t.Context(), openflow.Change{Add: flows}); err != nil {
		t.Fatal(err)
	}
	held, err := c.Dump(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	byKey := map[string]openflow.Flow{}
	for _, f := range held {
		byKey[f.Key()] = f
	}
	for _, f := range flows {
		if got := byKey[f.Key()]; !got.Equal(f) {
			t.Errorf("the switch holds\n%s\nnot\n%s", got, f)
		}
	}
	if len(held) != len(flows) {
		t.Errorf("the switch holds %d flows of %d", len(held), len(flows))
	}
}

// attach makes a namespace with a silent eth0 at a port of the bridge.
func (b *bench) attach(bridge string, port uint32, mac dataplane.MAC) {
	b.t.Helper()
	ns := newNamespace(b.t)
	ns.run("sh", "-c", "for d in all default; do echo 1 >/proc/sys/net/ipv6/conf/$d/disable_ipv6; done")
	link := fmt.Sprintf("p%d", port)
	b.sw.NSExec("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "address", mac.String(), "netns", ns.path())
	b.sw.NSExec("ip", "link", "set", link, "up")
	// Checksums that the kernel leaves to the link are never made on netdev.
	ns.run("ethtool", "-K", "eth0", "tx", "off")
	ns.run("ip", "link", "set", "eth0", "arp", "off")
	ns.run("ip", "link", "set", "eth0", "up")
	b.sw.Vsctl("add-port", bridge, link, "--", "set", "Interface", link, fmt.Sprintf("ofport_request=%d", port))
	b.spaces[port], b.wires[port] = ns, ns.tap("eth0")
}

// send sends a frame into a port and returns what came out of which port.
func (b *bench) send(from uint32, frame []byte) map[uint32][]byte {
	b.t.Helper()
	b.seq++
	b.wires[from].send(frame)
	got := map[uint32][]byte{}
	// The switch deals with the frames of one port in their order, so when the
	// mark is out the frame has been dealt with; a second mark, sent after that,
	// is the last that any port has to see.
	i := b.networkOf(from)
	b.mark(i, from)
	witness := b.networks[i].Local[0].Port
	if witness == from {
		witness = b.networks[i].Local[1].Port
	}
	b.collect(got, witness, from)
	for i, n := range b.networks {
		first, second := n.Local[0].Port, n.Local[1].Port
		b.mark(i, first)
		b.mark(i, second)
		b.collect(got, first, second)
		b.collect(got, b.devices[i], first)
		for _, e := range n.Local[1:] {
			b.collect(got, e.Port, first)
		}
	}
	return got
}

func (b *bench) networkOf(port uint32) int {
	for i, n := range b.networks {
		if b.devices[i] == port || slices.ContainsFunc(n.Local, func(e dataplane.Endpoint) bool { return e.Port == port }) {
			return i
		}
	}
	b.t.Fatalf("no network has port %d", port)
	return 0
}

func (b *bench) mark(network int, from uint32) {
	b.t.Helper()
	b.wires[from].send(ether(broadcast, b.macOf(network, from), etherMark, b.markText(from)))
}

func (b *bench) macOf(network int, port uint32) dataplane.MAC {
	for _, e := range b.networks[network].Local {
		if e.Port == port {
			return e.MAC
		}
	}
	return dataplane.MAC{2, 0xff}
}

func (b *bench) markText(from uint32) []byte {
	text := binary.BigEndian.AppendUint32(slices.Clone(markMagic), b.seq)
	return binary.BigEndian.AppendUint32(text, from)
}

// collect adds what port saw to got, up to the mark that came from the port from.
// A port that sees several frames gets them joined, which no expectation equals.
func (b *bench) collect(got map[uint32][]byte, port, from uint32) {
	b.t.Helper()
	if frames := b.until(b.wires[port], from); len(frames) > 0 {
		got[port] = append(got[port], bytes.Join(frames, nil)...)
	}
}

// until returns what a wire saw up to the mark that came from the port from;
// marks are left out, and may be inside a tunnel.
func (b *bench) until(w *wire, from uint32) [][]byte {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	ofMark := binary.BigEndian.AppendUint16(nil, etherMark)
	var frames [][]byte
	for {
		frame := w.next(deadline)
		switch {
		case frame == nil:
			b.t.Fatalf("no mark from port %d in time; seen: %x", from, frames)
		case bytes.Contains(frame, slices.Concat(ofMark, b.markText(from))):
			return frames
		case !bytes.Contains(frame, slices.Concat(ofMark, markMagic)):
			frames = append(frames, slices.Clone(frame))
		}
	}
}

// check sends a frame and compares what comes out of which port.
func (b *bench) check(t *testing.T, from uint32, frame []byte, want map[uint32][]byte) {
	t.Helper()
	got := b.send(from, frame)
	for _, port := range slices.Sorted(maps.Keys(b.wires)) {
		if !bytes.Equal(got[port], want[port]) {
			t.Errorf("port %d\n got %x\nwant %x", port, got[port], want[port])
		}
	}
}
