package pipeline

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
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
type builder struct {
	flows []openflow.Flow
	// What the flows that lead to an endpoint consist of, in few allocations: a comparison of all flows computes 300,000. Nothing of it is ever changed.
	fields  []openflow.Field
	actions []openflow.Action
	values  []byte
}

// newBuilder makes a builder with room for what leads to an endpoint with one IPv4 address.
func newBuilder() *builder {
	return &builder{
		flows: make([]openflow.Flow, 0, 3), fields: make([]openflow.Field, 0, 12), actions: make([]openflow.Action, 0, 12), values: make([]byte, 0, 48),
	}
}

func (b *builder) add(f openflow.Flow) { b.flows = append(b.flows, f) }

// match keeps fields as the match of one flow, before those of its place. In the order of their ids the switch's form of it need not be computed.
func (b *builder) match(place []openflow.Field, f ...openflow.Field) openflow.Match {
	start := len(b.fields)
	b.fields = append(append(b.fields, f...), place...)
	return openflow.Match(b.fields[start:len(b.fields):len(b.fields)])
}

// do keeps actions as those of one flow, before those of the way.
func (b *builder) do(way []openflow.Action, a ...openflow.Action) []openflow.Action {
	start := len(b.actions)
	b.actions = append(append(b.actions, a...), way...)
	return b.actions[start:len(b.actions):len(b.actions)]
}

// field keeps the value that is at the end of values, from start on.
func (b *builder) field(id openflow.FieldID, start int) openflow.Field {
	return openflow.Field{ID: id, Value: b.values[start:len(b.values):len(b.values)]}
}

func (b *builder) u32(id openflow.FieldID, v uint32) openflow.Field {
	b.values = binary.BigEndian.AppendUint32(b.values, v)
	return b.field(id, len(b.values)-4)
}

func (b *builder) mac(id openflow.FieldID, v dataplane.MAC) openflow.Field {
	b.values = append(b.values, v[:]...)
	return b.field(id, len(b.values)-len(v))
}

func (b *builder) addr(id openflow.FieldID, a netip.Addr) openflow.Field {
	start := len(b.values)
	if a.Is4() {
		four := a.As4()
		b.values = append(b.values, four[:]...)
	} else {
		sixteen := a.As16()
		b.values = append(b.values, sixteen[:]...)
	}
	return b.field(id, start)
}

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
