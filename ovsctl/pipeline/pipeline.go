// Package pipeline is what the bridge does with a frame, as pure values: the
// tables, and for each network the flows in them.
//
// It imports ovsctl/openflow for the form of a flow and internal/dataplane for
// what is wanted. It must not know sockets, OVSDB or the kernel: it never learns
// what the switch holds, and equal input always gives equal flows in equal order.
// docs/design/0002-pipeline.md has the picture and the reasons.
package pipeline

import (
	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// The tables, in the order in which a frame meets them. The steps between the
// numbers leave room for tables to come without renumbering a running switch.
const (
	// TableClassify gives a frame its network and tells where it came from.
	TableClassify uint8 = 0
	// TableSpoofGuard lets only frames with the endpoint's own addresses pass.
	TableSpoofGuard uint8 = 10
	// TableNDGuard does the same for what IPv6 neighbour discovery says inside.
	TableNDGuard uint8 = 15
	// TableEgressPolicy is reserved: what an endpoint may send. It has no flows
	// yet and is not visited.
	TableEgressPolicy uint8 = 20
	// TableNeighbour answers ARP and neighbour solicitations.
	TableNeighbour uint8 = 30
	// TableAdvertise completes the answers to neighbour solicitations, where
	// Config.NDExtensions is set.
	TableAdvertise uint8 = 35
	// TableIngressPolicy is reserved: what an endpoint may receive. Frames from
	// local ports and from tunnels both come by here. It has no flows yet and is
	// not visited.
	TableIngressPolicy uint8 = 40
	// TableUnicast forwards by destination MAC.
	TableUnicast uint8 = 50
	// TableStale forwards by destination address what was sent to a MAC that no
	// endpoint has any more.
	TableStale uint8 = 60
	// TableFlood copies broadcast and multicast.
	TableFlood uint8 = 70
)

// Registers and what they hold once TableClassify has been passed.
const (
	// RegNetwork holds the VNI.
	RegNetwork = openflow.Reg0
	// RegOrigin holds FromLocal or FromTunnel.
	RegOrigin = openflow.Reg1
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
	b := newBuilder()
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

// Network returns all flows of one network. devicePort is the OpenFlow port of
// the network's kernel VXLAN device when cfg.Tunnel is TunnelKernel (0: there is
// none yet, so nothing leaves or enters by tunnel); other kinds ignore it.
//
// Where n names a MAC or an address twice, the local endpoint wins over a remote
// one and otherwise the first: while a container moves, the records of its old
// and new host overlap. Endpoints without a port are left out. Cookies are 0.
func Network(cfg Config, n dataplane.Network, devicePort uint32) []openflow.Flow {
	b := newBuilder()
	v := newView(cfg, n, devicePort)
	classify(b, v)
	spoofGuard(b, v)
	ndGuard(b, v)
	neighbour(b, v)
	unicast(b, v)
	stale(b, v)
	flood(b, v)
	return b.flows
}
