package openflow

import (
	"encoding/binary"
	"fmt"
)

// Types of actions and instructions (OpenFlow 1.4 §7.2.4, §7.2.3) and subtypes
// of Nicira's actions (Open vSwitch, lib/ofp-actions.c).
const (
	actionOutput     = 0
	actionSetField   = 25
	actionExperiment = 0xffff

	nicira          = 0x00002320
	niciraRegMove   = 6
	niciraRegLoad   = 7
	niciraResubmit  = 14 // NXAST_RESUBMIT_TABLE
	niciraRegLoad2  = 33
	instructionGoto = 1
	instructionDo   = 4 // OFPIT_APPLY_ACTIONS
)

// sameInPort is OFPP_IN_PORT in 16 bits: a resubmit that leaves the ingress port as it is.
const sameInPort = 0xfff8

// appendInstructions appends what a flow does: apply-actions and goto-table.
func appendInstructions(b []byte, f Flow) ([]byte, error) {
	if len(f.Actions) > 0 {
		start := len(b)
		b = append(put16(b, instructionDo), 0, 0, 0, 0, 0, 0)
		for _, a := range f.Actions {
			var err error
			if b, err = appendActionWire(b, a); err != nil {
				return b, err
			}
		}
		if len(b)-start > maxMessage {
			return b, fmt.Errorf("%w: %d actions are more than a message holds", ErrInvalid, len(f.Actions))
		}
		binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	}
	if f.Goto != 0 {
		b = append(put16(put16(b, instructionGoto), 8), f.Goto, 0, 0, 0)
	}
	return b, nil
}

func appendActionWire(b []byte, a Action) ([]byte, error) {
	switch a := a.(type) {
	case Output:
		b = put32(put16(put16(b, actionOutput), 16), a.Port)
		maxLen := uint16(0) // for the controller only
		if a.Port == PortController {
			maxLen = wholeFrame
		}
		return append(put16(b, maxLen), 0, 0, 0, 0, 0, 0), nil
	case SetField:
		return appendSetField(b, a.Field)
	case Move:
		return appendMove(b, a)
	case Resubmit:
		b = put16(put32(put16(put16(b, actionExperiment), 16), nicira), niciraResubmit)
		return append(put16(b, sameInPort), a.Table, 0, 0, 0), nil
	default:
		return b, fmt.Errorf("%w: no such action: %T", ErrInvalid, a)
	}
}

// appendSetField uses OpenFlow's set_field, which has no masks before 1.5, and
// Nicira's extension for those.
func appendSetField(b []byte, f Field) ([]byte, error) {
	info, err := f.check()
	if err != nil {
		return b, err
	}
	if f = f.canonical(); f.matchesAll() {
		return b, fmt.Errorf("%w: set_field of no bit of %s", ErrInvalid, info.action)
	}
	start := len(b)
	if f.Mask == nil {
		b = put16(put16(b, actionSetField), 0)
	} else {
		b = put16(put32(put16(put16(b, actionExperiment), 0), nicira), niciraRegLoad2)
	}
	return endAction(appendOXM(b, info.code, f.Value, f.Mask), start), nil
}

func appendMove(b []byte, m Move) ([]byte, error) {
	src, okSrc := m.Src.info()
	dst, okDst := m.Dst.info()
	if !okSrc || !okDst || src.width != dst.width {
		return b, fmt.Errorf("%w: move of %v to %v: both must exist and have one width", ErrInvalid, m.Src, m.Dst)
	}
	start := len(b)
	b = put16(put32(put16(put16(b, actionExperiment), 0), nicira), niciraRegMove)
	b = put16(b, uint16(src.width*8))
	b = put32(b, 0) // both from bit 0
	b = put32(b, src.code|uint32(src.width))
	b = put32(b, dst.code|uint32(dst.width))
	return endAction(b, start), nil
}

