package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/journal"
	"github.com/socketplane/socketplane/internal/mirror"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/internal/subnets"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// counted is a store of which the records that were read are counted. A watch that ends because time is over counts like one that tells of a change.
type counted struct {
	store.KV
	records atomic.Int64

	mu      sync.Mutex
	waiting map[string]int  // watches under way, by prefix
	twice   map[string]bool // prefixes that were watched twice at once
}

// waits notes that there is one watch of a prefix more, or less.
func (c *counted) waits(prefix string, more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[prefix] += more; c.waiting[prefix] > 1 {
		c.twice[prefix] = true
	}
}

func (c *counted) Get(ctx context.Context, key string) (store.Entry, error) {
	c.records.Add(1)
	return c.KV.Get(ctx, key)
}

func (c *counted) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	all, err := c.KV.List(ctx, prefix)
	c.records.Add(int64(1 + len(all)))
	return all, err
}

func (c *counted) Watch(ctx context.Context, prefix string, since uint64) ([]store.Entry, uint64, error) {
	c.waits(prefix, 1)
	defer c.waits(prefix, -1)
	all, index, err := c.KV.Watch(ctx, prefix, since)
	c.records.Add(int64(1 + len(all)))
	return all, index, err
}

// emptyDocker is an engine without networks and containers.
type emptyDocker struct{ mirror.Docker }

func (emptyDocker) Ready() error                                            { return nil }
func (emptyDocker) Networks(context.Context) ([]dockerwatch.Network, error) { return nil, nil }

// noLinks is a kernel without subnets.
type noLinks struct{}

func (noLinks) Connected(context.Context) ([]hostlink.Connected, error) { return nil, nil }
func (noLinks) Routed(context.Context) ([]netip.Prefix, error)          { return nil, nil }
func (noLinks) Reserve(context.Context, []netip.Prefix) error           { return nil }
func (noLinks) Reserved(context.Context) (bool, error)                  { return true, nil }

// noPlane is a data plane that has nothing to forward.
type noPlane struct{ dataplane.Plane }

func (noPlane) Ready() error { return nil }
func (noPlane) MTU() int     { return 1450 }

// populate makes hosts of a cluster, each with a network of its own and an endpoint there, and all of them alive.
func populate(t *testing.T, kv store.KV, hosts int) {
	t.Helper()
	var ops []store.Op
	put := func(key string, value []byte) { ops = append(ops, store.Op{Kind: store.OpPut, Key: key, Value: value}) }
	for i := range hosts {
		host, id := fmt.Sprintf("h%03d", i), fmt.Sprintf("%016x", i+1)
		pool := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i / 256), byte(i), 0}), 24)
		n := store.Network{Schema: store.Schema, ID: id, Name: fmt.Sprint("net", i), VNI: uint32(i + 1), Pools: []netip.Prefix{pool}}
		put(store.NetworkKey(id), store.Encode(struct { // as it is in the first layout
			store.Network
			Hosts map[string]string `json:"hosts"`
		}{n, map[string]string{host: fmt.Sprint("docker-", i)}}))
		put(store.NameKey(n.Name), []byte(id))
		put(store.VNIKey(n.VNI), []byte(id))
		put(store.PoolKey(pool), store.Encode(store.Pool{Schema: store.Schema, CIDR: pool, Network: id}))
		put(store.EndpointsKey(id, host), store.Encode(store.Endpoints{Schema: store.Schema, Network: id, Host: host, Revision: "r", Endpoints: []store.Endpoint{{ID: "e"}}}))
		put(store.IndexKey(id, host), store.Encode(store.Index{Schema: store.Schema, Revision: "r"}))
		put(store.HostKey(host), store.Encode(store.Host{Schema: store.Schema, ID: host, Name: host, VTEP: netip.AddrFrom4([4]byte{192, 0, byte(i / 256), byte(i)})}))
		put(store.AliveKey(host), []byte(host))
	}
	for chunk := range slices.Chunk(ops, store.MaxOps) {
		if err := kv.Apply(t.Context(), chunk...); err != nil {
			t.Fatal(err)
		}
	}
}

