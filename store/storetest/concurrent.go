package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// testCounters has several writers count in one key by read and CAS, and in a
// second one in the same transaction.
func testCounters(t *testing.T, k *kv) {
	const writers, each = 8, 15
	k.must(k.put("a", "0"), k.put("b", "0"))
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range each {
				if errs[w] = k.increment("a", "b"); errs[w] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	k.expect(fmt.Sprintf("a=%d", writers*each), fmt.Sprintf("b=%d", writers*each))
}

// increment tries until no other writer is in between.
func (k *kv) increment(names ...string) error {
	for {
		var ops []store.Op
		for _, name := range names {
			e, err := k.Get(k.ctx, k.key(name))
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(string(e.Value))
			if err != nil {
				return err
			}
			ops = append(ops, k.set(name, strconv.Itoa(n+1), e.Version))
		}
		err := k.Apply(k.ctx, ops...)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// testClaims has several claimants go for the same keys; each has one winner.
func testClaims(t *testing.T, k *kv) {
	const claimants, keys = 8, 20
	wins := make([][]string, claimants)
	errs := make([]error, claimants)
	var wg sync.WaitGroup
	for c := range claimants {
		wg.Go(func() {
			for n := range keys {
				name := fmt.Sprintf("k%02d", n)
				err := k.Apply(k.ctx, k.set(name, fmt.Sprint(c), 0), k.put(fmt.Sprintf("x-by-%d", c), fmt.Sprint(n)))
				switch {
				case err == nil:
					wins[c] = append(wins[c], name)
				case !errors.Is(err, store.ErrConflict):
					errs[c] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	won := map[string]int{}
	for c, names := range wins {
		for _, name := range names {
			e, err := k.Get(k.ctx, k.key(name))
			if err != nil || string(e.Value) != fmt.Sprint(c) {
				t.Errorf("%s was won by %d, but is %q (%v)", name, c, e.Value, err)
			}
			won[name]++
		}
	}
	if len(won) != keys {
		t.Errorf("%d keys were won, want %d", len(won), keys)
	}
	for name, n := range won {
		if n != 1 {
			t.Errorf("%s has %d winners", name, n)
		}
	}
}
