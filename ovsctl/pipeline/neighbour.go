package pipeline

import (
	"net/netip"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// Priorities of TableNeighbour.
const (
	neighbourBareGroup = 130
	neighbourBare      = 120
	neighbourSelf      = 110
	neighbourAnswer    = 100
	neighbourUnknown   = 50
	neighbourMiss      = 0
)

// baseNeighbour keeps every question and every announcement away from the flood:
// who is where is known here, so an unanswered question has no answer.
func baseNeighbour(b *builder) {
	drop := func(priority uint16, m openflow.Match) {
		b.add(openflow.Flow{Table: TableNeighbour, Priority: priority, Match: m})
	}
	// A solicitation without a link-layer option can't be turned into an
	// advertisement that has one. To a unicast address it is a probe of what the
	// asker knows already (RFC 4861, section 7.2.4 has it answered without the
	// option), and its target answers for itself; to a group it is malformed.
	bare := match(nd(icmpNeighbourSolicit), fields(openflow.MAC(openflow.NDSLL, [6]byte{})))
	drop(neighbourBareGroup, match(bare, fields(toGroup())))
	b.add(openflow.Flow{Table: TableNeighbour, Priority: neighbourBare, Match: bare, Goto: next(TableNeighbour, laneSent)})

	drop(neighbourUnknown, match(fields(ethType(ethARP), openflow.U16(openflow.ARPOp, arpRequest))))
	drop(neighbourUnknown, match(fields(ethType(ethARP), toGroup())))
	drop(neighbourUnknown, match(icmpv6(icmpNeighbourSolicit)))
	drop(neighbourUnknown, match(icmpv6(icmpNeighbourAdvert), fields(toGroup())))
	b.add(openflow.Flow{Table: TableNeighbour, Priority: neighbourMiss, Goto: next(TableNeighbour, laneSent)})
}

// neighbourSelfs keeps an endpoint's questions for its own addresses unanswered: it
// announces them or looks for a rival, and an answer would look like one.
func neighbourSelfs(b *builder, v view, s station) {
	for _, a := range s.known() {
		b.add(openflow.Flow{
			Table: TableNeighbour, Priority: neighbourSelf,
			Match: match(fields(v.reg0(), openflow.U32(openflow.InPort, s.port)), question(a)),
		})
	}
}

// neighbour answers for the station's addresses, by turning the question round.
// Only frames from local ports come here: each host answers its own endpoints.
func neighbour(b *builder, network []openflow.Field, v view, s station, w Wins) {
	for _, a := range s.known() {
		if !w.addr(a) {
			continue
		}
		f := openflow.Flow{Table: TableNeighbour, Priority: neighbourAnswer}
		if a.Is4() {
			f.Match = b.match(network, arpQuestion[0], arpQuestion[1], b.addr(openflow.ARPTPA, a))
		} else {
			f.Match = match(question(a), network)
		}
		switch {
		case a.Is4():
			f.Actions = replyARP(b, a, s.mac)
		case v.answer:
			f.Actions, f.Goto = advertise(a, s.mac), next(TableNeighbour, laneAnswer)
		default:
			f.Actions, f.Goto = direct(s.mac), next(TableNeighbour, laneSentIPv6)
		}
		b.add(f)
	}
}

// arpQuestion matches whoever asks for an IPv4 address; which one is left open.
var arpQuestion = [2]openflow.Field{ethType(ethARP), openflow.U16(openflow.ARPOp, arpRequest)}

// question matches whoever asks for an address.
func question(a netip.Addr) []openflow.Field {
	if a.Is4() {
		return fields(arpQuestion[0], arpQuestion[1], openflow.Addr(openflow.ARPTPA, a))
	}
	return append(nd(icmpNeighbourSolicit), openflow.Addr(openflow.NDTarget, a))
}

// toAsker, and what follows, are the same for all answers to ARP.
var (
	toAsker     openflow.Action = openflow.Move{Src: openflow.EthSrc, Dst: openflow.EthDst}
	isReply                     = set(openflow.U16(openflow.ARPOp, arpReply))
	askersMAC   openflow.Action = openflow.Move{Src: openflow.ARPSHA, Dst: openflow.ARPTHA}
	askersAddr  openflow.Action = openflow.Move{Src: openflow.ARPSPA, Dst: openflow.ARPTPA}
	backWhereIn openflow.Action = openflow.Output{Port: openflow.PortIn}
)

func replyARP(b *builder, a netip.Addr, mac dataplane.MAC) []openflow.Action {
	return b.do(nil, toAsker, set(b.mac(openflow.EthSrc, mac)), isReply, askersMAC, askersAddr,
		set(b.mac(openflow.ARPSHA, mac)), set(b.addr(openflow.ARPSPA, a)), backWhereIn)
}

// advertise begins the answer to a solicitation: all that differs from endpoint
// to endpoint. TableAdvertise does the rest.
func advertise(a netip.Addr, mac dataplane.MAC) []openflow.Action {
	return []openflow.Action{
		toAsker,
		set(openflow.MAC(openflow.EthSrc, mac)),
		openflow.Move{Src: openflow.IPv6Src, Dst: openflow.IPv6Dst},
		set(openflow.Addr(openflow.IPv6Src, a)),
		set(openflow.U8(openflow.ICMPv6Type, icmpNeighbourAdvert)),
	}
}

// direct takes a solicitation to its target, which answers by itself: to the
// kernel there the group in the IP header counts, not the frame's address.
func direct(mac dataplane.MAC) []openflow.Action {
	return []openflow.Action{set(openflow.MAC(openflow.EthDst, mac))}
}
