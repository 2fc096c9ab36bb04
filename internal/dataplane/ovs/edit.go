package ovs

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// edits are what follows from changes of a network's state and has yet to be told to the switch and the kernel. Each says what is wanted in
// the end, whatever is there now: sent again, or after others, it does no harm.
type edits struct {
	off     bool            // the whole will be told: nothing is noted
	flows   map[string]edit // by Key
	entries map[dataplane.MAC]move
	floods  map[netip.Addr]bool // whether that VTEP gets floods
	links   map[string]bool     // names of host ends whose port or link may have changed
}

// move is where frames for a MAC went by tunnel when the kernel was last told, and where they go now; the zero Addr is nowhere.
type move struct{ was, now netip.Addr }

// edit is a flow that is wanted, or whose key is to have none.
type edit struct {
	flow openflow.Flow
	gone bool
	// old says that it was noted before the walk that is under way: the walk says what is wanted.
	old bool
}

func newEdits() edits {
	return edits{
		off: true, flows: map[string]edit{}, entries: map[dataplane.MAC]move{}, floods: map[netip.Addr]bool{}, links: map[string]bool{},
	}
}

// replace takes stations out of the state and puts others in, and notes what follows for flows and entries. A station
// may be in both when what alter changes is its peer.
func (n *state) replace(out, in []*station, alter func()) {
	touched, stations := map[claim]bool{}, map[*station]bool{}
	for _, s := range slices.Concat(out, in) {
		for _, c := range s.claims() {
			touched[c] = true
		}
	}
	before := map[string]openflow.Flow{}
	entries := map[dataplane.MAC]netip.Addr{}
	if !n.edits.off {
		stations = n.claimants(touched)
		for s := range stations {
			n.former(s, before)
		}
		for c := range touched {
			if mac, ok := c.mac(); ok {
				entries[mac] = n.destination(mac, n.basis.own)
			}
		}
	}
	for _, s := range out {
		n.unclaim(s)
		n.count -= int(s.flows)
		s.flows = 0
	}
	alter()
	for _, s := range in {
		n.claim(s)
	}
	if n.edits.off {
		return
	}
	after := map[string]openflow.Flow{}
	for s := range n.claimants(touched) {
		for _, f := range n.wanted(s, n.target()) {
			after[f.Key()] = f
		}
	}
	n.edits.differ(before, after, n.walk)
	for mac, was := range entries {
		if now := n.destination(mac, n.target().own); now != was || n.walk {
			if former, ok := n.edits.entries[mac]; ok {
				was = former.was
			}
			n.edits.entries[mac] = move{was, now}
		}
	}
}

// mac is the MAC that is claimed.
func (c claim) mac() (dataplane.MAC, bool) { return dataplane.MAC(c[1:7]), c[0] == 0 }

// target is what flows are to be computed with from now on.
func (n *state) target() basis {
	if n.walk {
		return n.next
	}
	return n.basis
}

// former adds the flows that the switch may have of a station.
func (n *state) former(s *station, to map[string]openflow.Flow) {
	for _, f := range n.flowsOf(s, n.basis) {
		to[f.Key()] = f
	}
	if n.walk {
		for _, f := range n.flowsOf(s, n.next) {
			to[f.Key()] = f
		}
	}
}

// differ notes what leads from some flows to others; with all also those that are in both.
func (e *edits) differ(before, after map[string]openflow.Flow, all bool) {
	for key, f := range after {
		if was, ok := before[key]; all || !ok || !was.Equal(f) {
			e.flows[key] = edit{flow: f}
		}
	}
	for key, f := range before {
		if _, ok := after[key]; !ok {
			e.flows[key] = edit{flow: f, gone: true}
		}
	}
}

// setLocal makes an endpoint of this host be so; nil removes it.
func (n *state) setLocal(id string, e *dataplane.Endpoint) {
	was := n.local[id]
	if was == nil && e == nil || was != nil && e != nil && reflect.DeepEqual(*was.local, *e) {
		return
	}
	var out, in []*station
	if was != nil {
		out = append(out, was)
		n.edits.links[was.local.HostLink] = true
	}
	if e != nil {
		in = append(in, &station{local: e, id: id, mac: e.MAC, addrs: e.Addrs})
		n.edits.links[e.HostLink] = true
	}
	n.replace(out, in, func() {
		for _, s := range out {
			delete(n.local, id)
			delete(n.links, s.local.HostLink)
			n.countLocal(s, -1)
		}
		for _, s := range in {
			n.local[id], n.links[s.local.HostLink] = s, s
			n.countLocal(s, 1)
		}
	})
	n.changeFlood()
}

// countLocal notes that an endpoint of this host came or went.
func (n *state) countLocal(s *station, by int) {
	if len(s.claims()) == 0 {
		return
	}
	if n.mtus[s.local.MTU] += by; n.mtus[s.local.MTU] == 0 {
		delete(n.mtus, s.local.MTU)
	}
	if n.attached += by; by > 0 {
		n.flood.AddPort(s.local.Port)
	} else {
		n.flood.RemovePort(s.local.Port)
	}
}

