package store_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// testBlocks: many claims and returns in one transaction, each of them only where it may be.
func testBlocks(w *world) {
	a, b := w.host("a"), w.host("b")
	blocks := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/26"), netip.MustParsePrefix("10.1.0.64/26")}
	first := func(n int) store.ClaimDecision {
		return func(block netip.Prefix, _ map[netip.Addr]store.Claim) (take, _ []netip.Addr) {
			addr := block.Addr()
			for range n {
				addr = addr.Next()
				take = append(take, addr)
			}
			return take, nil
		}
	}
	_, _, err := a.ChangeBlocks(w.ctx, poolA, blocks, nil, first(2))
	w.wants(err, store.ErrNotFound, poolA.String())
	w.empty()
	_, err = a.AcquirePool(w.ctx, poolA)
	w.must(err)
	after, taken, err := a.ChangeBlocks(w.ctx, poolA, blocks, nil, first(2))
	w.must(err)
	if len(taken) != 4 || len(after) != 2 || after[blocks[0]][addr("10.1.0.1")].Owner != store.HostOwner("a") {
		w.Fatalf("taken are %v, and after that %v", taken, after)
	}
	// b gets what is left, a keeps what it has, and its nonce: nobody wrote it.
	nonce := after[blocks[0]][addr("10.1.0.1")].Nonce
	after, taken, err = b.ChangeBlocks(w.ctx, poolA, blocks, nil, first(3))
	w.must(err)
	if !slices.Equal(taken, []netip.Addr{addr("10.1.0.3"), addr("10.1.0.67")}) || after[blocks[0]][addr("10.1.0.1")].Nonce != nonce {
		w.Fatalf("taken are %v, and after that %v", taken, after)
	}
	// A wrong guess costs nobody anything.
	all := func(netip.Prefix) bool { return true }
	after, taken, err = b.ChangeBlocks(w.ctx, poolA, blocks, all, first(4))
	w.must(err)
	if !slices.Equal(taken, []netip.Addr{addr("10.1.0.3"), addr("10.1.0.4"), addr("10.1.0.67"), addr("10.1.0.68")}) || after[blocks[0]][addr("10.1.0.1")].Nonce != nonce {
		w.Fatalf("taken are %v, and after that %v", taken, after)
	}
	// What a takes anew has a new nonce: a return of before that comes late fails.
	after, taken, err = a.ChangeBlocks(w.ctx, poolA, blocks[:1], nil, first(1))
	w.must(err)
	if len(taken) != 1 || after[blocks[0]][addr("10.1.0.1")].Nonce == nonce {
		w.Fatalf("taken are %v, and after that %v", taken, after)
	}
	give := func(block netip.Prefix, claims map[netip.Addr]store.Claim) (_, give []netip.Addr) {
		for addr := range claims {
			give = append(give, addr)
		}
		return nil, give
	}
	_, _, err = a.ChangeBlocks(w.ctx, poolA, blocks, nil, give)
	w.must(err)
	if got := w.claims(poolA); !slices.Equal(got, []string{"10.1.0.3=b", "10.1.0.4=b", "10.1.0.67=b", "10.1.0.68=b"}) {
		w.Fatalf("claims are %q", got)
	}
	_, _, err = b.ChangeBlocks(w.ctx, poolA, blocks, nil, give)
	w.must(err)
	w.must(a.ReleasePool(w.ctx, poolA))
	w.empty()
	_, _, err = a.ChangeBlocks(w.ctx, poolA, make([]netip.Prefix, store.MaxBlocks+1), nil, give)
	w.wants(err, store.ErrInvalid)
}

// testFullBlocks: the most blocks that may be changed at once fit into a transaction, also full ones of IPv6.
func testFullBlocks(w *world) {
	a := w.host("0123456789abcdef")
	_, err := a.AcquirePool(w.ctx, pool6)
	w.must(err)
	var blocks []netip.Prefix
	for i := range store.MaxBlocks {
		blocks = append(blocks, netip.MustParsePrefix(fmt.Sprintf("fd00:1::abcd:abcd:abcd:%x/122", i*64)))
	}
	all := func(block netip.Prefix, _ map[netip.Addr]store.Claim) (take, _ []netip.Addr) {
		for addr := block.Addr(); block.Contains(addr); addr = addr.Next() {
			take = append(take, addr)
		}
		return take, nil
	}
	for range 2 { // also with versions
		_, taken, err := a.ChangeBlocks(w.ctx, pool6, blocks, nil, all)
		w.must(err)
		if len(taken) != 64*store.MaxBlocks {
			w.Fatalf("%d were taken", len(taken))
		}
	}
	w.must(a.ReleasePool(w.ctx, pool6))
	w.empty()
}

