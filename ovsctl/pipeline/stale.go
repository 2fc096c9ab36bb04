package pipeline

import "github.com/socketplane/socketplane/ovsctl/openflow"

// staleKnown is the priority in TableStale.
const staleKnown = 100

// stale takes a frame whose destination MAC no endpoint has to the endpoint that
// has its destination address, and corrects the MAC: a container that moved has
// the same address and another MAC, and its neighbours remember the old one for
// minutes. A link-local address needs no such flow: it changes with the MAC.
func stale(b *builder, mac openflow.Field, place []openflow.Field, way []openflow.Action, s station, w Wins) {
	correct := set(mac)
	for _, a := range s.addrs {
		if w.addr(a) {
			kind, to := ethernetIPv4, openflow.IPv4Dst
			if a.Is6() {
				kind, to = ethernetIPv6, openflow.IPv6Dst
			}
			b.add(openflow.Flow{
				Table: TableStale, Priority: staleKnown,
				Match:   b.match(place, kind, b.addr(to, a)),
				Actions: b.do(way, correct),
			})
		}
	}
}

// ethernetIPv4 and ethernetIPv6 match the frames of a protocol.
var ethernetIPv4, ethernetIPv6 = ethType(ethIPv4), ethType(ethIPv6)
