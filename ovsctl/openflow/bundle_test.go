package openflow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// manyFlows are n flows of the kind that an endpoint has.
func manyFlows(n int, cookie uint64) []Flow {
	flows := make([]Flow, 0, n)
	for i := range n {
		mac := [6]byte{0x02, 0x42}
		binary.BigEndian.PutUint32(mac[2:], uint32(i))
		flows = append(flows, Flow{
			Table: 3, Priority: 100, Cookie: cookie,
			Match: Match{U32(Reg0, uint32(i%100)), MAC(EthDst, mac)},
			Actions: []Action{
				SetField{U64(TunnelID, uint64(i%100))}, SetField{U32(TunIPv4Dst, uint32(i))}, Output{1},
			},
		})
	}
	return flows
}

func TestThirtyThousandFlows(t *testing.T) {
	sw, c := startSwitch(t)
	const n = 30_000
	flows := manyFlows(n, 0x5350<<48|1)
	start := time.Now()
	apply(t, c, Change{Add: flows})
	applied := time.Since(start)
	if got := strings.Count(sw.Ofctl("dump-flows", bridge), "cookie="); got != n {
		t.Errorf("ovs-ofctl counts %d flows", got)
	}

	start = time.Now()
	got := dump(t, c, 0x5350<<48, owner)
	dumped := time.Since(start)
	want := make(map[string]Flow, n)
	for _, f := range flows {
		want[f.Key()] = f
	}
	for _, f := range got {
		if !f.Equal(want[f.Key()]) {
			t.Fatalf("got %v, want %v", f, want[f.Key()])
		}
	}
	if len(got) != n {
		t.Errorf("dump has %d flows", len(got))
	}
	start = time.Now()
	for i := range flows {
		flows[i].Cookie++
	}
	apply(t, c, Change{Add: flows})
	replaced := time.Since(start)
	start = time.Now()
	if err := c.DeleteCookie(deadline(t), 0x5350<<48, owner); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d flows: apply %v, dump %v, replace %v, delete %v", n, applied, dumped, replaced, time.Since(start))
	// A second on two quiet cores; the bound is for machines that are neither.
	if applied > 10*time.Second {
		t.Errorf("apply took %v", applied)
	}
}

func TestBundleIsAllOrNothing(t *testing.T) {
	_, c := startSwitch(t)
	old := Flow{Table: 1, Priority: 1, Cookie: 9, Actions: []Action{Output{1}}}
	good := Flow{Table: 1, Priority: 2, Cookie: 1, Match: Match{U32(Reg0, 1)}}
	apply(t, c, Change{Add: []Flow{old}})
	cases := []struct {
		name string
		bad  Flow
		code string
	}{
		{"lacks prerequisite", Flow{Priority: 3, Match: Match{Addr(IPv4Dst, ip4)}}, "OFPET_BAD_MATCH OFPBMC_BAD_PREREQ"},
		{"sets in_port", Flow{Priority: 3, Actions: set(U32(InPort, 1))}, "OFPET_BAD_ACTION OFPBAC_BAD_SET_ARGUMENT"},
		{"goes back", Flow{Table: 5, Priority: 3, Goto: 4}, "OFPET_BAD_INSTRUCTION OFPBIC_BAD_TABLE_ID"},
		{"table out of range", Flow{Table: 255}, "OFPET_FLOW_MOD_FAILED OFPFMFC_BAD_TABLE_ID"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			err := c.Apply(deadline(t), Change{Delete: []Flow{old}, Add: []Flow{good, tc.bad, good, tc.bad}})
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v", err)
			}
			if e.Subject != tc.bad.String() || !strings.Contains(e.Error(), tc.code) {
				t.Errorf("error %v", e)
			}
			if got := texts(dump(t, c, 0, 0)); len(got) != 1 || got[0] != old.String() {
				t.Errorf("flows changed: %v", got)
			}
		})
	}
	t.Run("not encodable", func(t *testing.T) {
		err := c.Apply(deadline(t), Change{Delete: []Flow{old}, Add: []Flow{{Match: Match{U16(InPort, 1)}}}})
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("error %v", err)
		}
		if got := texts(dump(t, c, 0, 0)); len(got) != 1 || got[0] != old.String() {
			t.Errorf("flows changed: %v", got)
		}
	})
}

