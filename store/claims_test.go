package store_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/socketplane/socketplane/store"
)

func testClaims(w *world) {
	a, b, five := w.host("a"), w.host("b"), addr("10.1.0.5")
	w.wants(a.Claim(w.ctx, poolA, five, store.HostOwner("a")), store.ErrNotFound, poolA.String())
	w.wants(a.Keep(w.ctx, poolA, five), store.ErrNotFound, poolA.String())
	w.empty()
	_, err := a.AcquirePool(w.ctx, poolA)
	w.must(err)
	w.must(a.PutHost(w.ctx, store.Host{Name: "alpha"}))

	w.must(a.Claim(w.ctx, poolA, five, store.HostOwner("a")))
	before := w.dump()
	w.wants(b.Claim(w.ctx, poolA, five, store.HostOwner("b")), store.ErrTaken, five.String(), "host alpha")
	w.wants(a.Claim(w.ctx, poolA, five, store.HostOwner("a")), store.ErrTaken, five.String(), "host alpha") // another container
	w.wants(b.Keep(w.ctx, poolA, five), store.ErrTaken)
	w.wants(b.Claim(w.ctx, poolA, five, store.NetworkOwner()), store.ErrTaken)
	w.must(a.Keep(w.ctx, poolA, five))
	w.must(b.Unclaim(w.ctx, poolA, store.HostOwner("b"), five, addr("10.1.0.6"), addr("10.1.0.200"))) // not b's
	if after := w.dump(); !slices.Equal(after, before) {
		w.Fatalf("refused requests changed %q to %q", before, after)
	}

	w.must(a.Claim(w.ctx, poolA, addr("10.1.0.7"), store.NetworkOwner()))
	w.must(b.Claim(w.ctx, poolA, addr("10.1.0.7"), store.NetworkOwner())) // on all hosts
	w.wants(b.Claim(w.ctx, poolA, addr("10.1.0.7"), store.HostOwner("b")), store.ErrTaken, "network itself")
	w.must(b.Claim(w.ctx, poolA, addr("10.1.0.70"), store.HostOwner("b")))
	w.must(b.Keep(w.ctx, poolA, addr("10.1.0.71")))
	want := []string{"10.1.0.5=a", "10.1.0.70=b", "10.1.0.71=b", "10.1.0.7=network"} // as text
	if got := w.claims(poolA); !slices.Equal(got, want) {
		w.Fatalf("claims are %q, want %q", got, want)
	}
	for range 2 {
		w.must(b.Unclaim(w.ctx, poolA, store.HostOwner("b"), addr("10.1.0.70"), addr("10.1.0.71"), five))
	}
	if got := w.claims(poolA); !slices.Equal(got, []string{want[0], want[3]}) {
		w.Fatalf("claims are %q", got)
	}
	w.wants(b.Claim(w.ctx, poolA, five, store.HostOwner("b")), store.ErrTaken)
	if got := b.OwnerName(w.ctx, store.HostOwner("nobody")); got != "host nobody" {
		w.Errorf("an unknown host is called %q", got)
	}
}

// testClaimsRace: hosts that claim everything at once never have the same address.
func testClaimsRace(w *world) {
	const hosts = 16
	pool := netip.MustParsePrefix("10.1.0.0/25")
	_, err := w.host("holder").AcquirePool(w.ctx, pool)
	w.must(err)
	var mu sync.Mutex
	owner := map[netip.Addr]string{}
	w.together(hosts, func(i int, c *store.Cluster) {
		a := pool.Addr()
		for range (i * 8) % 128 { // each begins elsewhere
			a = a.Next()
		}
		for range 128 {
			err := c.Claim(w.ctx, pool, a, store.HostOwner(c.Host()))
			mu.Lock()
			switch {
			case err == nil && owner[a] != "":
				w.Errorf("%s was given to %s and %s", a, owner[a], c.Host())
			case err == nil:
				owner[a] = c.Host()
			case !errors.Is(err, store.ErrTaken):
				w.Error(err)
			}
			mu.Unlock()
			if a = a.Next(); !pool.Contains(a) {
				a = pool.Addr()
			}
		}
	})
	var want []string
	for a, o := range owner {
		want = append(want, fmt.Sprintf("%s=%s", a, o))
	}
	slices.Sort(want)
	if got := w.claims(pool); len(got) != 128 || !slices.Equal(got, want) {
		w.Fatalf("%d claims, want 128: the records say %q, the winners %q", len(got), got, want)
	}
}

func testBlockBoundaries(w *world) {
	for _, c := range []struct{ pool, addr, block string }{
		{"10.1.0.0/24", "10.1.0.63", "10.1.0.0/26"},
		{"10.1.0.0/24", "10.1.0.64", "10.1.0.64/26"},
		{"10.1.0.16/28", "10.1.0.31", "10.1.0.16/28"},
		{"10.1.0.4/30", "10.1.0.6", "10.1.0.4/30"},
		{"10.1.0.4/32", "10.1.0.4", "10.1.0.4/32"},
		{"fd00::/64", "fd00::ffff", "fd00::ffc0/122"},
		{"fd00::/127", "fd00::1", "fd00::/127"},
	} {
		if got := store.BlockOf(netip.MustParsePrefix(c.pool), addr(c.addr)); got != netip.MustParsePrefix(c.block) {
			w.Errorf("%s of %s is in block %s, want %s", c.addr, c.pool, got, c.block)
		}
	}
}

func testGateway(w *world) {
	a, b := w.host("a"), w.host("b")
	w.wants(a.SetGateway(w.ctx, poolA, addr("10.1.0.1")), store.ErrNotFound)
	_, err := a.AcquirePool(w.ctx, poolA)
	w.must(err)
	w.must(a.Claim(w.ctx, poolA, addr("10.1.0.9"), store.HostOwner("a")))
	w.wants(a.SetGateway(w.ctx, poolA, addr("10.1.0.9")), store.ErrTaken)
	w.must(a.Claim(w.ctx, poolA, addr("10.1.0.1"), store.NetworkOwner())) // was an auxiliary address
	for _, c := range []*store.Cluster{a, a, b} {
		w.must(c.SetGateway(w.ctx, poolA, addr("10.1.0.1")))
	}
	before := w.dump()
	w.wants(b.SetGateway(w.ctx, poolA, addr("10.1.0.2")), store.ErrMismatch, "--gateway 10.1.0.1")
	if after := w.dump(); !slices.Equal(after, before) {
		w.Fatalf("a refused gateway changed %q to %q", before, after)
	}
	if got, want := w.claims(poolA), []string{"10.1.0.1=network", "10.1.0.9=a"}; !slices.Equal(got, want) {
		w.Fatalf("claims are %q, want %q", got, want)
	}
	// Hosts that choose differently at once agree on one.
	_, err = b.AcquirePool(w.ctx, poolB)
	w.must(err)
	w.together(8, func(i int, c *store.Cluster) {
		gw := netip.AddrFrom4([4]byte{10, 2, 0, byte(i + 1)})
		if err := c.SetGateway(w.ctx, poolB, gw); err != nil && !errors.Is(err, store.ErrMismatch) {
			w.Error(err)
		}
	})
	p, err := a.Pool(w.ctx, poolB)
	w.must(err)
	if got, want := w.claims(poolB), []string{p.Gateway.String() + "=network"}; !slices.Equal(got, want) {
		w.Fatalf("claims are %q, want %q", got, want)
	}
}
