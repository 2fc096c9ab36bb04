package pipeline_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// portUnderlay is the port of a second bridge through which a switch reaches the
// other hosts; the numbers of the two bridges are apart only in this test.
const portUnderlay = 50

// underlay gives the switch a flow-based VXLAN port and, on a bridge of its own,
// an underlay in which the addresses of all peers resolve.
func (b *bench) underlay(peers ...netip.Addr) (own dataplane.MAC) {
	b.t.Helper()
	own = dataplane.MAC{2, 0xee, 0, 0, 0, 1}
	b.sw.AddBridge("und", "datapath_type="+*datapath, "other_config:hwaddr=\""+own.String()+"\"")
	b.sw.Ofctl("add-flow", "und", "actions=NORMAL")
	b.attach("und", portUnderlay, dataplane.MAC{2, 0xee, 0, 0, 0, 2})
	b.sw.NSExec("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/und/disable_ipv6")
	b.sw.NSExec("ip", "link", "set", "und", "up")
	b.sw.NSExec("ip", "addr", "add", "192.0.2.1/24", "dev", "und")
	b.sw.NSExec("ip", "addr", "add", "2001:db8::1/64", "dev", "und", "nodad")
	b.sw.Vsctl("add-port", "br0", "vx", "--", "set", "Interface", "vx", "type=vxlan",
		"options:remote_ip=flow", "options:key=flow", "ofport_request=65000")
	for _, p := range peers {
		b.sw.Appctl("tnl/neigh/set", "und", p.String(), "02:ee:00:00:00:02")
	}
	return own
}

// outer is where an encapsulated frame goes and what is inside.
type outer struct {
	dst   netip.Addr
	vni   uint32
	inner string
}

func (o outer) String() string { return fmt.Sprintf("%s VNI %d %x", o.dst, o.vni, o.inner) }

func decapsulate(frame []byte) (outer, bool) {
	var o outer
	var udp []byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		o.dst, udp = netip.AddrFrom4([4]byte(frame[30:34])), frame[34:]
	case 0x86dd:
		o.dst, udp = netip.AddrFrom16([16]byte(frame[38:54])), frame[54:]
	}
	if len(udp) < 30 || binary.BigEndian.Uint16(udp[2:]) != 4789 {
		return o, false
	}
	o.vni, o.inner = binary.BigEndian.Uint32(udp[12:])>>8, string(udp[16:])
	return o, true
}

func encapsulate(to dataplane.MAC, vni uint32, inner []byte) []byte {
	udp := binary.BigEndian.AppendUint16([]byte{0xc0, 0, 0x12, 0xb5}, uint16(16+len(inner)))
	vxlan := binary.BigEndian.AppendUint32([]byte{0, 0, 8, 0, 0, 0}, vni<<8)
	packet := ipv4(ip("192.0.2.2"), ip("192.0.2.1"), string(slices.Concat(udp, vxlan, inner)))
	packet[9] = 17
	packet[10], packet[11] = 0, 0
	binary.BigEndian.PutUint16(packet[10:], checksum(packet[:20]))
	return ether(to, dataplane.MAC{2, 0xee, 0, 0, 0, 2}, 0x0800, packet)
}

// TestFlowBasedTunnel sends through a real VXLAN port of the switch, to peers of
// both address families, and back in.
func TestFlowBasedTunnel(t *testing.T) {
	networks := twoNetworks()[:1]
	four, six, four2 := ip("192.0.2.2"), ip("2001:db8::3"), ip("192.0.2.3")
	mac6 := dataplane.MAC{2, 0, 0, 0, 0, 0xe}
	networks[0].Remote = append(networks[0].Remote,
		// Not in the order of the flood.
		dataplane.Peer{VTEP: six, Endpoints: []dataplane.PeerEndpoint{{MAC: mac6}}},
		dataplane.Peer{VTEP: four2, Endpoints: []dataplane.PeerEndpoint{{MAC: macOld}}})
	b := newBench(t, pipeline.Config{Tunnel: dataplane.TunnelOVS}, networks...)
	own := b.underlay(four, six, four2)
	und := b.wires[portUnderlay]

	for _, c := range []struct {
		name string
		dst  dataplane.MAC
		want []netip.Addr
	}{
		{"unicast by IPv4", macR, []netip.Addr{four}},
		{"unicast by IPv6", mac6, []netip.Addr{six}},
		{"broadcast", broadcast, []netip.Addr{four, four2, six}},
		{"unknown", dataplane.MAC{2, 9}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.seq++
			frame := ether(c.dst, macA, 0x88b6, []byte(c.name))
			b.wires[portA].send(frame)
			b.mark(0, portA)
			var got, want []outer
			for _, f := range b.until(und, portA) {
				if o, ok := decapsulate(f); ok {
					got = append(got, o)
				}
			}
			for _, vtep := range c.want {
				want = append(want, outer{vtep, 100, string(frame)})
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
			for _, port := range []uint32{portB, portC} {
				b.until(b.wires[port], portA) // leaves nothing to the next case
			}
		})
	}

	for _, c := range []struct {
		name  string
		vni   uint32
		inner []byte
		want  []uint32
	}{
		{"in, unicast", 100, ether(macB, macR, 0x88b6, []byte("in")), []uint32{portB}},
		{"in, broadcast", 100, ether(broadcast, macR, 0x88b6, []byte("in")), []uint32{portA, portB, portC}},
		{"in, for another host", 100, ether(mac6, macR, 0x88b6, []byte("in")), nil},
		{"in, another network", 101, ether(broadcast, macR, 0x88b6, []byte("in")), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.seq++
			und.send(encapsulate(own, c.vni, c.inner))
			und.send(encapsulate(own, 100, ether(broadcast, macR, etherMark, b.markText(portUnderlay))))
			got := map[uint32][]byte{}
			for _, port := range []uint32{portA, portB, portC} {
				b.collect(got, port, portUnderlay)
				if want := to(c.inner, c.want...)[port]; !bytes.Equal(got[port], want) {
					t.Errorf("port %d\n got %x\nwant %x", port, got[port], want)
				}
			}
			b.mark(0, portA)
			for _, f := range b.until(und, portA) {
				if o, ok := decapsulate(f); ok && strings.Contains(o.inner, "in") {
					t.Errorf("a frame out of the tunnel left by it: %v", o)
				}
			}
		})
	}
}
