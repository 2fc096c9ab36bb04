package openflow

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"net/netip"
	"strconv"
)

// String is the flow as ovs-ofctl would take it, the match in canonical order.
// An opaque flow says what is not known of it instead of its actions.
func (f Flow) String() string {
	b := f.appendPlace(make([]byte, 0, 256))
	b = append(b, ", cookie=0x"...)
	b = strconv.AppendUint(b, f.Cookie, 16)
	if match := f.appendMatch(nil); len(match) > 0 {
		b = append(append(b, ", "...), match...)
	}
	b = append(b, " actions="...)
	if f.Opaque != "" {
		return string(append(append(append(b, '?', '('), f.Opaque...), ')'))
	}
	return string(f.appendActions(b))
}

// String is the match as in Flow.String.
func (m Match) String() string { return string(Flow{Match: m}.appendMatch(nil)) }

func (f Flow) appendPlace(b []byte) []byte {
	b = strconv.AppendUint(append(b, "table="...), uint64(f.Table), 10)
	return strconv.AppendUint(append(b, ", priority="...), uint64(f.Priority), 10)
}

func (f Flow) appendKey(b []byte) []byte {
	b = f.appendPlace(b)
	n := len(b)
	if b = f.appendMatch(append(b, ", "...)); len(b) == n+2 {
		return b[:n] // matches everything
	}
	return b
}

func (f Flow) appendMatch(b []byte) []byte {
	if f.rawMatch != nil {
		return hex.AppendEncode(append(b, "oxm="...), f.rawMatch)
	}
	for i, field := range f.Match.canonical() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, field.ID.String()...), '=')
		b = field.appendValue(b)
	}
	return b
}

func (f Flow) appendActions(b []byte) []byte {
	if len(f.Actions) == 0 && f.Goto == 0 {
		return append(b, "drop"...)
	}
	for _, a := range f.Actions {
		b = append(appendAction(b, a), ',')
	}
	if f.Goto == 0 {
		return b[:len(b)-1]
	}
	return strconv.AppendUint(append(b, "goto_table:"...), uint64(f.Goto), 10)
}

func appendAction(b []byte, a Action) []byte {
	switch a := a.(type) {
	case Output:
		switch a.Port {
		case PortIn:
			return append(b, "IN_PORT"...)
		case PortLocal:
			return append(b, "LOCAL"...)
		case PortController:
			return append(b, "CONTROLLER:65535"...)
		}
		return strconv.AppendUint(append(b, "output:"...), uint64(a.Port), 10)
	case SetField:
		b = a.canonical().appendValue(append(b, "set_field:"...))
		return append(append(b, "->"...), a.ID.actionName()...)
	case Move:
		b = append(append(b, "move:"...), a.Src.actionName()...)
		return append(append(b, "[]->"...), a.Dst.actionName()+"[]"...)
	case Resubmit:
		return append(strconv.AppendUint(append(b, "resubmit(,"...), uint64(a.Table), 10), ')')
	default:
		return append(b, '?')
	}
}

// String is the field's name in a match, as ovs-ofctl has it.
func (id FieldID) String() string {
	if f, ok := id.info(); ok {
		return f.match
	}
	return "field" + strconv.Itoa(int(id))
}

func (id FieldID) actionName() string {
	if f, ok := id.info(); ok {
		return f.action
	}
	return id.String()
}

// String is "name=value" or "name=value/mask" as in Flow.String.
func (f Field) String() string {
	return string(f.canonical().appendValue([]byte(f.ID.String() + "=")))
}

func (f Field) appendValue(b []byte) []byte {
	info, ok := f.ID.info()
	if !ok || len(f.Value) != info.width || f.Mask != nil && len(f.Mask) != info.width {
		b = hex.AppendEncode(append(b, "?0x"...), f.Value) // It will be refused; this is for the message.
		return b
	}
	format := info.format
	if format == decimal && f.Mask != nil {
		format = hex4
	}
	b = appendFormatted(b, f.Value, format)
	if f.Mask == nil {
		return b
	}
	b = append(b, '/')
	if n, ok := prefixLength(f.Mask); ok && format == address {
		return strconv.AppendInt(b, int64(n), 10)
	}
	return appendFormatted(b, f.Mask, format)
}

func appendFormatted(b, v []byte, format format) []byte {
	switch format {
	case ethernet:
		for i, x := range v {
			if i > 0 {
				b = append(b, ':')
			}
			b = hex.AppendEncode(b, []byte{x})
		}
		return b
	case address:
		a, _ := netip.AddrFromSlice(v)
		return a.AppendTo(b)
	case hexadecimal:
		return strconv.AppendUint(append(b, "0x"...), number(v), 16)
	case hex4:
		return hex.AppendEncode(append(b, "0x"...), v)
	default:
		return strconv.AppendUint(b, number(v), 10)
	}
}

// number is the value of up to eight bytes.
func number(v []byte) uint64 {
	var wide [8]byte
	copy(wide[8-min(len(v), 8):], v)
	return binary.BigEndian.Uint64(wide[:])
}

// prefixLength says how many leading bits a mask has if it has no others.
func prefixLength(mask []byte) (int, bool) {
	n := 0
	for i, m := range mask {
		ones := bits.LeadingZeros8(^m)
		n += ones
		if ones == 8 {
			continue
		}
		if m<<ones != 0 {
			return 0, false
		}
		for _, rest := range mask[i+1:] {
			if rest != 0 {
				return 0, false
			}
		}
		break
	}
	return n, true
}
