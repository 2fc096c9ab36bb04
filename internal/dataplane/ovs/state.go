package ovs

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// station is an endpoint of a network, here or elsewhere. What it says is never changed: another station takes its place.
type station struct {
	peer  *peer               // nil for one of this host
	local *dataplane.Endpoint // nil for one of another host
	id    string
	addrs []netip.Addr
	mac   dataplane.MAC
	flows uint16 // how many are wanted of it, when they were last computed
}

// peer is another host with endpoints on a network.
type peer struct {
	host     string
	vtep     netip.Addr
	stations map[string]*station // by ID
}

// claim is a MAC or an address within a network. Stations that claim the same one contend for it: see wins.
type claim [17]byte

func macClaim(mac dataplane.MAC) (c claim) {
	copy(c[1:], mac[:])
	return c
}

func addrClaim(a netip.Addr) (c claim) {
	a16 := a.As16()
	c[0] = 1
	copy(c[1:], a16[:])
	return c
}

// claims are those of a station. An endpoint of this host that has not joined claims nothing.
func (s *station) claims() []claim {
	if s.local != nil && (!s.local.Attached || s.local.Port == 0) {
		return nil
	}
	claims := []claim{macClaim(s.mac)}
	for _, a := range pipeline.Addresses(s.mac, s.addrs) {
		claims = append(claims, addrClaim(a))
	}
	return claims
}

// compare orders stations as they win: those of this host come first, then those of the lowest VTEP; ids decide between the rest.
func compare(a, b *station) int {
	switch {
	case a.peer == nil && b.peer == nil:
		return strings.Compare(a.id, b.id)
	case a.peer == nil:
		return -1
	case b.peer == nil:
		return 1
	}
	return cmp.Or(a.peer.vtep.Compare(b.peer.vtep), strings.Compare(a.peer.host, b.peer.host), strings.Compare(a.id, b.id))
}

// basis is what all flows of a network depend on besides its stations.
type basis struct {
	active  bool // a container of this host is attached: else there is nobody to send or receive, and there are no flows
	config  pipeline.Config
	segment pipeline.Segment
	own     netip.Addr // this host's VTEP: there is no way to peers that no tunnel reaches from it (dataplane.TunnelBetween)
}

// state is what is wanted of one network. Plane.mu guards it.
type state struct {
	id       string
	vni      uint32
	mtu      int
	local    map[string]*station // by ID
	links    map[string]*station // those of this host, by the names of their host ends
	peers    map[string]*peer    // by host
	vteps    map[netip.Addr]int  // how many peers end their tunnels there
	claimed  map[claim]*station  // by whom, where it is one
	shared   map[claim][]*station
	attached int
	mtus     map[int]int // how many of these have links with an MTU, by MTU
	gone     bool        // nothing is wanted; the stations are those of before, until their flows are removed

	basis  basis           // what wanted flows are computed with
	next   basis           // while walking: what they will be computed with
	walk   bool            // all flows are being given to the switch, in pieces
	flood  *pipeline.Flood // as basis has it
	common map[string]bool // keys of the flows that are of no station
	count  int             // of the stations' flows
	edits  edits
	// dropped are links whose ports are gone and that are yet to be removed.
	dropped []string
}

func newState(id string) *state {
	return &state{
		id: id, local: map[string]*station{}, links: map[string]*station{}, peers: map[string]*peer{}, vteps: map[netip.Addr]int{},
		claimed: map[claim]*station{}, shared: map[claim][]*station{}, flood: &pipeline.Flood{}, common: map[string]bool{}, mtus: map[int]int{}, edits: newEdits(),
	}
}

// claimants are all stations that claim any of these, each once.
func (n *state) claimants(claims map[claim]bool) map[*station]bool {
	all := make(map[*station]bool, len(claims))
	for c := range claims {
		if list, ok := n.shared[c]; ok {
			for _, s := range list {
				all[s] = true
			}
		} else if s := n.claimed[c]; s != nil {
			all[s] = true
		}
	}
	return all
}

