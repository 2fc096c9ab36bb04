// Package pipeline is what the bridge does with a frame, as pure values: the
// tables, and for each network the flows in them.
//
// It imports ovsctl/openflow for the form of a flow and internal/dataplane for
// what is wanted. It must not know sockets, OVSDB or the kernel: it never learns
// what the switch holds, and equal input always gives equal flows in equal order.
// docs/design/0002-pipeline.md has the picture and the reasons.
package pipeline

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// Registers and what they hold once TableClassify has been passed.
const (
	// RegNetwork holds the VNI.
	RegNetwork = openflow.Reg0
	// RegOrigin holds FromLocal or FromTunnel.
	RegOrigin = openflow.Reg1
	// RegChunk holds 0, or the chunk of a large flood that is being copied to (see Flood).
	RegChunk = openflow.Reg2
)

// Values of RegOrigin.
const (
	FromLocal  uint32 = 1
	FromTunnel uint32 = 2
)

// Config is what all networks of a host have in common.
type Config struct {
	// Tunnel says how frames reach other hosts; empty: not at all.
	Tunnel dataplane.TunnelKind
	// NDExtensions says that the datapath can set the flags and the option's type
	// of neighbour discovery: the user-space one (netdev) can, the kernel's can't,
	// and there the switch refuses such flows. With it solicitations are answered
	// on the asker's host, without it they are taken to their target alone.
	NDExtensions bool
	// Host is this host's id, which answers of probes tell.
	Host string
}

// Base returns the flows that exist whatever networks there are.
//
// No table has a flow that drops what nothing else matched: the switch drops
// that by itself (OpenFlow 1.3 and later, and secure mode installs no NORMAL
// flow), and 0 as Cookie is left for the caller to fill in.
func Base(cfg Config) []openflow.Flow {
	b := &builder{}
	baseSpoofGuard(b)
	baseNDGuard(b)
	baseNeighbour(b)
	if cfg.NDExtensions {
		baseAdvertise(b)
	}
	baseProbe(b, cfg.Tunnel, cfg.Host)
	baseUnicast(b)
	baseFlood(b)
	return b.flows
}

// Segment is what the flows of one network have in common.
type Segment struct {
	VNI uint32
	// Device is the OpenFlow port of the network's kernel VXLAN device when Config.Tunnel is TunnelKernel (0: there
	// is none yet, so nothing leaves or enters by tunnel). Other kinds ignore it.
	Device uint32
}

// Wins says what of an endpoint's is its own. While a container moves, two endpoints of a network may have one MAC or
// address; the flows that lead to it are those of the endpoint that wins it. One of this host wins over one of
// another, and otherwise the first.
type Wins struct {
	MAC bool
	// Addr is asked for each of Addresses; nil wins all.
	Addr func(netip.Addr) bool
}

// WinsAll is for an endpoint that shares nothing with another.
var WinsAll = Wins{MAC: true}

func (w Wins) addr(a netip.Addr) bool { return w.Addr == nil || w.Addr(a) }

// SegmentFlows are the flows of a network whatever its endpoints are: they take in what comes by tunnel. Where its
// broadcasts go is told by Flood.
func SegmentFlows(cfg Config, s Segment) []openflow.Flow {
	b := &builder{}
	classifyTunnel(b, newView(cfg, s))
	return b.flows
}

// LocalFlows are the flows of one endpoint on this host, which has a port. No other endpoint has flows with the same
// keys, if each MAC and address is won by one of them.
func LocalFlows(cfg Config, s Segment, e dataplane.Endpoint, w Wins) []openflow.Flow {
	st := newStation(e.MAC, e.Addrs)
	st.port = e.Port
	b, v := &builder{}, newView(cfg, s)
	classifyLocal(b, v, st)
	spoofGuard(b, v, st)
	ndGuard(b, v, st)
	neighbourSelfs(b, v, st)
	lead(b, v, st, w)
	return b.flows
}

// RemoteFlows are the flows of one endpoint on the host that ends its tunnels at vtep. What LocalFlows says of keys
// holds for both.
func RemoteFlows(cfg Config, s Segment, vtep netip.Addr, e dataplane.PeerEndpoint, w Wins) []openflow.Flow {
	st := newStation(e.MAC, e.Addrs)
	st.vtep = vtep.Unmap()
	b := newBuilder()
	lead(b, newView(cfg, s), st, w)
	return b.flows
}

// lead adds the flows by which others find a station.
func lead(b *builder, v view, s station, w Wins) {
	network, mac := b.u32(RegNetwork, v.vni), b.mac(openflow.EthDst, s.mac)
	place := []openflow.Field{network, fromLocal}
	neighbour(b, place[:1], v, s, w)
	way, ok := v.way(s)
	if !ok {
		return
	}
	if s.port != 0 {
		place = place[:1]
	}
	unicast(b, mac, place, way, w)
	stale(b, mac, place, way, s, w)
}

// fromLocal matches frames from local ports: only these may leave by tunnel, else two hosts with different ideas about a third would hand a frame to
// and fro for ever.
var fromLocal = openflow.U32(RegOrigin, FromLocal)

// Network returns all flows of one network, in the order of their tables and priorities: SegmentFlows, LocalFlows and
// RemoteFlows of each endpoint, and the Flood. devicePort is Segment.Device.
//
// Where n names a MAC or an address twice, the local endpoint wins over a remote
// one and otherwise the first: while a container moves, the records of its old
// and new host overlap. Endpoints without a port are left out. Cookies are 0.
func Network(cfg Config, n dataplane.Network, devicePort uint32) []openflow.Flow {
	s := Segment{VNI: n.VNI, Device: devicePort}
	owned := owners{macs: map[dataplane.MAC]bool{}, addrs: map[netip.Addr]bool{}}
	var flows []openflow.Flow
	var flood Flood
	for _, e := range n.Local {
		if e.Port != 0 {
			flows = append(flows, LocalFlows(cfg, s, e, owned.claim(e.MAC, e.Addrs))...)
			flood.AddPort(e.Port)
		}
	}
	for _, p := range n.Remote {
		if !p.VTEP.IsValid() {
			continue
		}
		for _, e := range p.Endpoints {
			flows = append(flows, RemoteFlows(cfg, s, p.VTEP, e, owned.claim(e.MAC, e.Addrs))...)
			flood.AddHost(p.VTEP)
		}
	}
	flows = append(append(flows, SegmentFlows(cfg, s)...), flood.Flows(cfg, s)...)
	slices.SortStableFunc(flows, func(a, b openflow.Flow) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(b.Priority, a.Priority))
	})
	return flows
}

// owners are the MACs and addresses that an endpoint has won.
type owners struct {
	macs  map[dataplane.MAC]bool
	addrs map[netip.Addr]bool
}

// claim gives the next endpoint what none before it has.
func (o owners) claim(mac dataplane.MAC, addrs []netip.Addr) Wins {
	mine := map[netip.Addr]bool{}
	for _, a := range Addresses(mac, addrs) {
		if !o.addrs[a] {
			mine[a], o.addrs[a] = true, true
		}
	}
	w := Wins{MAC: !o.macs[mac], Addr: func(a netip.Addr) bool { return mine[a] }}
	o.macs[mac] = true
	return w
}
