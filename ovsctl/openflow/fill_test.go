package openflow

import (
	"errors"
	"testing"
)

func TestFill(t *testing.T) {
	sw, c := startSwitch(t)
	for _, n := range []int{0, 1, fillEach + 1, fillConns*fillEach + 7} {
		flows := manyFlows(n, 0x5350<<48|1)
		if err := Fill(deadline(t), sw.Mgmt(bridge), flows); err != nil {
			t.Fatalf("%d flows: %v", n, err)
		}
		got := flowsByKey(dump(t, c, 0x5350<<48, owner))
		if len(got) != n {
			t.Errorf("the switch has %d of %d flows", len(got), n)
		}
		for _, f := range flows {
			if !f.Equal(got[f.Key()]) {
				t.Fatalf("%d flows: got %v, want %v", n, got[f.Key()], f)
			}
		}
	}
}

func TestFillSaysWhatWasRefused(t *testing.T) {
	sw, _ := startSwitch(t)
	bad := Flow{Priority: 3, Match: Match{Addr(IPv4Dst, ip4)}} // lacks its prerequisite
	err := Fill(deadline(t), sw.Mgmt(bridge), append(manyFlows(3*fillEach, 1), bad))
	var e *Error
	if !errors.As(err, &e) || e.Subject != bad.String() {
		t.Errorf("error %v", err)
	}
	if err := Fill(deadline(t), sw.Mgmt("br9"), []Flow{{}}); err == nil {
		t.Error("a bridge that is not there took a flow")
	}
}

func flowsByKey(flows []Flow) map[string]Flow {
	byKey := make(map[string]Flow, len(flows))
	for _, f := range flows {
		byKey[f.Key()] = f
	}
	return byKey
}
