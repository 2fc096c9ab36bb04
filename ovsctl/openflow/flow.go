package openflow

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Flow is one entry of a flow table, as a plain value.
type Flow struct {
	Table    uint8
	Priority uint16
	Cookie   uint64
	Match    Match
	// Actions are applied in order; none means drop unless Goto is set.
	Actions []Action
	// Goto is the table that the packet goes on to after Actions; 0 is none
	// (nothing ever goes back to table 0).
	Goto uint8
	// Opaque is set in flows that come from the switch only: what this package
	// can't express in them, such as an action of somebody else's. Such a flow
	// has its table, priority, cookie and Key and can be deleted, but equals no
	// other flow and can't be added.
	Opaque string

	// rawMatch is the OXM list as it came, if Opaque is due to the match.
	rawMatch []byte
}

// Clone is a copy that shares no memory with f: one that came from the switch keeps its whole message.
func (f Flow) Clone() Flow {
	f.Match, f.Actions = slices.Clone(f.Match), slices.Clone(f.Actions)
	for i := range f.Match {
		f.Match[i] = f.Match[i].clone()
	}
	for i, a := range f.Actions {
		if set, ok := a.(SetField); ok {
			f.Actions[i] = SetField{set.clone()}
		}
	}
	f.rawMatch = bytes.Clone(f.rawMatch)
	return f
}

func (f Field) clone() Field {
	f.Value, f.Mask = bytes.Clone(f.Value), bytes.Clone(f.Mask)
	return f
}

// FieldID names a packet or pipeline field, independent of its wire form.
type FieldID uint8

// The fields that our pipeline matches or sets (ovs-fields(7)).
const (
	InPort FieldID = iota + 1
	EthDst
	EthSrc
	EthType
	VLANTCI // the whole tag with the CFI bit (0x1000) set; 0 is "untagged"
	IPProto
	IPv4Src
	IPv4Dst
	ARPOp
	ARPSPA
	ARPTPA
	ARPSHA
	ARPTHA
	IPv6Src
	IPv6Dst
	ICMPv6Type
	ICMPv6Code
	NDTarget
	NDSLL
	NDTLL
	NDReserved    // OVS extension: the flags word of a neighbour advertisement
	NDOptionsType // OVS extension: the type of its link-layer address option
	UDPSrc
	UDPDst
	TunnelID
	TunIPv4Src
	TunIPv4Dst
	TunIPv6Src
	TunIPv6Dst
	Reg0
	Reg1
	Reg2
	Reg3
)

// Field is a field with a value, and a mask where not every bit counts.
// Value and Mask have the field's wire length, big-endian.
type Field struct {
	ID    FieldID
	Value []byte
	Mask  []byte // nil: exact
}

// Match is the conjunction of its fields; the order has no meaning.
type Match []Field

// Action is one of Output, SetField, Move, Resubmit.
type Action interface{ isAction() }

// Output sends the packet to a port. The ingress port is silently left out by
// the switch unless it is named as PortIn.
type Output struct{ Port uint32 }

// PortIn is OFPP_IN_PORT in OpenFlow 1.1+: back to where the packet came from.
const PortIn = 0xfffffff8

// PortLocal is OFPP_LOCAL: the bridge's own port.
const PortLocal = 0xfffffffe

// PortController is OFPP_CONTROLLER: whole frames to the connections that called Conn.Listen.
const PortController = 0xfffffffd

// SetField overwrites a field (with a mask: the bits of the mask only).
type SetField struct{ Field }

// Move copies the whole of one field to another of the same width.
type Move struct{ Src, Dst FieldID }

// Resubmit looks the packet up in a table, carries out what the flow there says, and comes back: what that changed in
// the packet stays changed. Open vSwitch allows 4,096 for one packet, 64 within each other (ofproto-dpif-xlate.c). It is Nicira's extension.
type Resubmit struct{ Table uint8 }

func (Output) isAction()   {}
func (Resubmit) isAction() {}
func (SetField) isAction() {}
func (Move) isAction()     {}

// U8, U16, U32 and U64 make exact fields of those widths.
func U8(id FieldID, v uint8) Field { return Field{ID: id, Value: []byte{v}} }

// U16 makes an exact 16-bit field.
func U16(id FieldID, v uint16) Field {
	return Field{ID: id, Value: binary.BigEndian.AppendUint16(nil, v)}
}

// U32 makes an exact 32-bit field.
func U32(id FieldID, v uint32) Field {
	return Field{ID: id, Value: binary.BigEndian.AppendUint32(nil, v)}
}

// U64 makes an exact 64-bit field.
func U64(id FieldID, v uint64) Field {
	return Field{ID: id, Value: binary.BigEndian.AppendUint64(nil, v)}
}

// MAC makes an exact Ethernet address field.
func MAC(id FieldID, v [6]byte) Field { return Field{ID: id, Value: v[:]} }

// MaskedMAC makes an Ethernet address field in which only the mask's bits count.
func MaskedMAC(id FieldID, v, mask [6]byte) Field {
	return Field{ID: id, Value: v[:], Mask: mask[:]}
}

// Addr makes an exact IPv4 or IPv6 address field.
func Addr(id FieldID, a netip.Addr) Field { return Field{ID: id, Value: a.AsSlice()} }
