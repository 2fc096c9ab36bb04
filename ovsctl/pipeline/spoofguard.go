package pipeline

import "github.com/socketplane/socketplane/ovsctl/openflow"

// Priorities of TableSpoofGuard.
const (
	guardOwn      = 100 // a protocol with addresses, and they are the endpoint's
	guardProtocol = 90  // a protocol with addresses: they are not
	guardOther    = 50  // any other protocol: the MAC is all there is to check
)

// baseSpoofGuard stops the protocols whose addresses no endpoint's flow knew.
// Among them are ARP probes, whose sender is 0.0.0.0: addresses are given out
// centrally, so an endpoint that asks whether its own is free hears nothing.
func baseSpoofGuard(b *builder) {
	for _, t := range []uint16{ethIPv4, ethARP, ethIPv6} {
		b.add(openflow.Flow{
			Table: TableSpoofGuard, Priority: guardProtocol,
			Match: match(fields(ethType(t))),
		})
	}
}

// spoofGuard lets an endpoint's frames pass when they are untagged, from its own
// MAC and, for protocols that carry addresses, from its own address.
func spoofGuard(b *builder, v view, s station) {
	own := fields(v.reg0(), openflow.U32(openflow.InPort, s.port),
		openflow.MAC(openflow.EthSrc, s.mac), openflow.U16(openflow.VLANTCI, 0))
	pass := func(priority uint16, l lane, more ...openflow.Field) {
		b.add(openflow.Flow{
			Table: TableSpoofGuard, Priority: priority,
			Match: match(own, more), Goto: next(TableSpoofGuard, l),
		})
	}
	for _, a := range s.known() {
		if a.Is6() {
			pass(guardOwn, laneSentIPv6, ethType(ethIPv6), openflow.Addr(openflow.IPv6Src, a))
			continue
		}
		pass(guardOwn, laneSent, ethType(ethIPv4), openflow.Addr(openflow.IPv4Src, a))
		pass(guardOwn, laneSent, ethType(ethARP),
			openflow.MAC(openflow.ARPSHA, s.mac), openflow.Addr(openflow.ARPSPA, a))
	}
	pass(guardOther, laneSent)
}
