package pipeline

import (
	"slices"

	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// Ethertypes, IP protocols and message types that the tables match
// (IANA; RFC 826, 4861).
const (
	ethIPv4 uint16 = 0x0800
	ethARP  uint16 = 0x0806
	ethIPv6 uint16 = 0x86dd

	protoICMPv6 uint8 = 58

	arpRequest uint16 = 1
	arpReply   uint16 = 2

	icmpRouterSolicit    uint8 = 133
	icmpRouterAdvert     uint8 = 134
	icmpNeighbourSolicit uint8 = 135
	icmpNeighbourAdvert  uint8 = 136
	icmpRedirect         uint8 = 137
)

// groupBit is the bit that marks an Ethernet address as multicast or broadcast.
var groupBit = [6]byte{0: 1}

// builder collects flows.
type builder struct{ flows []openflow.Flow }

func (b *builder) add(f openflow.Flow) { b.flows = append(b.flows, f) }

// match joins fields to a match of its own, so that no two flows share a slice.
func match(parts ...[]openflow.Field) openflow.Match {
	return slices.Concat(parts...)
}

func fields(f ...openflow.Field) []openflow.Field { return f }

func ethType(t uint16) openflow.Field { return openflow.U16(openflow.EthType, t) }

func toGroup() openflow.Field { return openflow.MaskedMAC(openflow.EthDst, groupBit, groupBit) }

// icmpv6 matches one ICMPv6 type, whatever its code.
func icmpv6(typ uint8) []openflow.Field {
	return fields(ethType(ethIPv6), openflow.U8(openflow.IPProto, protoICMPv6),
		openflow.U8(openflow.ICMPv6Type, typ))
}

// nd matches a well-formed neighbour discovery message; only with code 0 does
// the switch look for target and options.
func nd(typ uint8) []openflow.Field {
	return append(icmpv6(typ), openflow.U8(openflow.ICMPv6Code, 0))
}

func set(f openflow.Field) openflow.Action { return openflow.SetField{Field: f} }
