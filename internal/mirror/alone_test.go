package mirror_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// TestOneNetworksTrouble: what is wrong with one network is that network's trouble, told once, and no other's.
func TestOneNetworksTrouble(t *testing.T) {
	in(t, 2, func(w *world) {
		w.hosts[1].docker.refuses = map[string]bool{"refused": true}
		all := w.all()
		// A declaration and a network's record that can't be read.
		w.must(w.kv.KV.Apply(w.ctx,
			store.Op{Kind: store.OpPut, Key: store.DeclaredKey("broken"), Value: []byte("{")},
			store.Op{Kind: store.OpPut, Key: store.DeclaredKey("torn"), Value: store.Encode(store.Mention{Schema: store.Schema, Name: "torn"})},
			store.Op{Kind: store.OpPut, Key: store.NetworkKey("torn"), Value: []byte("]")},
		))
		big := ours("big", subnet("10.1.0.0/24"))
		big.Labels = map[string]string{"document": strings.Repeat("x", 300<<10)}
		all[0].creates(big)
		all[0].creates(ours("refused", subnet("10.2.0.0/24")))
		all[0].creates(ours("web", subnet("10.3.0.0/24")))
		w.have(all[:1], "big", "refused", "web")
		w.have(all[1:], "web")
		all[0].wantTrouble("big", "bytes, more than")
		all[1].wantTrouble("refused", "docker refuses: not here")
		for _, h := range all {
			h.wantTrouble("declarations", "broken", "not readable")
			h.wantTrouble("torn", "torn", "not readable")
		}
		// Everything else goes on.
		all[1].creates(ours("late"))
		w.have(all[:1], "big", "late", "refused", "web")
		w.have(all[1:], "late", "web")
		_, err := all[0].cluster.Create(w.ctx, store.NewNetwork{Name: "cli", Pools: []netip.Prefix{netip.MustParsePrefix("10.5.0.0/24")}})
		w.must(err)
		w.have(all[1:], "cli", "late", "web")
		all[1].docker.mu.Lock()
		all[1].docker.refuses = nil
		all[1].docker.mu.Unlock()
		w.have(all[1:], "cli", "late", "refused", "web")
		all[1].removes("refused")
		w.have(all[:1], "big", "cli", "late", "web")
		if asked := all[1].docker.askedFor("torn"); asked > 0 {
			t.Errorf("docker is asked %d times for a network that can't be read", asked)
		}
	})
}

func (e *engine) askedFor(name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, a := range e.asked {
		if a == name {
			n++
		}
	}
	return n
}

// TestFamilies: a copy has the IP families of the original.
func TestFamilies(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		six := ours("six", subnet("fd00:9::/64"))
		six.IPv6 = true
		both := ours("both", subnet("10.9.0.0/24"), subnet("fd00:a::/64"))
		both.IPv6 = true
		all[0].creates(six)
		all[0].creates(both)
		all[1].creates(ours("four", subnet("10.10.0.0/24")))
		w.have(all, "both", "four", "six")
		for _, name := range []string{"both", "four", "six"} {
			if got, want := all[1].network(name), all[0].network(name); got != want {
				t.Errorf("h2 has\n%s\nh1 has\n%s", got, want)
			}
		}
		_, err := all[0].cluster.Create(w.ctx, store.NewNetwork{Name: "cli", Pools: []netip.Prefix{netip.MustParsePrefix("fd00:b::/64")},
			Declaration: store.Declaration{IPv6: true}})
		w.must(err)
		w.have(all, "both", "cli", "four", "six")
		if n, err := all[1].docker.Named(w.ctx, "cli"); err != nil || len(n.Subnets) != 1 || !n.IPv6 || !slices.Equal(all[1].docker.names("socketplane"), []string{"both", "cli", "four", "six"}) {
			t.Errorf("cli is %+v, %v", n, err)
		}
	})
}
