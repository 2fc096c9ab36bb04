package openflow

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestEqualAndKey(t *testing.T) {
	base := Flow{
		Table: 1, Priority: 2, Cookie: 3,
		Match:   Match{U16(EthType, 0x0800), Addr(IPv4Dst, ip4), U32(Reg0, 7)},
		Actions: []Action{SetField{U32(Reg1, 1)}, Output{4}}, Goto: 5,
	}
	cases := []struct {
		name             string
		change           func(*Flow)
		equal, samePlace bool
	}{
		{"same", func(*Flow) {}, true, true},
		{"order of match", func(f *Flow) { f.Match = Match{f.Match[2], f.Match[0], f.Match[1]} }, true, true},
		{"full mask", func(f *Flow) {
			f.Match = Match{f.Match[0], f.Match[1], masked(U32(Reg0, 7), 255, 255, 255, 255)}
		}, true, true},
		{"empty mask", func(f *Flow) { f.Match = append(f.Match[:3:3], masked(U32(Reg3, 7), 0, 0, 0, 0)) }, true, true},
		{"full mask in action", func(f *Flow) {
			f.Actions = []Action{SetField{masked(U32(Reg1, 1), 255, 255, 255, 255)}, Output{4}}
		}, true, true},
		{"other mask", func(f *Flow) { f.Match = Match{f.Match[0], f.Match[1], masked(U32(Reg0, 7), 0, 0, 0, 255)} }, false, false},
		{"table", func(f *Flow) { f.Table++ }, false, false},
		{"priority", func(f *Flow) { f.Priority++ }, false, false},
		{"cookie", func(f *Flow) { f.Cookie++ }, false, true},
		{"goto", func(f *Flow) { f.Goto++ }, false, true},
		{"order of actions", func(f *Flow) { f.Actions = []Action{f.Actions[1], f.Actions[0]} }, false, true},
		{"kind of action", func(f *Flow) { f.Actions = []Action{Output{4}, Output{4}} }, false, true},
		{"fewer actions", func(f *Flow) { f.Actions = f.Actions[:1] }, false, true},
		{"opaque", func(f *Flow) { f.Opaque = "action 7" }, false, true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			other := base
			tc.change(&other)
			if base.Equal(other) != tc.equal || other.Equal(base) != tc.equal {
				t.Errorf("equal: not %v for\n%v\n%v", tc.equal, base, other)
			}
			if (base.Key() == other.Key()) != tc.samePlace {
				t.Errorf("keys %q, %q", base.Key(), other.Key())
			}
			other.Cookie = base.Cookie
			mine, key := base.AppendContent([]byte("x"))
			others, otherKey := other.AppendContent([]byte("x"))
			if same := bytes.Equal(mine, others); same != base.Equal(other) {
				t.Errorf("the same content: %v for\n%v\n%v", same, base, other)
			}
			if same := bytes.Equal(mine[:1+key], others[:1+otherKey]); other.Opaque == "" && same != tc.samePlace {
				t.Errorf("the same key in the content: %v for\n%v\n%v", same, base, other)
			}
		})
	}
}

func TestVLANSpellings(t *testing.T) {
	cases := []struct {
		name      string
		tci, mask uint16
		want      string
	}{
		{"untagged", 0, 0xffff, "vlan_tci=0x0000"},
		{"untagged as the switch has it", 0, 0x1fff, "vlan_tci=0x0000"},
		{"no tag by CFI alone", 0, 0x1000, "vlan_tci=0x0000/0x1000"},
		{"priority without a tag", 0x6005, 0xffff, "vlan_tci=0x0005/0x1fff"},
		{"tag", 0x1005, 0x1fff, "vlan_tci=0x1005/0x1fff"},
		{"tag and priority", 0x7005, 0xffff, "vlan_tci=0x7005"},
		{"any", 5, 0, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			m := Match{Field{ID: VLANTCI, Value: put16(nil, tc.tci), Mask: put16(nil, tc.mask)}}
			if got := m.String(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			checkReencodes(t, Flow{Match: m.canonical()})
		})
	}
}

func TestRefusedBeforeSending(t *testing.T) {
	cases := []struct {
		name string
		flow Flow
		want string
	}{
		{"no such field", Flow{Match: Match{{ID: 200, Value: []byte{1}}}}, "field 200"},
		{"zero field", Flow{Match: Match{{}}}, "field 0"},
		{"width", Flow{Match: Match{U16(InPort, 1)}}, "in_port has 4 bytes"},
		{"width of mask", Flow{Match: Match{masked(U32(Reg0, 1), 1)}}, "mask of 1"},
		{"family", Flow{Match: Match{Addr(IPv4Src, ip6)}}, "nw_src has 4 bytes"},
		{"twice", Flow{Match: Match{U32(Reg0, 1), U32(Reg0, 2)}}, "reg0 twice"},
		{"part of a priority", Flow{Match: Match{masked(U16(VLANTCI, 0x3000), 0x30, 0)}}, "vlan_tci mask"},
		{"move of two widths", Flow{Actions: []Action{Move{EthSrc, Reg0}}}, "one width"},
		{"set nothing", Flow{Actions: set(masked(U32(Reg0, 1), 0, 0, 0, 0))}, "no bit of reg0"},
		{"nil action", Flow{Actions: []Action{nil}}, "no such action"},
		{"opaque", Flow{Opaque: "action 7"}, "action 7"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := appendFlowMod(nil, 1, mod{flow: tc.flow})
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v", err)
			}
			if tc.flow.String() == "" {
				t.Error("no text")
			}
		})
	}
}

// TestSubjectIsShort: an error that names a flood does not fill the log.
func TestSubjectIsShort(t *testing.T) {
	f := Flow{Table: 70, Actions: make([]Action, 5000)}
	for i := range f.Actions {
		f.Actions[i] = Output{uint32(i)}
	}
	_, err := appendFlowMod(nil, 1, mod{flow: f})
	if err == nil {
		t.Fatal("it is encoded")
	}
	if text := (mod{flow: f}).String(); len(text) > 700 || !strings.HasSuffix(text, "(5000 actions)") {
		t.Errorf("%d bytes: %s", len(text), text)
	}
}

func TestErrorText(t *testing.T) {
	cases := []struct {
		name string
		err  Error
		want string
	}{
		{"known", Error{Type: 4, Code: 9, Subject: "S"}, "Open vSwitch refuses S: OFPET_BAD_MATCH OFPBMC_BAD_PREREQ"},
		{"more", Error{Type: 5, Code: 1, Subject: "S", More: 2}, "Open vSwitch refuses S: OFPET_FLOW_MOD_FAILED OFPFMFC_TABLE_FULL (and 2 other changes)"},
		{"extension", Error{Type: 0xffff, Code: 12, Experimenter: nicira, Subject: "S"}, "Open vSwitch refuses S: OFPET_EXPERIMENTER NXFMFC_HARDWARE"},
		{"unknown", Error{Type: 99, Code: 98, Subject: "S"}, "Open vSwitch refuses S: error type 99 code 98"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.err.Error(); got != tc.want {
				t.Errorf("got %q", got)
			}
		})
	}
}
