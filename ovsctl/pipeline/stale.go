package pipeline

import (
	"net/netip"

	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// staleKnown is the priority in TableStale.
const staleKnown = 100

// stale takes a frame whose destination MAC no endpoint has to the endpoint that
// has its destination address, and corrects the MAC: a container that moved has
// the same address and another MAC, and its neighbours remember the old one for
// minutes. A link-local address needs no such flow: it changes with the MAC.
func stale(b *builder, v view, s station, w Wins) {
	extra, way, ok := v.way(s)
	if !ok {
		return
	}
	for _, a := range s.addrs {
		if w.addr(a) {
			b.add(openflow.Flow{
				Table: TableStale, Priority: staleKnown,
				Match:   match(fields(v.reg0()), extra, destination(a)),
				Actions: append([]openflow.Action{set(openflow.MAC(openflow.EthDst, s.mac))}, way...),
			})
		}
	}
}

func destination(a netip.Addr) []openflow.Field {
	if a.Is4() {
		return fields(ethType(ethIPv4), openflow.Addr(openflow.IPv4Dst, a))
	}
	return fields(ethType(ethIPv6), openflow.Addr(openflow.IPv6Dst, a))
}
