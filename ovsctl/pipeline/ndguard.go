package pipeline

import (
	"net/netip"

	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// Priorities of TableNDGuard.
const (
	ndBroken  = 110
	ndOwn     = 100
	ndForeign = 90
	ndOther   = 0
)

// baseNDGuard stops everything of neighbour discovery that no endpoint's flow
// vouches for. Routers are made by us, not by containers, so nobody may advertise
// one, redirect to one, or has reason to look for one.
func baseNDGuard(b *builder) {
	for _, t := range []uint8{
		icmpRouterSolicit, icmpRouterAdvert, icmpNeighbourSolicit, icmpNeighbourAdvert, icmpRedirect,
	} {
		b.add(openflow.Flow{Table: TableNDGuard, Priority: ndForeign, Match: match(icmpv6(t))})
	}
	// When the options can't be parsed (one that occurs twice, say) the switch
	// shows target and options as zero, and zero options look like none. No true
	// solicitation asks for the zero address.
	b.add(openflow.Flow{
		Table: TableNDGuard, Priority: ndBroken,
		Match: match(nd(icmpNeighbourSolicit),
			fields(openflow.Addr(openflow.NDTarget, netip.IPv6Unspecified()))),
	})
	b.add(openflow.Flow{Table: TableNDGuard, Priority: ndOther, Goto: next(TableNDGuard, laneSentIPv6)})
}

// ndGuard lets an endpoint solicit with its own link-layer address or none
// (absent reads as zero), and advertise its own addresses with the same.
func ndGuard(b *builder, v view, s station) {
	if !s.linkLocal.IsValid() {
		return
	}
	pass := func(typ uint8, more ...openflow.Field) {
		b.add(openflow.Flow{
			Table: TableNDGuard, Priority: ndOwn, Goto: next(TableNDGuard, laneSentIPv6),
			Match: match(fields(v.reg0(), openflow.U32(openflow.InPort, s.port)), nd(typ), more),
		})
	}
	for _, option := range [][6]byte{s.mac, {}} {
		pass(icmpNeighbourSolicit, openflow.MAC(openflow.NDSLL, option))
		for _, a := range s.known() {
			if a.Is6() {
				pass(icmpNeighbourAdvert, openflow.Addr(openflow.NDTarget, a),
					openflow.MAC(openflow.NDTLL, option))
			}
		}
	}
}
