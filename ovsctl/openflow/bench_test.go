package openflow

import "testing"

// BenchmarkApplyOne is what one change of one flow costs with a real switch.
func BenchmarkApplyOne(b *testing.B) {
	_, c := startSwitch(b)
	flows := manyFlows(1, 1)
	ctx := deadline(b)
	for b.Loop() {
		if err := c.Apply(ctx, Change{Add: flows}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDump is the periodic comparison: 30,000 flows are read and put into a map.
func BenchmarkDump(b *testing.B) {
	_, c := startSwitch(b)
	apply(b, c, Change{Add: manyFlows(30_000, 1)})
	for b.Loop() {
		byKey := map[string]Flow{}
		for _, f := range dump(b, c, 0, 0) {
			byKey[f.Key()] = f
		}
	}
}
