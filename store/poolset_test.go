package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// recording counts the records and bytes that are read.
type recording struct {
	store.KV
	mu             sync.Mutex
	records, bytes int
}

func (r *recording) Get(ctx context.Context, key string) (store.Entry, error) {
	e, err := r.KV.Get(ctx, key)
	r.note(e)
	return e, err
}

func (r *recording) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	all, err := r.KV.List(ctx, prefix)
	r.note(all...)
	return all, err
}

func (r *recording) note(all ...store.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records += len(all)
	for _, e := range all {
		r.bytes += len(e.Key) + len(e.Value)
	}
}

// TestNetworksCostTheSame: a network that is made, used and removed reads as much among 200 others as among 10.
func TestNetworksCostTheSame(t *testing.T) {
	cost := func(networks int) (made, removed [2]int) {
		kv := &recording{KV: emptyStore(t)}
		c := store.NewCluster(kv, "host")
		if err := c.BeginLayout(t.Context()); err != nil {
			t.Fatal(err)
		}
		pool := func(i int) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100, byte(i), 0}), 24) }
		bind := func(i int) (n store.Network) {
			_, err := c.AcquirePool(t.Context(), pool(i))
			if err == nil {
				n, err = c.Bind(t.Context(), binding(fmt.Sprintf("docker-%03d", i), fmt.Sprintf("net-%03d", i), pool(i)))
			}
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		for i := range networks {
			bind(i)
		}
		kv.records, kv.bytes = 0, 0
		n := bind(240)
		made = [2]int{kv.records, kv.bytes}
		kv.records, kv.bytes = 0, 0
		if err := errors.Join(c.ReleasePool(t.Context(), pool(240)), c.Unbind(t.Context(), n.ID, "docker-240")); err != nil {
			t.Fatal(err)
		}
		return made, [2]int{kv.records, kv.bytes}
	}
	made, removed := cost(10)
	madeMany, removedMany := cost(200)
	t.Logf("records and bytes read for a network: %v made, %v removed", madeMany, removedMany)
	// A VNI is drawn, and has one to eight digits in each record that names it.
	same := func(a, b [2]int) bool { return a[0] == b[0] && max(a[1], b[1])-min(a[1], b[1]) <= 7*a[0] }
	if !same(made, madeMany) || !same(removed, removedMany) {
		t.Errorf("of 10 networks one more read %v and %v to be removed, of 200 %v and %v", made, removed, madeMany, removedMany)
	}
}

// TestPoolsOfSeveralHosts: while hosts make and remove pools by turns, each refuses what overlaps, and nothing else, though it keeps what it knows of subnets.
func TestPoolsOfSeveralHosts(t *testing.T) {
	kv := emptyStore(t)
	if err := store.NewCluster(kv, "first").BeginLayout(t.Context()); err != nil {
		t.Fatal(err)
	}
	hosts := []*store.Cluster{store.NewCluster(kv, "a"), store.NewCluster(kv, "b"), store.NewCluster(kv, "c")}
	r := rand.New(rand.NewPCG(3, 4))
	held := map[netip.Prefix]*store.Cluster{}
	for range 400 {
		c := hosts[r.IntN(len(hosts))]
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(r.IntN(8) * 32), 0}), 16+r.IntN(5)).Masked()
		if owner := held[cidr]; owner != nil {
			if err := owner.ReleasePool(t.Context(), cidr); err != nil {
				t.Fatal(err)
			}
			delete(held, cidr)
			continue
		}
		overlaps := false
		for other := range held {
			overlaps = overlaps || other.Overlaps(cidr)
		}
		_, err := c.AcquirePool(t.Context(), cidr)
		if errors.Is(err, store.ErrOverlap) != overlaps || err != nil && !overlaps {
			t.Fatalf("%s beside %v: %v", cidr, held, err)
		}
		if err == nil {
			held[cidr] = c
		}
		subnets, err := c.Subnets(t.Context())
		if err != nil || len(subnets) != len(held) {
			t.Fatalf("subnets are %v, held are %v, %v", subnets, held, err)
		}
	}
	// A pool that was removed by hand makes no overlap.
	for cidr := range held {
		if err := kv.Apply(t.Context(), store.Op{Kind: store.OpRemove, Key: store.PoolKey(cidr)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := hosts[0].AcquirePool(t.Context(), netip.MustParsePrefix("10.1.0.0/16")); err != nil {
		t.Error(err)
	}
}
