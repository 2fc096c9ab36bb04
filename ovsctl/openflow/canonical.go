package openflow

import (
	"bytes"
	"slices"
)

// Key identifies a flow within a switch: table, priority and match, in text
// form. Two flows with one key replace each other.
func (f Flow) Key() string {
	return string(f.appendKey(make([]byte, 0, 128)))
}

// Equal says whether the switch would do the same with either flow and both have
// the same cookie. The order of the match's fields and the spelling of masks do
// not matter; an opaque flow equals nothing.
func (f Flow) Equal(g Flow) bool {
	if f.Opaque != "" || g.Opaque != "" {
		return false
	}
	return f.Table == g.Table && f.Priority == g.Priority && f.Cookie == g.Cookie && f.Goto == g.Goto &&
		slices.EqualFunc(f.Match.canonical(), g.Match.canonical(), equalField) &&
		slices.EqualFunc(f.Actions, g.Actions, equalAction)
}

// AppendContent appends all of a flow but its cookie: flows that are Equal but for their cookies give the same bytes, and others give others.
// The first key bytes of what it appends are the same for flows with the same Key, and others for others.
// The form is this program's own and may change. Opaque flows have none: nothing is appended.
func (f Flow) AppendContent(b []byte) (content []byte, key int) {
	if f.Opaque != "" {
		return b, 0
	}
	start := len(b)
	b = put16(append(b, f.Table), f.Priority)
	for _, field := range f.Match.canonical() {
		b = field.appendContent(b)
	}
	b = append(b, 0) // no field has that ID
	key = len(b) - start
	b = append(b, f.Goto)
	for _, a := range f.Actions {
		switch a := a.(type) {
		case Output:
			b = put32(append(b, 'o'), a.Port)
		case SetField:
			b = a.canonical().appendContent(append(b, 's'))
		case Move:
			b = append(b, 'm', byte(a.Src), byte(a.Dst))
		case Resubmit:
			b = append(b, 'r', a.Table)
		}
	}
	return b, key
}

func (f Field) appendContent(b []byte) []byte {
	b = append(b, byte(f.ID), byte(len(f.Value)), byte(len(f.Mask)))
	return append(append(b, f.Value...), f.Mask...)
}

func equalAction(a, b Action) bool {
	x, ok := a.(SetField)
	if !ok {
		return a == b // Output and Move are comparable; a SetField b differs in type.
	}
	y, ok := b.(SetField)
	return ok && equalField(x.canonical(), y.canonical())
}

func equalField(a, b Field) bool {
	return a.ID == b.ID && bytes.Equal(a.Value, b.Value) && bytes.Equal(a.Mask, b.Mask)
}

// canonical is the match as the switch would report it: in the order of FieldID,
// in which prerequisites come before what needs them, without fields that match
// anything and without masks that mask nothing.
func (m Match) canonical() Match {
	if m.isCanonical() {
		return m
	}
	out := make(Match, 0, len(m))
	for _, f := range m {
		if f = f.canonical(); !f.matchesAll() {
			out = append(out, f)
		}
	}
	for i := range out { // few, and mostly in order
		for j := i; j > 0 && out[j].ID < out[j-1].ID; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return out
}

// isCanonical says whether a match is plainly canonical, as that of nearly every flow is.
func (m Match) isCanonical() bool {
	for i, f := range m {
		if f.Mask != nil || f.ID == VLANTCI || i > 0 && f.ID < m[i-1].ID {
			return false
		}
	}
	return true
}

// canonical drops a full mask and the value's bits outside the mask. Fields of a
// wrong width stay as they are: the encoder refuses them.
func (f Field) canonical() Field {
	if f.ID == VLANTCI {
		f = f.canonicalVLAN()
	}
	if f.Mask == nil || len(f.Mask) != len(f.Value) {
		return f
	}
	if allOnes(f.Mask) {
		f.Mask = nil
		return f
	}
	value := make([]byte, len(f.Value))
	for i := range value {
		value[i] = f.Value[i] & f.Mask[i]
	}
	f.Value = value
	return f
}

// VLAN tag bits in a TCI.
const (
	vlanVID = 0x1fff // the id with the CFI bit
	vlanCFI = 0x1000
	vlanPCP = 0xe000
)

// canonicalVLAN drops the priority bits where no tag is matched: without a tag
// there is no priority, and the switch reports none. It leaves one spelling of
// "untagged", which has no mask.
func (f Field) canonicalVLAN() Field {
	tci, mask, ok := f.vlan()
	if !ok || mask&vlanCFI == 0 || tci&vlanCFI != 0 {
		return f
	}
	if mask &= vlanVID; mask == vlanVID && tci&vlanVID == 0 {
		return U16(VLANTCI, 0)
	}
	return Field{ID: VLANTCI, Value: put16(nil, tci&mask), Mask: put16(nil, mask)}
}

func (f Field) vlan() (tci, mask uint16, ok bool) {
	if len(f.Value) != 2 || f.Mask != nil && len(f.Mask) != 2 {
		return 0, 0, false
	}
	mask = 0xffff
	if f.Mask != nil {
		mask = be16(f.Mask)
	}
	return be16(f.Value) & mask, mask, true
}

func (f Field) matchesAll() bool {
	return f.Mask != nil && len(f.Mask) == len(f.Value) && !slices.ContainsFunc(f.Mask, func(b byte) bool { return b != 0 })
}

func allOnes(b []byte) bool {
	return !slices.ContainsFunc(b, func(x byte) bool { return x != 0xff })
}
