package subnets

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// counted is a store whose records that are read are counted.
type counted struct {
	store.KV
	records int
}

func (c *counted) Get(ctx context.Context, key string) (store.Entry, error) {
	c.records++
	return c.KV.Get(ctx, key)
}

func (c *counted) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	all, err := c.KV.List(ctx, prefix)
	c.records += 1 + len(all)
	return all, err
}

// TestOnePoolIsReadAlone: what a new network's subnet costs does not grow with the networks; what was known of pools is what a reading of all tells, also when
// one goes and when a record can't be read.
func TestOnePoolIsReadAlone(t *testing.T) {
	cost := func(networks int) int {
		kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		defer kv.Close()
		c := &counted{KV: kv}
		here := store.NewCluster(c, "here")
		pool := func(i int) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24) }
		bind := func(i int) (n store.Network) {
			if _, err = here.AcquirePool(t.Context(), pool(i)); err == nil {
				n, err = here.Bind(t.Context(), store.Binding{DockerID: fmt.Sprint("d", i), Pools: []netip.Prefix{pool(i)}})
			}
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		var last store.Network
		for i := range networks {
			last = bind(i)
		}
		tracker := New(here, nil, Options{Driver: "socketplane"})
		read := func() int {
			t.Helper()
			before := c.records
			if err := tracker.readPools(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := c.records - before
			all, unread, err := here.AllPools(t.Context())
			if err != nil || len(tracker.known) != len(all)+len(unread) {
				t.Fatalf("%d pools are known, there are %d and %d that can't be read, %v", len(tracker.known), len(all), len(unread), err)
			}
			for _, p := range all {
				found := false
				for _, k := range tracker.known {
					found = found || k.CIDR == p.CIDR && k.Network == p.Network
				}
				if !found {
					t.Fatalf("pool %s of network %q is not known so", p.CIDR, p.Network)
				}
			}
			return got
		}
		tracker.doubtPools()
		read()
		if _, err := here.AcquirePool(t.Context(), pool(networks)); err != nil {
			t.Fatal(err)
		}
		tracker.poolsChanged.Store(true)
		asked := read()
		if !tracker.askedPools[pool(networks)] {
			t.Error("a pool that Docker has asked for is not known as such")
		}
		bind(networks)
		tracker.Heard(dockerwatch.Event{Kind: dockerwatch.KindNetwork, Action: dockerwatch.ActionCreate, Driver: "socketplane"})
		asked += read()
		if err := here.Unbind(t.Context(), last.ID, fmt.Sprint("d", networks-1)); err != nil {
			t.Fatal(err)
		}
		tracker.Heard(dockerwatch.Event{Kind: dockerwatch.KindNetwork, Action: dockerwatch.ActionDestroy, Driver: "socketplane"})
		read()
		key := store.PoolKey(netip.MustParsePrefix("10.9.0.0/24"))
		if err := kv.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: key, Value: []byte(`{"schema":99}`)},
			store.Op{Kind: store.OpPut, Key: store.PoolsRevisionKey, Value: []byte("another agent's")}); err != nil {
			t.Fatal(err)
		}
		tracker.poolsChanged.Store(true)
		read()
		return asked
	}
	few, many := cost(10), cost(200)
	t.Logf("records read for one more network: %d", many)
	if few != many || many > 8 {
		t.Errorf("one network more than 10 costs %d records, one more than 200 costs %d, want the same and at most 8", few, many)
	}
}