// setPeer makes the change of another host.
func (n *state) setPeer(c dataplane.PeerChange) {
	p := n.peers[c.Host]
	if p != nil && !c.Gone && p.vtep != c.VTEP {
		n.movePeer(p, c.VTEP)
	}
	var out, in []*station
	if c.Gone {
		if p == nil {
			return
		}
		for _, s := range p.stations {
			out = append(out, s)
		}
	} else if p == nil {
		p = &peer{host: c.Host, vtep: c.VTEP, stations: make(map[string]*station, len(c.Set))}
	}
	for _, id := range c.Unset {
		if s := p.stations[id]; s != nil && !c.Gone {
			out = append(out, s)
		}
	}
	for _, e := range c.Set {
		was := p.stations[e.ID]
		if was != nil && was.mac == e.MAC && slices.Equal(was.addrs, e.Addrs) {
			continue
		}
		if was != nil {
			out = append(out, was)
		}
		in = append(in, &station{peer: p, id: e.ID, mac: e.MAC, addrs: e.Addrs})
	}
	had := len(p.stations) > 0
	n.replace(out, in, func() {
		n.peers[p.host] = p
		for _, s := range out {
			delete(p.stations, s.id)
		}
		for _, s := range in {
			p.stations[s.id] = s
		}
	})
	if len(p.stations) == 0 {
		delete(n.peers, p.host)
	}
	switch has := len(p.stations) > 0; {
	case has && !had:
		n.countVTEP(p.vtep, 1)
	case had && !has:
		n.countVTEP(p.vtep, -1)
	}
	n.changeFlood()
}

// movePeer moves all endpoints of another host.
func (n *state) movePeer(p *peer, vtep netip.Addr) {
	var all []*station
	for _, s := range p.stations {
		all = append(all, s)
	}
	n.replace(all, all, func() {
		n.countVTEP(p.vtep, -1)
		p.vtep = vtep
		n.countVTEP(p.vtep, 1)
	})
}

// countVTEP notes that another host with endpoints ends, or no more ends, its tunnels at vtep.
func (n *state) countVTEP(vtep netip.Addr, by int) {
	vtep = vtep.Unmap()
	was := n.vteps[vtep]
	if n.vteps[vtep] += by; n.vteps[vtep] == 0 {
		delete(n.vteps, vtep)
	}
	if was > 0 == (was+by > 0) || !dataplane.TunnelBetween(n.target().own, vtep) {
		return
	}
	if by > 0 {
		n.flood.AddHost(vtep)
	} else {
		n.flood.RemoveHost(vtep)
	}
	if !n.edits.off {
		n.edits.floods[vtep] = by > 0
	}
}

// changeFlood notes what changes in the network's common flows.
func (n *state) changeFlood() {
	if n.edits.off || !n.target().active {
		return
	}
	c := n.flood.Changes(n.target().config, n.target().segment)
	for _, f := range c.Add {
		n.edits.flows[f.Key()] = edit{flow: f}
		n.common[f.Key()] = true
	}
	for _, f := range c.Delete {
		n.edits.flows[f.Key()] = edit{flow: f, gone: true}
		delete(n.common, f.Key())
	}
}

// commonFlows are the flows of the network that are of no station, as they are computed with b. The flood's changes begin from them.
func (n *state) commonFlows(b basis) []openflow.Flow {
	n.flood = &pipeline.Flood{}
	for _, s := range n.local {
		if len(s.claims()) > 0 {
			n.flood.AddPort(s.local.Port)
		}
	}
	for vtep := range n.vteps {
		if dataplane.TunnelBetween(b.own, vtep) {
			n.flood.AddHost(vtep)
		}
	}
	if !b.active {
		return nil
	}
	return slices.Concat(pipeline.SegmentFlows(b.config, b.segment), n.flood.Flows(b.config, b.segment))
}

// entriesOf are all forwarding entries of the network's VXLAN device.
func (n *state) entriesOf(own netip.Addr) []hostlink.FDBEntry {
	var out []hostlink.FDBEntry
	for vtep := range n.vteps {
		if dataplane.TunnelBetween(own, vtep) {
			out = append(out, hostlink.FDBEntry{Dst: vtep})
		}
	}
	for _, p := range n.peers {
		for _, s := range p.stations {
			if n.winner(macClaim(s.mac), own) == s {
				out = append(out, hostlink.FDBEntry{MAC: s.mac, Dst: p.vtep.Unmap()})
			}
		}
	}
	return out
}

// apply makes a change in the state.
func (n *state) apply(c dataplane.Change) {
	for _, id := range c.LocalGone {
		n.setLocal(id, nil)
	}
	for _, e := range c.Local {
		n.setLocal(e.ID, &e)
	}
	for _, p := range c.Peers {
		n.setPeer(p)
	}
}

// set returns the change that leads from the state to that of a network.
func (n *state) set(want dataplane.Network) dataplane.Change {
	if n.gone {
		n.gone = false
		n.noteLinks()
	}
	n.vni, n.mtu = want.VNI, want.MTU
	c := dataplane.Change{Local: want.Local}
	here := make(map[string]bool, len(want.Local))
	for _, e := range want.Local {
		here[e.ID] = true
	}
	for id := range n.local {
		if !here[id] {
			c.LocalGone = append(c.LocalGone, id)
		}
	}
	hosts := make(map[string]bool, len(want.Remote))
	for _, p := range want.Remote {
		hosts[p.Host] = true
		change := dataplane.PeerChange{Host: p.Host, VTEP: p.VTEP, Set: p.Endpoints}
		if had := n.peers[p.Host]; had != nil {
			there := make(map[string]bool, len(p.Endpoints))
			for _, e := range p.Endpoints {
				there[e.ID] = true
			}
			for id := range had.stations {
				if !there[id] {
					change.Unset = append(change.Unset, id)
				}
			}
		}
		c.Peers = append(c.Peers, change)
	}
	for host := range n.peers {
		if !hosts[host] {
			c.Peers = append(c.Peers, dataplane.PeerChange{Host: host, Gone: true})
		}
	}
	return c
}

// remove has everything of the network removed.
func (n *state) remove() {
	n.gone = true
	n.noteLinks()
}

func (n *state) noteLinks() {
	for name := range n.links {
		n.edits.links[name] = true
	}
}
