package pipeline

import (
	"cmp"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// Priorities of TableFlood.
const (
	floodReserved = 200
	floodChunk    = 120
	floodNoChunk  = 110
	floodNetwork  = 100
)

// baseFlood stops the group addresses that IEEE 802.1Q keeps on one link
// (table 8-1: spanning tree, pause, LACP, LLDP): no bridge passes them on.
func baseFlood(b *builder) {
	b.add(openflow.Flow{
		Table: TableFlood, Priority: floodReserved,
		Match: match(fields(openflow.MaskedMAC(openflow.EthDst,
			[6]byte{0x01, 0x80, 0xc2, 0x00, 0x00, 0x00},
			[6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xf0}))),
	})
	// A chunk that has no outputs has no flow, and must not begin the flood again.
	b.add(openflow.Flow{
		Table: TableFlood, Priority: floodNoChunk,
		Match: match(fields(maskedU32(RegChunk, chunkFlag, chunkFlag))),
	})
}

func maskedU32(id openflow.FieldID, v, mask uint32) openflow.Field {
	f := openflow.U32(id, v)
	f.Mask = openflow.U32(id, mask).Value
	return f
}

// Flood is where the broadcasts of one network go: to all local endpoints (the switch leaves out the port that one
// came from) and, when it began here, once to each other host. What came by tunnel has been sent to every host already.
//
// A flow has room for some thousand outputs, and must not be sent again for each of them. So above floodInline the ports, or
// the hosts, are spread over chunks, each a flow of its own, which the network's flow visits one after the other; an output
// is always in the same chunk. One that comes or goes changes one chunk. docs/design/0002-pipeline.md has the limits of
// that, and says why these are no groups.
//
// The zero value floods nowhere. It may be used by one goroutine at a time.
type Flood struct {
	ports outputs[uint32]
	hosts outputs[netip.Addr]
	given map[uint32]bool // parts that the last Flows or Changes left in the switch
	dirty map[uint32]bool // parts that may differ since
	away  bool            // what was given reaches other hosts
}

const (
	// floodInline is the largest number of ports, or of hosts, that is not spread: a flow-mod of 2 KiB at most for either.
	floodInline = 64
	// floodChunks is the number of chunks for ports, and for hosts. With 5,000 outputs a flow-mod has 2.5 KiB. All 60,000 ports
	// fit below 64 KiB.
	floodChunks = 64
	// floodSpread is the largest number of hosts that is spread. Open vSwitch visits no further chunk once a frame's datapath
	// actions have 64 KiB (ofproto-dpif-xlate.c, xlate_resubmit_resource_check), and one host's have up to 90 bytes. In one flow there may be more.
	floodSpread = 600
	// floodBytes is the room that the network's flow has for hosts, below 64 KiB with all that is not hosts.
	floodBytes = 62_000
	// floodNative is the largest number of hosts that a broadcast reaches in the user-space datapath, in whatever form: there Open vSwitch looks at the
	// size of the actions at each output to a tunnel of its own. Measured with Open vSwitch 3.1 and IPv4.
	floodNative = 700
	// chunkFlag is in RegChunk while a frame is in a chunk; the rest of it is the chunk's number.
	chunkFlag uint32 = 1 << 16
	// headByHosts stands among dirty parts for FromLocal, where that names the hosts: a kernel device finds them itself, and
	// its flow changes only with whether there are any.
	headByHosts = FromLocal | FromTunnel
	// hostChunk is the first of the hosts' chunks; the ports' begin at 0.
	hostChunk = floodChunks
)

// outputs are those of one kind, sorted within their chunks.
type outputs[T comparable] struct {
	chunks map[uint32][]T
	n      int
}

func (f *Flood) portsSpread() bool { return f.ports.n > floodInline }

func (f *Flood) hostsSpread() bool { return f.hosts.n > floodInline && f.hosts.n <= floodSpread }

func (o *outputs[T]) all(compare func(a, b T) int) []T {
	return slices.SortedFunc(func(yield func(T) bool) {
		for _, chunk := range o.chunks {
			for _, v := range chunk {
				if !yield(v) {
					return
				}
			}
		}
	}, compare)
}

// set puts an output into a chunk or takes it out, and says whether that is new.
func (o *outputs[T]) set(chunk uint32, v T, there bool, compare func(a, b T) int) bool {
	at, found := slices.BinarySearchFunc(o.chunks[chunk], v, compare)
	switch {
	case found == there:
		return false
	case there:
		if o.chunks == nil {
			o.chunks = map[uint32][]T{}
		}
		o.chunks[chunk] = slices.Insert(o.chunks[chunk], at, v)
		o.n++
	default:
		if o.chunks[chunk] = slices.Delete(o.chunks[chunk], at, at+1); len(o.chunks[chunk]) == 0 {
			delete(o.chunks, chunk)
		}
		o.n--
	}
	return true
}

// AddPort floods to a local endpoint too.
func (f *Flood) AddPort(port uint32) { f.setPort(port, true) }

// RemovePort floods to a local endpoint no more.
func (f *Flood) RemovePort(port uint32) { f.setPort(port, false) }

// AddHost floods to the host that ends its tunnels at vtep too. That it is there already changes nothing.
func (f *Flood) AddHost(vtep netip.Addr) { f.setHost(vtep, true) }

// RemoveHost floods to that host no more, however often it was added.
func (f *Flood) RemoveHost(vtep netip.Addr) { f.setHost(vtep, false) }

func (f *Flood) setPort(port uint32, there bool) {
	chunk, before, spread := port%floodChunks, f.ports.n, f.portsSpread()
	if !f.ports.set(chunk, port, there, cmp.Compare[uint32]) {
		return
	}
	switch {
	case before == 0 || f.ports.n == 0:
		f.touchAll()
	case spread != f.portsSpread():
		f.touchHeads()
		f.touchChunks(0)
	case spread:
		f.touch(chunkFlag | chunk)
	default:
		f.touchHeads()
	}
}

func (f *Flood) setHost(vtep netip.Addr, there bool) {
	vtep = vtep.Unmap()
	sum := fnv.New32a()
	_, _ = sum.Write(vtep.AsSlice()) // never fails
	chunk, spread := hostChunk+sum.Sum32()%floodChunks, f.hostsSpread()
	if !f.hosts.set(chunk, vtep, there, netip.Addr.Compare) {
		return
	}
	switch {
	case spread != f.hostsSpread():
		f.touch(headByHosts)
		f.touchChunks(hostChunk)
	case spread:
		f.touch(chunkFlag | chunk)
	default:
		f.touch(headByHosts)
	}
}

func (f *Flood) touch(part uint32) {
	if f.dirty == nil {
		f.dirty = map[uint32]bool{}
	}
	f.dirty[part] = true
}

func (f *Flood) touchHeads() {
	f.touch(FromLocal)
	f.touch(FromTunnel)
}

func (f *Flood) touchChunks(first uint32) {
	for i := range uint32(floodChunks) {
		f.touch(chunkFlag | (first + i))
	}
}

func (f *Flood) touchAll() {
	f.touchHeads()
	f.touchChunks(0)
	f.touchChunks(hostChunk)
}

// Flows are all flows of the flood, and Changes begins from them.
func (f *Flood) Flows(cfg Config, s Segment) []openflow.Flow {
	f.given = nil
	f.touchAll()
	return f.Changes(cfg, s).Add
}

// Changes is what leads the switch from the flows that the last Flows or Changes gave to those of now. Its size does
// not grow with the flood. cfg and s are those of the last Flows. If the switch does not take it, Flows has the whole.
func (f *Flood) Changes(cfg Config, s Segment) openflow.Change {
	var c openflow.Change
	v := newView(cfg, s)
	away := f.hosts.n > 0
	if f.dirty[headByHosts] && (v.tunnel.kind == dataplane.TunnelOVS || away != f.away) {
		f.touch(FromLocal)
	}
	delete(f.dirty, headByHosts)
	f.away = away
	if f.given == nil {
		f.given = map[uint32]bool{}
	}
	for _, part := range slices.Sorted(maps.Keys(f.dirty)) {
		actions := f.actions(v, part)
		flow := f.flow(v, part, actions)
		switch {
		case len(actions) > 0:
			c.Add = append(c.Add, flow)
			f.given[part] = true
		case f.given[part]:
			c.Delete = append(c.Delete, flow)
			delete(f.given, part)
		}
	}
	f.dirty = nil
	return c
}

// flow is that of a part: FromLocal and FromTunnel are where floods of that origin begin, the others are chunks.
func (f *Flood) flow(v view, part uint32, actions []openflow.Action) openflow.Flow {
	flow := openflow.Flow{Table: TableFlood, Priority: floodNetwork, Actions: actions}
	switch {
	case part&chunkFlag == 0:
		flow.Match = match(fields(v.reg0(), openflow.U32(RegOrigin, part)))
	case part < chunkFlag|hostChunk:
		flow.Priority = floodChunk
		flow.Match = match(fields(v.reg0(), openflow.U32(RegChunk, part)))
	default:
		flow.Priority = floodChunk
		flow.Match = match(fields(v.reg0(), openflow.U32(RegOrigin, FromLocal), openflow.U32(RegChunk, part)))
	}
	return flow
}

// actions are those of a part, none if it has no flow.
func (f *Flood) actions(v view, part uint32) []openflow.Action {
	if f.ports.n == 0 {
		return nil // nobody to send, nobody to receive
	}
	switch {
	case part == FromLocal:
		return append(f.here(), f.elsewhere(v)...)
	case part == FromTunnel:
		if v.tunnel.port == 0 {
			return nil
		}
		return f.here()
	case part < chunkFlag|hostChunk:
		if !f.portsSpread() {
			return nil
		}
		return toPorts(f.ports.chunks[part&^chunkFlag])
	default:
		hosts := f.hosts.chunks[part&^chunkFlag]
		if !f.hostsSpread() || v.tunnel.kind != dataplane.TunnelOVS || len(hosts) == 0 {
			return nil
		}
		return append(clearOther(hosts[0]), v.tunnel.to(hosts...)...)
	}
}

// here are the actions that reach all local endpoints.
func (f *Flood) here() []openflow.Action {
	if f.portsSpread() {
		return visit(0)
	}
	return toPorts(f.ports.all(cmp.Compare[uint32]))
}

// elsewhere are the actions that reach all other hosts.
func (f *Flood) elsewhere(v view) []openflow.Action {
	if f.hostsSpread() && v.tunnel.kind == dataplane.TunnelOVS {
		return visit(hostChunk)
	}
	hosts := f.hosts.all(netip.Addr.Compare)
	return v.tunnel.to(hosts[:f.room(v, hosts)]...)
}

// room is how many of the hosts fit into one flow.
func (f *Flood) room(v view, hosts []netip.Addr) int {
	if v.tunnel.kind != dataplane.TunnelOVS {
		return len(hosts)
	}
	for i, left := 0, floodBytes; i < len(hosts); i++ {
		if left -= 32 + hosts[i].BitLen()/16; left < 0 { // set_field and output, 34 or 40 bytes
			return i
		}
	}
	return len(hosts)
}

// Unreached is the number of hosts to which broadcasts don't go: one flow has no room for more, or the switch no room for what it makes of it. It is
// always 0 with kernel devices, and with 700 hosts in the user-space datapath or 1,500 in the kernel's.
func (f *Flood) Unreached(cfg Config, s Segment) int {
	v := newView(cfg, s)
	if v.tunnel.kind != dataplane.TunnelOVS || f.hosts.n <= floodSpread {
		return 0
	}
	hosts := f.hosts.all(netip.Addr.Compare)
	reached := f.room(v, hosts)
	if cfg.NDExtensions {
		reached = min(reached, floodNative)
	}
	return len(hosts) - reached
}

func toPorts(ports []uint32) []openflow.Action {
	actions := make([]openflow.Action, len(ports))
	for i, p := range ports {
		actions[i] = openflow.Output{Port: p}
	}
	return actions
}

// visit goes through all chunks of a kind, those without a flow too, so that it stays as it is.
func visit(first uint32) []openflow.Action {
	actions := make([]openflow.Action, 0, 2*floodChunks)
	for i := range uint32(floodChunks) {
		actions = append(actions, set(openflow.U32(RegChunk, chunkFlag|(first+i))), openflow.Resubmit{Table: TableFlood})
	}
	return actions
}

// clearOther clears the tunnel's destination of the family that a chunk does not begin with: the chunk before may have left one.
func clearOther(first netip.Addr) []openflow.Action {
	other := netip.IPv4Unspecified()
	if first.Is4() {
		other = netip.IPv6Unspecified()
	}
	return []openflow.Action{set(openflow.Addr(destinationField(other), other))}
}
