package netview

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// counting counts the queries that wait, and fails them when it is told to.
type counting struct {
	store.KV
	waiting atomic.Int32
	most    atomic.Int32
	down    atomic.Bool
}

func (c *counting) Watch(ctx context.Context, prefix string, since uint64) ([]store.Entry, uint64, error) {
	if c.down.Load() {
		return nil, 0, store.ErrUnavailable
	}
	n := c.waiting.Add(1)
	defer c.waiting.Add(-1)
	for was := c.most.Load(); n > was && !c.most.CompareAndSwap(was, n); was = c.most.Load() {
	}
	return c.KV.Watch(ctx, prefix, since)
}

// follower keeps what one watch has said.
type follower struct {
	stop context.CancelFunc
	done chan struct{}
	news chan map[string]uint64
	errs chan error
}

func follow(ctx context.Context, x *indexes, network string) *follower {
	ctx, stop := context.WithCancel(ctx)
	f := &follower{stop: stop, done: make(chan struct{}), news: make(chan map[string]uint64, 100), errs: make(chan error, 100)}
	watch, end := x.begin(network, true)
	go func() {
		defer close(f.done)
		defer end()
		for since := uint64(0); ctx.Err() == nil; {
			versions, next, err := watch(ctx, since)
			if since = next; err == nil {
				f.news <- versions
			} else if ctx.Err() == nil {
				f.errs <- err
				retry.Sleep(ctx, backoff(0))
			}
		}
	}()
	return f
}

// says waits until the watch says that the network has these hosts.
func (f *follower) says(t *testing.T, what string, hosts ...string) {
	t.Helper()
	want := map[string]bool{}
	for _, h := range hosts {
		want[h] = true
	}
	limit := time.After(time.Minute)
	for {
		select {
		case versions := <-f.news:
			got := map[string]bool{}
			for h := range versions {
				got[h] = true
			}
			if maps.Equal(got, want) {
				return
			}
		case <-limit:
			t.Fatalf("%s: the watch does not say %v", what, hosts)
		}
	}
}

// TestIndexes: however many networks are watched, few queries wait; each watch hears of its network's changes, also when the one that made
// the query for all has ended, and after the store was away.
func TestIndexes(t *testing.T) {
	inner, err := bolt.Open(filepath.Join(t.TempDir(), "kv.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inner.Close() })
	kv := &counting{KV: inner}
	const count = 40
	other := store.NewCluster(kv, "other")
	var ids []string
	for i := range count {
		pool := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24)
		n, err := other.Bind(t.Context(), store.Binding{DockerID: fmt.Sprint("docker", i), Pools: []netip.Prefix{pool}})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, n.ID)
	}
	put := func(i int, endpoints ...store.Endpoint) {
		t.Helper()
		if err := other.PutEndpoints(t.Context(), ids[i], endpoints); err != nil {
			t.Fatal(err)
		}
	}
	x := newIndexes(store.NewCluster(kv, "me").EndpointRecords)
	var all []*follower
	for _, id := range ids {
		f := follow(t.Context(), x, id)
		defer func() { f.stop(); <-f.done }()
		all = append(all, f)
		f.says(t, "at first")
	}
	for _, i := range []int{0, ownWatches - 1, ownWatches, count - 1} {
		put(i, store.Endpoint{ID: fmt.Sprint("e", i), MAC: "02:00:00:00:00:01"})
		all[i].says(t, "a first endpoint", "other")
		select {
		case <-all[count-2].news:
			t.Error("a watch says that another network has changed")
		default:
		}
	}
	// Any of those who share the query may have it.
	for _, f := range all[ownWatches : count-3] {
		f.stop()
		<-f.done
	}
	put(count - 1)
	all[count-1].says(t, "none any more")
	put(count-2, store.Endpoint{ID: "e", MAC: "02:00:00:00:00:01"})
	all[count-2].says(t, "after others have ended", "other")

	kv.down.Store(true)
	put(0) // wakes the queries that wait
	put(count - 1)
	for _, i := range []int{0, count - 1, count - 2} {
		select {
		case err := <-all[i].errs:
			if !errors.Is(err, store.ErrUnavailable) {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("watch %d does not say that the store is away", i)
		}
	}
	put(count-1, store.Endpoint{ID: "new", MAC: "02:00:00:00:00:02"})
	kv.down.Store(false)
	all[count-1].says(t, "when the store is back", "other")
	all[count-2].says(t, "when the store is back, though nothing has changed", "other")
	all[0].says(t, "when the store is back")
	if most := kv.most.Load(); most > ownWatches+1 {
		t.Errorf("%d queries waited at once", most)
	}
}