// resting is the parts of an agent that talk with the store by themselves, as run wires them.
func resting(t *testing.T, kv store.KV, host string) (parts []func(context.Context) error, synced *atomic.Int64) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	local, err := bolt.Open(filepath.Join(t.TempDir(), "local.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	j, _, err := journal.Open(filepath.Join(t.TempDir(), "journal"), "boot")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(local.Close(), j.Close()) })
	cluster := store.NewCluster(kv, host)
	a := &agent{cluster: cluster, local: local, log: log}
	a.cfg.HostExpiry, a.cfg.GarbageGrace = 24*time.Hour, 5*time.Minute
	a.buildRoster()
	cluster = a.cluster
	a.ipam = ipamdriver.New(cluster, local, ipamdriver.Options{Journal: j, Logger: log})
	if a.view, err = netview.New(t.Context(), netview.Deps{Cluster: cluster, Roster: a.roster, Local: local, OwnRecord: func(store.Host) {}, Logger: log}); err != nil {
		t.Fatal(err)
	}
	if a.driver, err = driver.New(t.Context(), driver.Deps{Cluster: cluster, Local: local, View: a.view, Dataplane: noPlane{}, Addresses: a.ipam}, driver.Options{Logger: log}); err != nil {
		t.Fatal(err)
	}
	a.subnets = subnets.New(cluster, noLinks{}, subnets.Options{
		Hosts: a.roster, Local: local, Publish: func(context.Context) error { return nil }, Logger: log,
		Stirred: func(context.Context) <-chan struct{} { return nil },
	})
	m := mirror.New(cluster, a.driver, emptyDocker{}, mirror.Options{Follow: true, Pools: a.ipam, Uses: a.subnets.Uses, Local: local, Logger: log})
	return []func(context.Context) error{a.view.Run, a.roster.Run, a.janitor.Run, a.finisher().Run, a.ipam.Run, a.subnets.Run, m.Run}, &a.synced
}

// readAtRest is how many records an agent reads in four minutes in which nothing happens, after its start.
func readAtRest(t *testing.T, hosts int, self string) (records int64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		defer kv.Close()
		populate(t, kv, hosts)
		counting := &counted{KV: kv, waiting: map[string]int{}, twice: map[string]bool{}}
		parts, synced := resting(t, counting, self)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		group, ctx := errgroup.WithContext(ctx)
		for _, part := range parts {
			group.Go(func() error { return part(ctx) })
		}
		retry.Sleep(ctx, 70*time.Second)
		synctest.Wait()
		if synced.Load() == 0 {
			t.Error("what the cluster knows of this host was not compared after the start")
		}
		before := counting.records.Load()
		retry.Sleep(ctx, 4*time.Minute-20*time.Second) // less than a watch lasts
		synctest.Wait()
		records = counting.records.Load() - before
		stop()
		if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if len(counting.twice) > 0 {
			t.Errorf("more than one part watches %v", slices.Sorted(maps.Keys(counting.twice)))
		}
	})
	return records
}

// TestRestDoesNotGrowWithTheCluster: what an agent reads of the store while nothing happens is the same in a small and in a large cluster, also on the host
// that is the janitor, and nothing is watched by two of its parts.
func TestRestDoesNotGrowWithTheCluster(t *testing.T) {
	for name, self := range map[string]string{"a host": "h007", "the cluster's janitor": "h000"} {
		t.Run(name, func(t *testing.T) {
			few, many := readAtRest(t, 10, self), readAtRest(t, 500, self)
			t.Logf("records read in four minutes: %d with 10 hosts, %d with 500", few, many)
			if few != many {
				t.Errorf("an agent at rest reads %d records with 10 hosts, and %d with 500", few, many)
			}
			if many > 60 {
				t.Errorf("an agent at rest reads %d records in four minutes", many)
			}
		})
	}
}