// testAsks: each host that is asked strikes itself out; an ask goes with the last one, with its maker, or with the pool.
func testAsks(w *world) {
	a, b, c := w.host("a"), w.host("b"), w.host("c")
	_, err := a.Ask(w.ctx, poolA, netip.Addr{}, []string{"b"})
	w.wants(err, store.ErrNotFound)
	_, err = a.AcquirePool(w.ctx, poolA)
	w.must(err)
	asked, err := a.Ask(w.ctx, poolA, addr("10.1.0.7"), []string{"b", "c"})
	w.must(err)
	asks, index, err := b.WatchAsks(w.ctx, 0)
	w.must(err)
	if index == 0 || len(asks) != 1 || asks[0].Addr != addr("10.1.0.7") || asks[0].From != "a" {
		w.Fatalf("asks are %+v", asks)
	}
	waits := func(want bool) {
		w.Helper()
		if got, err := a.Asked(w.ctx, asked); err != nil || got != want {
			w.Fatalf("somebody has still to answer: %t, %v, want %t", got, err, want)
		}
	}
	waits(true)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if err := b.Answer(w.ctx, asks[0]); err != nil {
				w.Error(err)
			}
		})
	}
	wg.Wait()
	w.must(w.host("d").Answer(w.ctx, asked)) // was not asked
	waits(true)
	w.must(c.Answer(w.ctx, asked))
	waits(false)
	w.must(c.Answer(w.ctx, asked))
	asked, err = a.Ask(w.ctx, poolA, netip.Addr{}, []string{"b"})
	w.must(err)
	w.must(a.EndAsk(w.ctx, asked))
	waits(false)
	_, err = a.Ask(w.ctx, poolA, netip.Addr{}, []string{"b"})
	w.must(err)
	if asks, err = a.Asks(w.ctx); err != nil || len(asks) != 1 {
		w.Fatalf("asks are %+v, %v", asks, err)
	}
	w.must(a.ReleasePool(w.ctx, poolA))
	w.empty()
}

// TestLateReturn: a return that takes effect after its sender has given up, and after the address was taken anew, does nothing.
func TestLateReturn(t *testing.T) {
	ctx := context.Background()
	kv, err := bolt.Open(t.TempDir()+"/db", bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	w := &world{t, ctx, kv, false}
	late := &held{KV: kv}
	a, block := w.host("a"), netip.MustParsePrefix("10.1.0.0/26")
	_, err = a.AcquirePool(ctx, poolA)
	w.must(err)
	five := []netip.Addr{addr("10.1.0.5")}
	take := func(netip.Prefix, map[netip.Addr]store.Claim) (_, _ []netip.Addr) { return five, nil }
	give := func(netip.Prefix, map[netip.Addr]store.Claim) (_, _ []netip.Addr) { return nil, five }
	_, _, err = a.ChangeBlocks(ctx, poolA, []netip.Prefix{block}, nil, take)
	w.must(err)
	_, _, err = store.NewCluster(late, "a").ChangeBlocks(ctx, poolA, []netip.Prefix{block}, nil, give)
	w.wants(err, store.ErrUnavailable)
	_, _, err = a.ChangeBlocks(ctx, poolA, []netip.Prefix{block}, nil, take)
	w.must(err)
	w.wants(kv.Apply(ctx, late.ops...), store.ErrConflict)
	if got := w.claims(poolA); !slices.Equal(got, []string{"10.1.0.5=a"}) {
		t.Fatalf("claims are %q", got)
	}
}

// held is a store that keeps what it is given, and does not answer.
type held struct {
	store.KV
	ops []store.Op
}

func (h *held) Apply(_ context.Context, ops ...store.Op) error {
	h.ops = ops
	return store.ErrUnavailable
}
