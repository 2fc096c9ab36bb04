package driver

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
)

// TestIndex compares what the index finds with what a look at all endpoints finds, after each of many changes.
func TestIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	n := &segment{endpoints: map[string]*endpoint{}, index: newIndex()}
	mac := func() dataplane.MAC { return dataplane.MAC{2, 0, 0, 0, 0, byte(r.IntN(5))} }
	prefix := func() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(5))}), 24) }
	for i := range 2000 {
		id := fmt.Sprint(r.IntN(20))
		switch e := n.endpoints[id]; {
		case e == nil:
			n.add(&endpoint{ID: id, MAC: mac(), Addrs: []netip.Prefix{prefix(), prefix()}, Joined: r.IntN(2) == 0, Deleting: r.IntN(2) == 0})
		case r.IntN(3) == 0:
			n.drop(e)
		default:
			next := *e
			next.Joined, next.Deleting = r.IntN(2) == 0, r.IntN(2) == 0
			n.replace(e, next)
		}
		compareIndex(t, i, n)
	}
}

func compareIndex(t *testing.T, step int, n *segment) {
	t.Helper()
	macs, addrs, deleting, joined := map[dataplane.MAC]int{}, map[netip.Prefix]int{}, 0, 0
	for id, e := range n.endpoints {
		macs[e.MAC]++
		if !slices.Contains(n.index.macs[e.MAC], e) {
			t.Fatalf("step %d: endpoint %s is not found by its MAC", step, id)
		}
		for _, a := range e.Addrs {
			addrs[a]++
			if !slices.Contains(n.index.addrs[a], e) {
				t.Fatalf("step %d: endpoint %s is not found by %s", step, id, a)
			}
		}
		if e.Deleting {
			deleting++
		}
		if e.Joined {
			joined++
		}
		if (n.index.deleting[id] == e) != e.Deleting {
			t.Fatalf("step %d: endpoint %s: deleting %t, the index says otherwise", step, id, e.Deleting)
		}
	}
	counts(t, step, "MAC", macs, n.index.macs)
	counts(t, step, "address", addrs, n.index.addrs)
	if n.joined != joined {
		t.Fatalf("step %d: %d endpoints have joined, want %d", step, n.joined, joined)
	}
	if len(n.index.deleting) != deleting {
		t.Fatalf("step %d: the index has %d endpoints that are being removed, there are %d", step, len(n.index.deleting), deleting)
	}
}

func counts[K comparable](t *testing.T, step int, what string, want map[K]int, got map[K][]*endpoint) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("step %d: the index has %d entries by %s, want %d", step, len(got), what, len(want))
	}
	for k, n := range want {
		if len(got[k]) != n {
			t.Fatalf("step %d: %s %v has %d endpoints in the index, want %d", step, what, k, len(got[k]), n)
		}
	}
}
