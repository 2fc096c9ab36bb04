package ipamdriver_test

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

// countedReads is a store of which the records that are read are counted.
type countedReads struct {
	store.KV
	records atomic.Int64
}

func (c *countedReads) Get(ctx context.Context, key string) (store.Entry, error) {
	c.records.Add(1)
	return c.KV.Get(ctx, key)
}

func (c *countedReads) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	all, err := c.KV.List(ctx, prefix)
	c.records.Add(int64(1 + len(all)))
	return all, err
}

// TestSwarmsNextAddressCostsTheSame: Swarm's n-th address reads what the first one read, also when its pool is nearly full and addresses are given back.
func TestSwarmsNextAddressCostsTheSame(t *testing.T) {
	kv := &countedReads{KV: file(t, "cluster")}
	d := ipamdriver.New(store.NewCluster(kv, "a"), file(t, "local"), ipamdriver.Options{SwarmSpace: "swarm space"})
	pool, err := d.RequestPool(t.Context(), &ipam.RequestPoolRequest{AddressSpace: "swarm space", Pool: "10.1.0.0/21"})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var last string
	request := func() (read int64) {
		t.Helper()
		before := kv.records.Load()
		r, err := d.RequestAddress(t.Context(), &ipam.RequestAddressRequest{PoolID: pool.PoolID})
		if err != nil {
			t.Fatal(err)
		}
		if last = r.Address; seen[last] {
			t.Fatalf("%s is given twice", last)
		}
		seen[last] = true
		return kv.records.Load() - before
	}
	release := func(addr string) {
		t.Helper()
		if err := d.ReleaseAddress(t.Context(), &ipam.ReleaseAddressRequest{PoolID: pool.PoolID, Address: netip.MustParsePrefix(addr).Addr().String()}); err != nil {
			t.Fatal(err)
		}
		delete(seen, addr)
	}
	first := request()
	middle := last
	for n := 2; n <= 2046; n++ {
		if read := request(); read > 3*first {
			t.Fatalf("address %d reads %d records, the first %d", n, read, first)
		}
	}
	for range 10 {
		release(middle)
		if read := request(); read > 4*first || last != middle {
			t.Errorf("the only free address reads %d records, the first read %d; it is %s, want %s", read, first, last, middle)
		}
	}
	if _, err := d.RequestAddress(t.Context(), &ipam.RequestAddressRequest{PoolID: pool.PoolID}); err == nil {
		t.Error("a full pool gives an address")
	}
}
