package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/socketplane/socketplane/store"
)

func testPools(w *world) {
	a, b := w.host("a"), w.host("b")
	for range 2 { // acquiring is idempotent
		p, err := a.AcquirePool(w.ctx, poolA)
		w.must(err)
		if !slices.Equal(w.holders(poolA), []string{"a"}) || p.CIDR != poolA {
			w.Fatalf("pool is %+v", p)
		}
	}
	p, err := b.AcquirePool(w.ctx, poolA)
	w.must(err)
	if !slices.Equal(w.holders(poolA), []string{"a", "b"}) {
		w.Fatalf("pool is %+v", p)
	}
	for _, overlapping := range []string{"10.1.0.0/16", "10.1.0.128/25", "0.0.0.0/0"} {
		_, err = b.AcquirePool(w.ctx, netip.MustParsePrefix(overlapping))
		w.wants(err, store.ErrOverlap, poolA.String(), overlapping)
	}
	_, err = b.MakePool(w.ctx, poolA)
	w.wants(err, store.ErrOverlap, poolA.String())
	_, err = a.Pool(w.ctx, poolB)
	w.wants(err, store.ErrNotFound, poolB.String())
	w.must(a.Claim(w.ctx, poolA, addr("10.1.0.9"), store.HostOwner("a")))
	w.must(a.ReleasePool(w.ctx, poolA))
	w.must(a.ReleasePool(w.ctx, poolA))
	w.must(a.ReleasePool(w.ctx, poolB)) // unknown
	if got := w.claims(poolA); len(got) != 1 {
		w.Fatalf("claims of a pool that b holds: %q", got)
	}
	w.must(b.ReleasePool(w.ctx, poolA))
	w.empty()
}

// testOverlapRace: of hosts that want overlapping subnets at once, one gets its own.
func testOverlapRace(w *world) {
	for round := range 5 {
		var won atomic.Int32
		w.together(6, func(i int, c *store.Cluster) {
			cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(round), 0, 0}), 18+i)
			_, err := c.AcquirePool(w.ctx, cidr)
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, store.ErrOverlap) {
				w.Error(err)
			}
		})
		if won.Load() != 1 {
			w.Fatalf("%d hosts got overlapping subnets, want 1", won.Load())
		}
	}
}

// testSameChoice: of hosts that choose the same subnet by themselves, one gets it.
func testSameChoice(w *world) {
	var won atomic.Int32
	w.together(6, func(_ int, c *store.Cluster) {
		_, err := c.MakePool(w.ctx, poolA)
		if err == nil {
			won.Add(1)
		} else if !errors.Is(err, store.ErrOverlap) {
			w.Error(err)
		}
	})
	if won.Load() != 1 {
		w.Fatalf("%d hosts made the pool, want 1", won.Load())
	}
}

func testReleaseRace(w *world) {
	cidr := func(i int) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i), 0}), 24) }
	for range 3 {
		w.together(6, func(i int, c *store.Cluster) {
			_, err := c.AcquirePool(w.ctx, cidr(i))
			if err == nil {
				err = c.ReleasePool(w.ctx, cidr(i))
			}
			if err != nil {
				w.Error(err)
			}
		})
		w.empty()
	}
}

// fill claims one address in each of n blocks.
func (w *world) fill(c *store.Cluster, pool netip.Prefix, n int) {
	var ops []store.Op
	a := pool.Addr().As4()
	for i := range n {
		ip := netip.AddrFrom4([4]byte{a[0], a[1], byte(i / 4), byte(i%4*64 + 1)})
		block := store.Block{Schema: store.Schema, Claims: map[netip.Addr]store.Claim{ip: {Owner: store.HostOwner(c.Host()), Nonce: store.NewNonce()}}}
		ops = append(ops, store.Op{Kind: store.OpPut, Key: store.BlockKey(pool, store.BlockOf(pool, ip)), Value: store.Encode(block)})
	}
	for batch := range slices.Chunk(ops, store.MaxOps) {
		w.must(w.kv.Apply(w.ctx, batch...))
	}
	if blocks, err := c.Blocks(w.ctx, pool); err != nil || len(blocks) != n {
		w.Fatalf("%d blocks, want %d (%v)", len(blocks), n, err)
	}
}

// testManyBlocks: a pool goes with all its blocks, be they more than fit in a transaction.
func testManyBlocks(w *world) {
	a, big := w.host("a"), netip.MustParsePrefix("10.7.0.0/16")
	for _, n := range []int{1, 16, 17, 32, 33, 63, 64, 127, 128, 129, 300} {
		_, err := a.AcquirePool(w.ctx, big)
		w.must(err)
		w.fill(a, big, n)
		w.must(a.ReleasePool(w.ctx, big))
		w.empty()
	}
	// The same through the network's last host, while another one joins and leaves.
	for range 3 {
		n, err := a.Bind(w.ctx, store.Binding{DockerID: "da", Pools: []netip.Prefix{big}})
		w.must(err)
		w.fill(a, big, 200)
		errs := make(chan error, 1)
		go func() {
			b := w.host("b")
			bound, err := b.Bind(w.ctx, store.Binding{DockerID: "db", Pools: []netip.Prefix{big}})
			claimed := addr("10.7.3.3")
			if err == nil {
				err = b.Claim(w.ctx, big, claimed, store.HostOwner("b"))
			}
			if err == nil {
				err = w.stillClaimed(b, big, claimed)
			}
			errs <- errors.Join(err, b.Unclaim(w.ctx, big, store.HostOwner("b"), claimed), b.Unbind(w.ctx, bound.ID, "db"))
		}()
		w.must(a.Unbind(w.ctx, n.ID, "da"))
		w.must(<-errs)
		w.empty()
	}
}

func (w *world) stillClaimed(c *store.Cluster, pool netip.Prefix, a netip.Addr) error {
	blocks, err := c.Blocks(context.WithoutCancel(w.ctx), pool)
	if _, there := blocks[store.BlockKey(pool, store.BlockOf(pool, a))].Claims[a]; err == nil && !there {
		err = fmt.Errorf("claim of %s is lost", a)
	}
	return err
}
