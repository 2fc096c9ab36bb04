package netview

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// counting counts the queries that wait, and fails them when it is told to.
type counting struct {
	store.KV
	waiting atomic.Int32
	down    atomic.Bool
	entries atomic.Int64 // that were read by watches
}

func (c *counting) Watch(ctx context.Context, prefix string, since uint64) ([]store.Entry, uint64, error) {
	if c.down.Load() {
		return nil, 0, store.ErrUnavailable
	}
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	all, next, err := c.KV.Watch(ctx, prefix, since)
	c.entries.Add(int64(len(all)))
	return all, next, err
}

// follower keeps what one watch has said.
type follower struct {
	stop context.CancelFunc
	done chan struct{}
	news chan map[string]uint64
	errs chan error
}

func follow(ctx context.Context, x *indexes, network string) *follower {
	return followAs(ctx, x, network, true)
}

// followAs is follow of a network in the form of the layout, or in the other one.
func followAs(ctx context.Context, x *indexes, network string, own bool) *follower {
	ctx, stop := context.WithCancel(ctx)
	f := &follower{stop: stop, done: make(chan struct{}), news: make(chan map[string]uint64, 100), errs: make(chan error, 100)}
	watch, end := x.begin(network, own)
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
	for _, i := range []int{0, queries - 1, queries, count - 1} {
		put(i, store.Endpoint{ID: fmt.Sprint("e", i), MAC: "02:00:00:00:00:01"})
		all[i].says(t, "a first endpoint", "other")
		select {
		case <-all[count-2].news:
			t.Error("a watch says that another network has changed")
		default:
		}
	}
	// Any of those who share the query may have it.
	for _, f := range all[queries : count-3] {
		f.stop()
		<-f.done
	}
	put(count - 1)
	all[count-1].says(t, "none any more")
	put(count-2, store.Endpoint{ID: "e", MAC: "02:00:00:00:00:01"})
	all[count-2].says(t, "after others have ended", "other")

	kv.down.Store(true)
	put(0) // wakes the queries that wait, as do these
	for _, i := range []int{count - 1, count - 2} {
		put(i, store.Endpoint{ID: "meanwhile", MAC: "02:00:00:00:00:03"})
	}
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
	all[count-2].says(t, "when the store is back, though its hosts are the same", "other")
	all[0].says(t, "when the store is back")
	for limit := time.After(time.Minute); kv.waiting.Load() > queries; { // those that were replaced end at once
		select {
		case <-limit:
			t.Fatalf("%d queries wait", kv.waiting.Load())
		default:
			runtime.Gosched()
		}
	}
}

// foreign is what TestForeignNetworks does with one number of networks of this host.
type foreign struct {
	*testing.T
	kv   *counting
	ids  []string // of all networks, this host's first
	mine []*follower
}

const (
	foreignNetworks, foreignShards = 400, 8
	// resting is the time after which all pauses between two questions are over.
	resting = 400 * time.Millisecond
)

// rest waits until nothing is asked any more.
func (f *foreign) rest() {
	retry.Sleep(f.Context(), resting)
	synctest.Wait()
}

func (f *foreign) put(id string, shard int) {
	f.Helper()
	op := store.Op{Kind: store.OpPut, Key: store.ShardKey(id, fmt.Sprintf("%02x", shard)), Value: []byte(store.NewNonce())}
	if err := f.kv.Apply(f.Context(), op); err != nil {
		f.Fatal(err)
	}
}