// winner is the station that has a MAC or address for itself; nil if none claims it that can be reached.
func (n *state) winner(c claim, own netip.Addr) *station {
	list, ok := n.shared[c]
	if !ok {
		if s := n.claimed[c]; s.reachable(own) {
			return s
		}
		return nil
	}
	var best *station
	for _, s := range list {
		if s.reachable(own) && (best == nil || compare(s, best) < 0) {
			best = s
		}
	}
	return best
}

// reachable leaves out peers that no tunnel reaches. A record of another host that has our address is one of ours, from before this host
// lost its identity: frames would come back in. The kernel refuses forwarding entries of the other IP family, and one such host would
// keep containers of all others from joining.
func (s *station) reachable(own netip.Addr) bool {
	return s != nil && (s.peer == nil || dataplane.TunnelBetween(own, s.peer.vtep))
}

func (n *state) claim(s *station) {
	for _, c := range s.claims() {
		if list, ok := n.shared[c]; ok {
			n.shared[c] = append(list, s)
		} else if other := n.claimed[c]; other != nil && other != s {
			n.shared[c] = []*station{other, s}
			delete(n.claimed, c)
		} else {
			n.claimed[c] = s
		}
	}
}

func (n *state) unclaim(s *station) {
	for _, c := range s.claims() {
		list, ok := n.shared[c]
		if !ok {
			delete(n.claimed, c)
			continue
		}
		list = slices.DeleteFunc(list, func(other *station) bool { return other == s })
		if n.shared[c] = list; len(list) == 1 {
			n.claimed[c] = list[0]
			delete(n.shared, c)
		}
	}
}

// flowsOf are the wanted flows of a station.
func (n *state) flowsOf(s *station, b basis) []openflow.Flow {
	if !b.active || !s.reachable(b.own) || s.local != nil && len(s.claims()) == 0 {
		return nil
	}
	wins := pipeline.Wins{
		MAC:  n.winner(macClaim(s.mac), b.own) == s,
		Addr: func(a netip.Addr) bool { return n.winner(addrClaim(a), b.own) == s },
	}
	if s.local != nil {
		return pipeline.LocalFlows(b.config, b.segment, *s.local, wins)
	}
	return pipeline.RemoteFlows(b.config, b.segment, s.peer.vtep, dataplane.PeerEndpoint{ID: s.id, MAC: s.mac, Addrs: s.addrs}, wins)
}

// wanted is flowsOf that notes how many there are.
func (n *state) wanted(s *station, b basis) []openflow.Flow {
	flows := n.flowsOf(s, b)
	n.count += len(flows) - int(s.flows)
	s.flows = uint16(len(flows))
	return flows
}

// destination is where frames for a MAC go by tunnel; the zero Addr if the network has it here, or nowhere.
func (n *state) destination(mac dataplane.MAC, own netip.Addr) netip.Addr {
	if s := n.winner(macClaim(mac), own); s != nil && s.peer != nil {
		return s.peer.vtep.Unmap()
	}
	return netip.Addr{}
}

// stations are all stations. It is a copy: the state may change while they are gone through.
func (n *state) stations() []*station {
	all := slices.Collect(maps.Values(n.local))
	for _, p := range n.peers {
		all = slices.AppendSeq(all, maps.Values(p.stations))
	}
	return all
}

// has says whether a station is still one of the network.
func (n *state) has(s *station) bool {
	if s.peer == nil {
		return n.local[s.id] == s
	}
	return n.peers[s.peer.host] == s.peer && s.peer.stations[s.id] == s
}

// maxMTU is that of the largest packets of the network's containers: those that had joined before may have a larger one than those that join now.
func (n *state) maxMTU() int {
	mtu := n.mtu
	for of := range n.mtus {
		mtu = max(mtu, of)
	}
	return mtu
}

// at are the endpoints of one of the hosts that end their tunnels at vtep.
func (n *state) at(vtep netip.Addr) map[string]*station {
	for _, p := range n.peers {
		if p.vtep.Unmap() == vtep.Unmap() {
			return p.stations
		}
	}
	return nil
}
