package pipeline

import "github.com/socketplane/socketplane/ovsctl/openflow"

// Priorities of TableFlood.
const (
	floodReserved = 200
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
}

// flood copies a frame to all local endpoints (the switch leaves out the port it
// came from) and, when it began here, once to each other host. What came by
// tunnel has been sent to every host already.
func flood(b *builder, v view) {
	var here []openflow.Action
	for _, s := range v.local {
		here = append(here, openflow.Output{Port: s.port})
	}
	if len(here) == 0 {
		return // nobody to send, nobody to receive
	}
	everywhere := append(here[:len(here):len(here)], v.tunnel.to(v.vteps()...)...)
	add := func(origin uint32, actions []openflow.Action) {
		b.add(openflow.Flow{
			Table: TableFlood, Priority: floodNetwork,
			Match:   match(fields(v.reg0(), openflow.U32(RegOrigin, origin))),
			Actions: actions,
		})
	}
	add(FromLocal, everywhere)
	if v.tunnel.port != 0 {
		add(FromTunnel, here)
	}
}