// newForeign is a cluster with networks that this host does not have, and so many that it follows.
func newForeign(t *testing.T, own int) *foreign {
	t.Helper()
	inner, err := bolt.Open(filepath.Join(t.TempDir(), "kv.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inner.Close() })
	f := &foreign{T: t, kv: &counting{KV: inner}}
	draw := rand.New(rand.NewPCG(7, 8))
	for range own + foreignNetworks {
		f.ids = append(f.ids, fmt.Sprintf("%016x", draw.Uint64()))
		for shard := range foreignShards {
			f.put(f.ids[len(f.ids)-1], shard)
		}
	}
	x := newShards(store.NewCluster(f.kv, "me").EndpointRecords)
	for _, id := range f.ids[:own] {
		one := follow(t.Context(), x, id)
		t.Cleanup(func() { one.stop(); <-one.done })
		f.mine = append(f.mine, one)
	}
	return f
}

// changes changes all other networks, one after the other, and says how many keys were read for these, and for one of them at most.
func (f *foreign) changes() (read, most int64) {
	f.Helper()
	f.rest()
	before := f.kv.entries.Load()
	for _, id := range f.ids[len(f.mine):] {
		was := f.kv.entries.Load()
		f.put(id, 3)
		f.rest()
		most = max(most, f.kv.entries.Load()-was)
	}
	return f.kv.entries.Load() - before, most
}

// TestForeignNetworks: a change of a network that this host does not have costs it nothing where it has up to as many networks as queries, with some more a twentieth of what the
// cluster has, and with very many no more than about that. In no case more queries wait, and each of this host's networks is heard of.
func TestForeignNetworks(t *testing.T) {
	for _, own := range []int{queries, queries + 8, 150} {
		t.Run(fmt.Sprint(own), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newForeign(t, own)
				var names []string
				for shard := range foreignShards {
					names = append(names, fmt.Sprintf("%02x", shard))
				}
				for _, one := range f.mine {
					one.says(t, "at first", names...)
				}
				if n := f.kv.entries.Load(); n > int64(4*len(f.ids)*foreignShards) {
					t.Errorf("to begin with, %d keys are read, of %d", n, len(f.ids)*foreignShards)
				}
				read, most := f.changes()
				const some = queries + 8 // whose ids leave first digits free
				all := int64(len(f.ids) * foreignShards)
				t.Logf("of %d keys a change of another network reads %d on average, and %d at most", all, read/foreignNetworks, most)
				switch {
				case own <= queries && read > 0:
					t.Errorf("changes of other networks made %d keys be read", read)
				case own <= some && (read > all*foreignNetworks/20 || most > all/8), read > 2*all*foreignNetworks:
					t.Errorf("a change of another network reads %d of %d keys on average, and %d at most", read/foreignNetworks, all, most)
				}
				for i, one := range f.mine {
					select {
					case <-one.news:
						t.Error("a watch says that another network has changed")
					default:
					}
					f.put(f.ids[i], foreignShards)
					one.says(t, "a shard more", append(names, fmt.Sprintf("%02x", foreignShards))...)
				}
				f.rest()
				if n := f.kv.waiting.Load(); n > queries {
					t.Errorf("%d queries wait", n)
				}
			})
		})
	}
}

// TestFormThatEnded: no query waits for the form of the first layout where the layout is the second and no host has it; what comes back there, as with a restored store, is found all
// the same.
func TestFormThatEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, err := bolt.Open(filepath.Join(t.TempDir(), "kv.db"), bolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		defer inner.Close()
		kv := &counting{KV: inner}
		put := func(op store.Op) {
			t.Helper()
			if err := inner.Apply(t.Context(), op); err != nil {
				t.Fatal(err)
			}
		}
		put(store.Op{Kind: store.OpPut, Key: store.PermanentKey(store.IndexesPrefix), Value: []byte("{}")})
		put(store.Op{Kind: store.OpPut, Key: store.IndexKey("n", "h1"), Value: []byte("{}")})
		x := newIndexes(store.NewCluster(kv, "me").EndpointRecords)
		f := followAs(t.Context(), x, "n", false)
		defer func() { f.stop(); <-f.done }()
		rest := func(waiting int32) {
			t.Helper()
			retry.Sleep(t.Context(), resting)
			synctest.Wait()
			if n := kv.waiting.Load(); n != waiting {
				t.Errorf("%d queries wait, not %d", n, waiting)
			}
		}
		f.says(t, "a host has the former form", "h1")
		rest(1)
		put(store.Op{Kind: store.OpRemove, Key: store.IndexKey("n", "h1")})
		f.says(t, "none has it")
		rest(0)
		put(store.Op{Kind: store.OpPut, Key: store.IndexKey("n", "h2"), Value: []byte("{}")})
		rest(0)
		retry.Sleep(t.Context(), seldom)
		f.says(t, "one has it again", "h2")
		rest(1)
	})
}
