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
func stale(b *builder, v view) {
	local := map[netip.Addr]bool{}
	for _, s := range v.local {
		for _, a := range s.addrs {
			local[a] = true
		}
	}
	for _, s := range v.stations() {
		extra, way, ok := v.way(s)
		if !ok {
			continue
		}
		for _, a := range s.addrs {
			if s.port == 0 && local[a] {
				continue // its match differs (RegOrigin), so the builder can't tell
			}
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
