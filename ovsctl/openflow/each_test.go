package openflow

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
)

// TestEach: one dump gives each flow once, holds none, and what is kept of it is a copy; the switch counts the same.
func TestEach(t *testing.T) {
	_, c := startSwitch(t)
	const n, owner = 3000, uint64(7 << 32)
	apply(t, c, Change{Add: append(manyFlows(n, owner), caseFlows()...)})
	want := dump(t, c, owner, owner)
	before := c.Counts()
	var got []Flow
	if err := c.Each(deadline(t), owner, owner, func(f Flow) { got = append(got, f.Clone()) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) || !slices.Equal(texts(got), texts(want)) {
		t.Errorf("%d flows, %d in the dump", len(got), len(want))
	}
	if now := c.Counts(); now.Dumps != before.Dumps+1 || now.DumpedFlows != before.DumpedFlows+uint64(len(got)) {
		t.Errorf("counts %+v, before %+v", now, before)
	}
	if counted, err := c.Count(deadline(t), owner, owner); err != nil || counted != len(got) {
		t.Errorf("the switch counts %d of %d: %v", counted, len(got), err)
	}
	if counted, err := c.Count(deadline(t), 1<<63, 1<<63); err != nil || counted != 0 {
		t.Errorf("the switch counts %d where there are none: %v", counted, err)
	}
}

// TestEachThatWasGivenUp calls its visitor no more when it has returned.
func TestEachThatWasGivenUp(t *testing.T) {
	_, c := startSwitch(t)
	apply(t, c, Change{Add: manyFlows(5000, 1)})
	ctx, cancel := context.WithCancel(deadline(t))
	var returned atomic.Bool
	err := c.Each(ctx, 0, 0, func(Flow) {
		cancel()
		if returned.Load() {
			t.Error("called after it returned")
		}
	})
	returned.Store(true)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := dump(t, c, 0, 0); len(got) != 5000 {
		t.Errorf("the next dump has %d flows", len(got))
	}
}

// TestClone: a copy of each kind of flow is equal and shares nothing.
func TestClone(t *testing.T) {
	for _, f := range caseFlows() {
		f = f.Clone() // the cases are those of other tests too
		text := f.String()
		c := f.Clone()
		if !c.Equal(f) && f.Opaque == "" {
			t.Errorf("the copy of %s is %s", f, c)
		}
		for _, m := range f.Match {
			clear(m.Value)
			clear(m.Mask)
		}
		for _, a := range f.Actions {
			if set, ok := a.(SetField); ok {
				clear(set.Value)
			}
		}
		if c.String() != text {
			t.Errorf("the copy of %s became %s", text, c)
		}
	}
}
