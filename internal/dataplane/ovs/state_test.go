package ovs

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
)

// TestMaxMTU compares the largest MTU, which is counted, with that of all endpoints after each of many changes.
func TestMaxMTU(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	n := newState("network-a")
	n.mtu = 1300
	for i := range 1000 {
		id := fmt.Sprint(r.IntN(8))
		var e *dataplane.Endpoint
		if r.IntN(3) > 0 {
			e = &dataplane.Endpoint{ID: id, MAC: dataplane.MAC{2, 0, 0, 0, 0, id[0]}, HostLink: "sph" + id, Port: 1 + uint32(id[0]), MTU: 1200 + 100*r.IntN(4), Attached: r.IntN(2) == 0}
		}
		n.setLocal(id, e)
		want := n.mtu
		for _, s := range n.local {
			if s.local.Attached {
				want = max(want, s.local.MTU)
			}
		}
		if got := n.maxMTU(); got != want {
			t.Fatalf("step %d: %d, want %d", i, got, want)
		}
	}
}