// endAction pads an action that begins at start and writes its length.
func endAction(b []byte, start int) []byte {
	b = pad8(b, start)
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

// decodeInstructions reads a flow's instructions into f. What it does not know
// makes f opaque.
func decodeInstructions(b []byte, f *Flow) error {
	for len(b) > 0 {
		kind, body, rest, err := nextTLV(b, "instruction")
		if err != nil {
			return err
		}
		b = rest
		switch {
		case kind == instructionGoto && len(body) == 4 && body[0] != 0:
			f.Goto = body[0]
		case kind == instructionDo && len(body) >= 4:
			if err := decodeActions(body[4:], f); err != nil {
				return err
			}
		default:
			f.Opaque = fmt.Sprintf("instruction %d", kind)
		}
	}
	return nil
}

func decodeActions(b []byte, f *Flow) error {
	for len(b) > 0 {
		kind, body, rest, err := nextTLV(b, "action")
		if err != nil {
			return err
		}
		b = rest
		a, opaque := decodeAction(kind, body)
		if opaque != "" {
			f.Opaque = opaque
			continue
		}
		f.Actions = append(f.Actions, a)
	}
	return nil
}

// nextTLV cuts off the first element of a list whose elements begin with a type
// and a length that counts these four bytes too.
func nextTLV(b []byte, what string) (kind uint16, body, rest []byte, err error) {
	if len(b) < 4 {
		return 0, nil, nil, fmt.Errorf("%w: %s of %d bytes", ErrProtocol, what, len(b))
	}
	n := int(be16(b[2:]))
	if n < 8 || n > len(b) {
		return 0, nil, nil, fmt.Errorf("%w: %s of length %d with %d bytes left", ErrProtocol, what, n, len(b))
	}
	return be16(b), b[4:n:n], b[n:], nil
}

func decodeAction(kind uint16, body []byte) (a Action, opaque string) {
	switch kind {
	case actionOutput:
		if len(body) == 12 {
			return Output{Port: be32(body)}, ""
		}
	case actionSetField:
		if f, ok := decodeSetField(body); ok {
			return SetField{f}, ""
		}
	case actionExperiment:
		if len(body) >= 6 && be32(body) == nicira {
			return decodeNicira(be16(body[4:]), body[6:])
		}
	}
	return nil, fmt.Sprintf("action %d", kind)
}

func decodeSetField(b []byte) (Field, bool) {
	o, rest, err := nextOXM(b)
	if err != nil || len(rest) >= 8 {
		return Field{}, false
	}
	f, ok := o.field()
	return f, ok && !f.matchesAll()
}

func decodeNicira(subtype uint16, body []byte) (a Action, opaque string) {
	switch subtype {
	case niciraRegLoad2:
		if f, ok := decodeSetField(body); ok {
			return SetField{f}, ""
		}
	case niciraRegLoad:
		if f, ok := decodeRegLoad(body); ok {
			return SetField{f}, ""
		}
	case niciraResubmit:
		if len(body) == 6 && be16(body) == sameInPort {
			return Resubmit{Table: body[2]}, ""
		}
	case niciraRegMove:
		if m, ok := decodeMove(body); ok {
			return m, ""
		}
	}
	return nil, fmt.Sprintf("Nicira action %d", subtype)
}

// decodeRegLoad reads the older form in which others set up to 64 bits.
func decodeRegLoad(b []byte) (Field, bool) {
	if len(b) != 14 {
		return Field{}, false
	}
	offset, count := int(be16(b)>>6), int(be16(b)&0x3f)+1
	header, value := be32(b[2:]), be64(b[6:])
	id := fieldByCode(header & codeMask)
	info, ok := id.info()
	if !ok || int(header&lengthMask) != info.width || offset+count > info.width*8 {
		return Field{}, false
	}
	f := Field{ID: id, Value: make([]byte, info.width), Mask: make([]byte, info.width)}
	for i := range count {
		at, bit := info.width-1-(offset+i)/8, byte(1)<<((offset+i)%8)
		f.Mask[at] |= bit
		if value>>i&1 != 0 {
			f.Value[at] |= bit
		}
	}
	return f.canonical(), true
}

func decodeMove(b []byte) (Move, bool) {
	if len(b) < 14 || be32(b[2:]) != 0 {
		return Move{}, false
	}
	bits, from, to := int(be16(b)), be32(b[6:]), be32(b[10:])
	m := Move{Src: fieldByCode(from & codeMask), Dst: fieldByCode(to & codeMask)}
	src, okSrc := m.Src.info()
	dst, okDst := m.Dst.info()
	return m, okSrc && okDst && bits == src.width*8 && bits == dst.width*8 && len(b) < 22
}