func TestDeletes(t *testing.T) {
	_, c := startSwitch(t)
	flow := func(priority uint16, cookie uint64) Flow { return Flow{Table: 1, Priority: priority, Cookie: cookie} }
	const ours = uint64(0x5350 << 48)
	all := []Flow{flow(1, ours|1), flow(2, ours|2), flow(3, ours|3), flow(4, 0x77), flow(5, 0)}
	cases := []struct {
		name   string
		delete func() error
		left   []Flow
	}{
		{"by key and cookie", func() error {
			return c.Apply(deadline(t), Change{Delete: []Flow{all[0], flow(2, ours|9), flow(9, ours)}})
		}, all[1:]},
		{"by key alone", func() error { return c.Apply(deadline(t), Change{Delete: []Flow{flow(1, 0)}}) }, all[1:]},
		{"by owner", func() error { return c.DeleteCookie(deadline(t), ours, owner) }, all[3:]},
		{"older generations", func() error {
			n, err := c.DeleteOlder(deadline(t), ours|3, owner)
			if n != 2 {
				t.Errorf("found %d older flows", n)
			}
			return err
		}, all[2:]},
		{"then add the same", func() error { return c.Apply(deadline(t), Change{Delete: all, Add: all[:1]}) }, all[:1]},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			apply(t, c, Change{Add: all})
			if err := tc.delete(); err != nil {
				t.Fatal(err)
			}
			if got, want := texts(dump(t, c, 0, 0)), texts(tc.left); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("left %v, want %v", got, want)
			}
		})
	}
	if err := c.DeleteCookie(deadline(t), 0, 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("delete everything: %v", err)
	}
}

func TestOthersFlowsAreOpaque(t *testing.T) {
	sw, c := startSwitch(t)
	for _, f := range []string{
		"priority=1,cookie=1,actions=NORMAL", // a reserved port is an output like any other
		"priority=2,cookie=2,tcp,tcp_flags=+syn,actions=output:1",
		"priority=3,cookie=3,actions=learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),output:1",
		"priority=4,cookie=4,actions=write_metadata:1",
		"priority=5,cookie=5,idle_timeout=100,actions=output:1",
		"priority=6,cookie=6,metadata=7,reg0=1,actions=output:1",
		"priority=7,cookie=7,actions=load:5->NXM_NX_REG0[4..7],move:NXM_NX_REG0[0..3]->NXM_NX_REG1[0..3]",
		"priority=8,cookie=8,reg4=1,actions=load:5->NXM_NX_REG0[4..7]",
		"priority=9,cookie=9,ct_state=+trk,ip,actions=ct(commit,zone=1,nat(src=10.0.0.1)),group:1",
	} {
		if strings.Contains(f, "group:1") {
			sw.Ofctl("add-group", bridge, "group_id=1,type=all,bucket=output:1")
		}
		sw.Ofctl("add-flow", bridge, f)
	}
	flows := dump(t, c, 0, 0)
	keys := map[string]bool{}
	for _, f := range flows {
		keys[f.Key()] = true
		if f.Table != 0 || uint64(f.Priority) != f.Cookie {
			t.Errorf("table, priority or cookie is lost: %v", f)
		}
		if opaque := f.Cookie != 1; opaque != (f.Opaque != "") || opaque == f.Equal(f) {
			t.Errorf("%v: opaque %q, equals itself %v", f, f.Opaque, f.Equal(f))
		}
		if err := c.Apply(deadline(t), Change{Add: []Flow{f}}); (f.Opaque == "") != (err == nil) {
			t.Errorf("add %v: %v", f, err)
		}
	}
	if len(keys) != 9 {
		t.Errorf("%d keys", len(keys))
	}
	apply(t, c, Change{Delete: flows})
	if left := dump(t, c, 0, 0); len(left) != 0 {
		t.Errorf("not deleted: %v", texts(left))
	}
}

func TestThousandOutputs(t *testing.T) {
	_, c := startSwitch(t)
	f := Flow{Table: 4, Cookie: 1}
	for i := range 1000 {
		f.Actions = append(f.Actions, Output{uint32(i + 1)})
	}
	apply(t, c, Change{Add: []Flow{f}})
	if got := dump(t, c, 0, 0); len(got) != 1 || !got[0].Equal(f) {
		t.Errorf("got %v", got)
	}
	for range 4000 {
		f.Actions = append(f.Actions, Output{1})
	}
	if err := c.Apply(deadline(t), Change{Add: []Flow{f}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("5000 outputs: %v", err)
	}
}
