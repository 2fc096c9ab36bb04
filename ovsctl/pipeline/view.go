package pipeline

import (
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// view is a network as the tables see it.
type view struct {
	vni    uint32
	tunnel tunnel
	answer bool // Config.NDExtensions
}

// station is an endpoint together with the way to it.
type station struct {
	mac dataplane.MAC
	// addrs are the addresses that it was given, each once.
	addrs []netip.Addr
	// linkLocal is valid when any of addrs is IPv6. On networks without IPv6
	// Docker turns it off inside the containers, so there is nothing to know.
	linkLocal netip.Addr
	port      uint32     // local endpoints
	vtep      netip.Addr // remote endpoints
}

func newView(cfg Config, s Segment) view {
	return view{vni: s.VNI, tunnel: newTunnel(cfg.Tunnel, s), answer: cfg.NDExtensions}
}

func newStation(mac dataplane.MAC, addrs []netip.Addr) station {
	s := station{mac: mac}
	for _, a := range addrs {
		if a = a.Unmap().WithZone(""); !a.IsValid() || slices.Contains(s.addrs, a) {
			continue
		}
		s.addrs = append(s.addrs, a)
		if a.Is6() {
			s.linkLocal = LinkLocal(mac)
		}
	}
	return s
}

// Addresses are all addresses by which an endpoint is found: those that it was given, in the form in which Wins is
// asked for them, and its link-local one if any of them is IPv6. Each is there once.
func Addresses(mac dataplane.MAC, given []netip.Addr) []netip.Addr {
	return newStation(mac, given).known()
}

// known are all addresses of the station: given and link-local.
func (s station) known() []netip.Addr {
	if !s.linkLocal.IsValid() || slices.Contains(s.addrs, s.linkLocal) {
		return s.addrs
	}
	return append(slices.Clip(s.addrs), s.linkLocal)
}

// reg0 matches frames of this network.
func (v view) reg0() openflow.Field { return openflow.U32(RegNetwork, v.vni) }

// way is the actions that take a frame to the station; ok is false when there is no way.
func (v view) way(s station) (actions []openflow.Action, ok bool) {
	if s.port != 0 {
		return []openflow.Action{openflow.Output{Port: s.port}}, true
	}
	actions = v.tunnel.to(s.vtep)
	return actions, actions != nil
}

// LinkLocal is the IPv6 link-local address that a kernel derives from a MAC
// (modified EUI-64, RFC 4291 appendix A).
func LinkLocal(mac dataplane.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80,
		8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff,
		12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}
