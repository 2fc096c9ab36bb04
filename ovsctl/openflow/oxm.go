package openflow

import (
	"encoding/binary"
	"fmt"
)

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

func put16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func put32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func put64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// pad8 fills with zeros so that b[start:] has a multiple of eight bytes.
func pad8(b []byte, start int) []byte {
	for (len(b)-start)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

const matchTypeOXM = 1 // OFPMT_OXM

// appendMatch appends an ofp_match: type, length without padding, OXM fields.
func appendMatch(b []byte, f Flow) ([]byte, error) {
	start := len(b)
	b = put16(put16(b, matchTypeOXM), 0)
	if f.rawMatch != nil {
		b = append(b, f.rawMatch...)
	} else {
		var last FieldID
		for i, field := range f.Match.canonical() {
			if i > 0 && field.ID == last {
				return b, fmt.Errorf("%w: it matches %v twice", ErrInvalid, field.ID)
			}
			last = field.ID
			var err error
			if b, err = appendMatchField(b, field); err != nil {
				return b, err
			}
		}
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return pad8(b, start), nil
}

// appendMatchField appends one canonical field of a match.
func appendMatchField(b []byte, f Field) ([]byte, error) {
	info, err := f.check()
	if err != nil {
		return b, err
	}
	if f.ID == VLANTCI {
		return appendVLAN(b, f)
	}
	return appendOXM(b, info.code, f.Value, f.Mask), nil
}

// check says whether the field exists and has the right width.
func (f Field) check() (fieldInfo, error) {
	info, ok := f.ID.info()
	if !ok {
		return info, fmt.Errorf("%w: there is no field %d", ErrInvalid, f.ID)
	}
	if len(f.Value) != info.width || f.Mask != nil && len(f.Mask) != info.width {
		return info, fmt.Errorf("%w: %s has %d bytes, not %d with a mask of %d",
			ErrInvalid, info.match, info.width, len(f.Value), len(f.Mask))
	}
	return info, nil
}

func appendOXM(b []byte, code uint32, value, mask []byte) []byte {
	header := code | uint32(len(value)+len(mask))
	if mask != nil {
		header |= hasMask
	}
	b = put32(b, header)
	b = append(b, value...)
	return append(b, mask...)
}

// appendVLAN spells a tag as the switch reports it, by id and priority: the
// switch takes the NXM field too, but takes it for another match than what it
// reports, and a flow that was read back could then not be deleted.
func appendVLAN(b []byte, f Field) ([]byte, error) {
	tci, mask, _ := f.vlan()
	if vid := mask & vlanVID; vid == vlanVID {
		b = appendOXM(b, codeVLANVID, put16(nil, tci&vlanVID), nil)
	} else if vid != 0 {
		b = appendOXM(b, codeVLANVID, put16(nil, tci&vlanVID), put16(nil, vid))
	}
	switch pcp := mask & vlanPCP; {
	case pcp == 0 || mask == 0xffff && tci == 0: // The canonical "untagged" matches no priority.
	case pcp == vlanPCP && tci&vlanCFI != 0:
		b = appendOXM(b, codeVLANPCP, []byte{byte(tci >> 13)}, nil)
	default:
		return b, fmt.Errorf("%w: vlan_tci mask 0x%04x: a priority is matched as a whole and with the CFI bit", ErrInvalid, mask)
	}
	return b, nil
}

// oxm is one element of an OXM list.
type oxm struct {
	code        uint32
	value, mask []byte // mask is nil if there is none
}

// nextOXM cuts the first element off a list. The value aliases b.
func nextOXM(b []byte) (o oxm, rest []byte, err error) {
	if len(b) < 4 {
		return o, nil, fmt.Errorf("%w: OXM header of %d bytes", ErrProtocol, len(b))
	}
	header := be32(b)
	n := int(header & lengthMask)
	if b = b[4:]; len(b) < n {
		return o, nil, fmt.Errorf("%w: OXM 0x%08x has %d bytes left", ErrProtocol, header, len(b))
	}
	o.code, o.value, rest = header&codeMask, b[:n:n], b[n:]
	if header&hasMask != 0 {
		if n%2 != 0 {
			return o, nil, fmt.Errorf("%w: OXM 0x%08x has an odd length with its mask", ErrProtocol, header)
		}
		o.value, o.mask = b[:n/2:n/2], b[n/2:n:n]
	}
	return o, rest, nil
}

// field makes a Field of the element; false if it is none of ours.
func (o oxm) field() (Field, bool) {
	id := fieldByCode(o.code)
	info, ok := id.info()
	if !ok || len(o.value) != info.width {
		return Field{}, false
	}
	return Field{ID: id, Value: o.value, Mask: o.mask}.canonical(), true
}

// decodeMatch reads the OXM list of a match, and appends it to m, which is empty. Unknown fields make it opaque.
func decodeMatch(b []byte, m Match) (match Match, opaque string, err error) {
	var tci, tciMask uint16
	var seen [len(fields)]bool
	for len(b) > 0 {
		var o oxm
		if o, b, err = nextOXM(b); err != nil {
			return nil, "", err
		}
		switch {
		case o.code == codeVLANVID && len(o.value) == 2:
			tci |= be16(o.value) & vlanVID
			tciMask |= vlanVID
			if o.mask != nil {
				tciMask &= be16(o.mask)
			}
			continue
		case o.code == codeVLANPCP && len(o.value) == 1 && o.mask == nil:
			tci |= uint16(o.value[0]) << 13
			tciMask |= vlanPCP
			continue
		}
		f, ok := o.field()
		if !ok || seen[f.ID] {
			opaque = fmt.Sprintf("OXM class 0x%04x field %d in the match", o.code>>16, o.code>>numberShift&0x7f)
			continue
		}
		seen[f.ID] = true
		m = append(m, f)
	}
	if tciMask != 0 {
		f := Field{ID: VLANTCI, Value: put16(nil, tci), Mask: put16(nil, tciMask)}.canonical()
		if _, err := appendVLAN(nil, f); err != nil || seen[VLANTCI] {
			opaque = "vlan tag of two kinds"
		}
		m = append(m, f)
	}
	return m.canonical(), opaque, nil
}
