package pipeline

import (
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// view is a network as the tables see it: addresses cleaned, link-local ones
// added, and the way to each endpoint known.
type view struct {
	network dataplane.Network
	tunnel  tunnel
	answer  bool // Config.NDExtensions
	local   []station
	remote  []station // in the order of network.Remote
}

// station is an endpoint together with the way to it.
type station struct {
	mac dataplane.MAC
	// addrs are the addresses that it was given.
	addrs []netip.Addr
	// linkLocal is valid when any of addrs is IPv6. On networks without IPv6
	// Docker turns it off inside the containers, so there is nothing to know.
	linkLocal netip.Addr
	port      uint32     // local endpoints
	vtep      netip.Addr // remote endpoints
}

func newView(cfg Config, n dataplane.Network, devicePort uint32) view {
	v := view{network: n, tunnel: newTunnel(cfg.Tunnel, n, devicePort), answer: cfg.NDExtensions}
	for _, e := range n.Local {
		if e.Port != 0 {
			s := newStation(e.MAC, e.Addrs)
			s.port = e.Port
			v.local = append(v.local, s)
		}
	}
	for _, p := range n.Remote {
		if !p.VTEP.IsValid() {
			continue
		}
		for _, e := range p.Endpoints {
			s := newStation(e.MAC, e.Addrs)
			s.vtep = p.VTEP.Unmap()
			v.remote = append(v.remote, s)
		}
	}
	return v
}

func newStation(mac dataplane.MAC, addrs []netip.Addr) station {
	s := station{mac: mac}
	for _, a := range addrs {
		if !a.IsValid() {
			continue
		}
		a = a.Unmap().WithZone("")
		s.addrs = append(s.addrs, a)
		if a.Is6() {
			s.linkLocal = LinkLocal(mac)
		}
	}
	return s
}

// known are all addresses of the station: given and link-local.
func (s station) known() []netip.Addr {
	if !s.linkLocal.IsValid() {
		return s.addrs
	}
	return append(slices.Clip(s.addrs), s.linkLocal)
}

// reg0 matches frames of this network.
func (v view) reg0() openflow.Field { return openflow.U32(RegNetwork, v.network.VNI) }

// way is the actions that take a frame to the station and the extra match that
// they need: only frames from local ports may leave by tunnel, else two hosts
// with different ideas about a third would hand a frame to and fro for ever.
// ok is false when there is no way.
func (v view) way(s station) (extra []openflow.Field, actions []openflow.Action, ok bool) {
	if s.port != 0 {
		return nil, []openflow.Action{openflow.Output{Port: s.port}}, true
	}
	actions = v.tunnel.to(s.vtep)
	return fields(openflow.U32(RegOrigin, FromLocal)), actions, actions != nil
}

// vteps are the other hosts that have endpoints, each once: a host that came
// back under another id is there twice for a while.
func (v view) vteps() []netip.Addr {
	var vteps []netip.Addr
	seen := map[netip.Addr]bool{}
	for _, s := range v.remote {
		if !seen[s.vtep] {
			seen[s.vtep] = true
			vteps = append(vteps, s.vtep)
		}
	}
	return vteps
}

// stations are the local endpoints, then the remote ones.
func (v view) stations() []station { return append(slices.Clip(v.local), v.remote...) }

// LinkLocal is the IPv6 link-local address that a kernel derives from a MAC
// (modified EUI-64, RFC 4291 appendix A).
func LinkLocal(mac dataplane.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80,
		8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff,
		12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}
