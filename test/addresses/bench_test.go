package addresses

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/internal/journal"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
	"github.com/socketplane/socketplane/store/consul"
)

// counting counts the transactions of a store.
type counting struct {
	store.KV
	n atomic.Int64
}

func (c *counting) Apply(ctx context.Context, ops ...store.Op) error {
	c.n.Add(1)
	return c.KV.Apply(ctx, ops...)
}

// benchHost is a host within this process.
type benchHost struct {
	*ipamdriver.Driver
	kv   *counting
	stop func()
}

func newBenchHost(b *testing.B, addr, id string) *benchHost {
	b.Helper()
	kv, err := consul.Open(consul.Options{Address: addr})
	if err != nil {
		b.Fatal(err)
	}
	local, err := bolt.Open(filepath.Join(b.TempDir(), "local.db"), bolt.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	j, _, err := journal.Open(filepath.Join(b.TempDir(), "journal"), "boot")
	if err != nil {
		b.Fatal(err)
	}
	// Only hosts that are alive are asked for their spares.
	if err := kv.Apply(b.Context(), store.Op{Kind: store.OpPut, Key: store.AliveKey(id), Value: []byte(id)}); err != nil {
		b.Fatal(err)
	}
	h := &benchHost{kv: &counting{KV: kv}}
	h.Driver = ipamdriver.New(store.NewCluster(h.kv, id), local, ipamdriver.Options{Journal: j})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = h.Run(ctx) }()
	h.stop = func() {
		cancel()
		<-done
		_, _, _ = kv.Close(), local.Close(), j.Close()
	}
	return h
}

func (h *benchHost) pool(b *testing.B, pool string) {
	b.Helper()
	if _, err := h.RequestPool(context.Background(), &ipam.RequestPoolRequest{Pool: pool}); err != nil {
		b.Fatal(err)
	}
}

func (h *benchHost) take(pool string) error {
	_, err := h.RequestAddress(context.Background(), &ipam.RequestAddressRequest{PoolID: pool})
	return err
}

// callers runs so many operations by n callers at once, and reports the rate and the times.
func callers(b *testing.B, n, operations int, op func(caller int) error) {
	var left atomic.Int64
	left.Store(int64(operations))
	times := make([][]time.Duration, n)
	var wg sync.WaitGroup
	b.ResetTimer()
	began := time.Now()
	for i := range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				start := time.Now()
				if err := op(i); err != nil {
					b.Error(err)
					return
				}
				times[i] = append(times[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	b.StopTimer()
	all := slices.Concat(times...)
	slices.Sort(all)
	us := func(share int) float64 { return float64(all[(len(all)-1)*share/100].Nanoseconds()) / 1000 }
	b.ReportMetric(0, "ns/op") // of b.N it would be, whatever the operations
	b.ReportMetric(float64(len(all))/took.Seconds(), "allocs/s")
	b.ReportMetric(us(50), "p50-µs")
	b.ReportMetric(us(99), "p99-µs")
}

// perWrite is how many addresses go out for each write that is measured beside them: so both take some tenths of a second, and what is
// measured is a stream and not its beginning.
const perWrite = 20

// BenchmarkAllocate measures requests for addresses beside one write to the same Consul for each, by as many callers.
// Run it with -benchtime 5000x: a fixed number keeps pools comparable.
func BenchmarkAllocate(b *testing.B) {
	server := testenv.Consul(b)
	pools := 0
	for _, nHosts := range []int{1, 3, 16} {
		for _, nCallers := range []int{1, 8, 64} {
			name := fmt.Sprintf("hosts-%d/callers-%d", nHosts, nCallers)
			b.Run(name+"/spares", func(b *testing.B) {
				pools++
				pool := fmt.Sprintf("10.%d.0.0/12", 16*(pools%16))
				var all []*benchHost
				for i := range nHosts {
					h := newBenchHost(b, server.Addr, fmt.Sprintf("host%02d", i))
					h.pool(b, pool)
					all = append(all, h)
				}
				before := transactions(all)
				callers(b, nHosts*nCallers, perWrite*b.N, func(i int) error { return all[i%nHosts].take(pool) })
				b.ReportMetric(float64(perWrite*b.N)/float64(max(1, transactions(all)-before)), "allocs/txn")
				for _, h := range all {
					h.stop()
				}
				wipe(b, server.Addr)
			})
			b.Run(name+"/write-each", func(b *testing.B) {
				kv, err := consul.Open(consul.Options{Address: server.Addr})
				if err != nil {
					b.Fatal(err)
				}
				defer kv.Close()
				var n atomic.Int64
				slots := make(chan struct{}, 150) // Consul refuses the 201st connection of an address
				callers(b, nHosts*nCallers, b.N, func(int) error {
					slots <- struct{}{}
					defer func() { <-slots }()
					claim := store.Encode(store.Claim{Owner: store.HostOwner("host"), Nonce: store.NewNonce()})
					return kv.Apply(context.Background(), store.Op{
						Kind: store.OpSet, Key: fmt.Sprintf("%sone/%d", store.Root, n.Add(1)), Value: claim})
				})
				wipe(b, server.Addr)
			})
		}
	}
}

// BenchmarkUsed measures requests in a /16 of which much is in use already: the cost must not depend on that. Run it with
// -benchtime 2000x.
func BenchmarkUsed(b *testing.B) {
	server := testenv.Consul(b)
	const pool = "10.1.0.0/16"
	for _, used := range []int{100, 10_000, 60_000} {
		b.Run(fmt.Sprint("used-", used), func(b *testing.B) {
			if used+b.N > 65_000 {
				b.Fatalf("a /16 has no %d addresses: run it with -benchtime 2000x", used+b.N)
			}
			var others []*benchHost
			for i := range 3 {
				h := newBenchHost(b, server.Addr, fmt.Sprintf("other%d", i))
				h.pool(b, pool)
				others = append(others, h)
			}
			var wg sync.WaitGroup
			for _, h := range others {
				wg.Go(func() {
					for range used / 3 {
						if err := h.take(pool); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			h := newBenchHost(b, server.Addr, "measured")
			h.pool(b, pool)
			// The first request reads the whole pool, once.
			began := time.Now()
			if err := h.take(pool); err != nil {
				b.Fatal(err)
			}
			first := time.Since(began)
			before := transactions([]*benchHost{h})
			callers(b, 1, b.N, func(int) error { return h.take(pool) })
			b.ReportMetric(float64(b.N)/float64(max(1, transactions([]*benchHost{h})-before)), "allocs/txn")
			b.ReportMetric(float64(first.Milliseconds()), "first-ms")
			for _, h := range append(others, h) {
				h.stop()
			}
			wipe(b, server.Addr)
		})
	}
}

func transactions(hosts []*benchHost) (n int64) {
	for _, h := range hosts {
		n += h.kv.n.Load()
	}
	return n
}

// wipe removes everything, so that a run does not burden the next.
func wipe(b *testing.B, addr string) {
	b.Helper()
	kv, err := consul.Open(consul.Options{Address: addr})
	if err != nil {
		b.Fatal(err)
	}
	defer kv.Close()
	entries, err := kv.List(context.Background(), store.Root)
	if err != nil {
		b.Fatal(err)
	}
	for part := range slices.Chunk(entries, store.MaxOps) {
		ops := make([]store.Op, len(part))
		for i, e := range part {
			ops[i] = store.Op{Kind: store.OpRemove, Key: e.Key}
		}
		if err := kv.Apply(context.Background(), ops...); err != nil {
			b.Fatal(err)
		}
	}
}
