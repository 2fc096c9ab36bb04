package hostlink

import "testing"

// TestNamesAreLookedAtWithoutAllocations: each message of the kernel about a link, and each list of links, looks at names.
func TestNamesAreLookedAtWithoutAllocations(t *testing.T) {
	for _, c := range []struct {
		name          string
		ours, foreign bool
	}{
		{"sph0123456789ab", true, false},
		{"spc0123456789ab", true, false},
		{"spx0123456789ab", true, false},
		{"enx0123456789ab", false, false}, // a USB NIC
		{"sph0123456789a", false, false},
		{"sph0123456789AB", false, false},
		{"docker0", false, true},
		{"docker01", false, false},
		{"docker_gwbridge", false, true},
		{"br-0123456789ab", false, true},
		{"br-lan", false, false},
		{"veth1a2b3c4", false, true},
		{"socketplane0", false, true},
		{"ovs-netdev", false, true},
		{"eth0", false, false},
	} {
		if ours, foreign := looksLikeOurs(c.name), foreignSwitch(c.name); ours != c.ours || foreign != c.foreign {
			t.Errorf("%s: ours %t, a switch's %t; want %t and %t", c.name, ours, foreign, c.ours, c.foreign)
		}
		// The mean of many: what goroutines of other tests allocate meanwhile is counted, too.
		if n := testing.AllocsPerRun(10000, func() { looksLikeOurs(c.name); foreignSwitch(c.name) }); n > 0 {
			t.Errorf("%s: a look takes %v allocations", c.name, n)
		}
	}
}
