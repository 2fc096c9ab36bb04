package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// olderHost writes the record of a host whose agent does not know of layouts.
func (w *world) olderHost(id string) {
	w.Helper()
	h := store.Host{Schema: 1, ID: id, Name: id}
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.HostKey(id), Value: store.Encode(h)}))
}

// layoutIs compares the layout, and the schema by which older agents refuse the data.
func (w *world) layoutIs(want int) {
	w.Helper()
	state, err := w.host("reader").LayoutState(w.ctx)
	w.must(err)
	if state.Layout.Layout != want {
		w.Errorf("layout is %+v, want %d", state, want)
	}
	e, err := w.kv.Get(w.ctx, store.SchemaKey)
	if err != nil && !(errors.Is(err, store.ErrNotFound) && want == 1) {
		w.Fatal(err)
	}
	if got, err := store.SchemaOf(e); want == 2 && (err != nil || got != 2) {
		w.Errorf("schema is %d, %v", got, err)
	}
}

// tend is TendLayout with the hosts as they are.
func (w *world) tend(c *store.Cluster, now time.Time, soak time.Duration) (int, error) {
	members, err := c.Hosts(w.ctx)
	w.must(err)
	return c.TendLayout(w.ctx, members, now, soak)
}

// testLayout: the layout is raised when all hosts, also those that are off, have known it for long enough.
func testLayout(w *world) {
	a := w.host("a")
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tend := func(after time.Duration, want int) {
		w.Helper()
		got, err := w.tend(a, began.Add(after), store.LayoutSoak)
		w.must(err)
		if got != want {
			w.Errorf("after %v the layout is %d, want %d", after, got, want)
		}
		w.layoutIs(want)
	}
	w.olderHost("b")
	w.must(a.BeginLayout(w.ctx))
	w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
	tend(0, 1)
	tend(100*time.Hour, 1)
	w.must(w.host("b").PutHost(w.ctx, store.Host{Name: "b"}))
	tend(101*time.Hour, 1)
	tend(124*time.Hour, 1)
	w.olderHost("c") // comes back after a long time
	tend(126*time.Hour, 1)
	w.must(w.host("c").PutHost(w.ctx, store.Host{Name: "c"}))
	tend(127*time.Hour, 1)
	before := w.dump()
	tend(150*time.Hour, 1)
	if after := w.dump(); !slices.Equal(before, after) {
		w.Errorf("waiting wrote\n%q over\n%q", after, before)
	}
	tend(151*time.Hour, 2)
	w.olderHost("d") // whoever comes later is refused by the schema
	tend(152*time.Hour, 2)
}

// testLayoutBegins: a cluster without records has the newest layout from the start; any other says that it has the first.
func testLayoutBegins(w *world) {
	w.must(w.host("a").BeginLayout(w.ctx))
	w.must(w.host("b").BeginLayout(w.ctx))
	w.layoutIs(2)
	for _, begin := range []func(){
		func() { w.olderHost("old") },
		func() { _, err := w.host("a").AcquirePool(w.ctx, poolA); w.must(err) },
	} {
		w.wipe()
		begin()
		w.must(w.host("a").BeginLayout(w.ctx))
		w.layoutIs(1)
	}
}

// TestGuardedBegins: what is guarded has its layout before anything is written, whoever is first, and however many are.
func TestGuardedBegins(t *testing.T) {
	for name, want := range map[string]int{"new": 2, "of before": 1} {
		kv := emptyStore(t)
		if want == 1 {
			put(t, kv, store.HostKey("old"), `{"schema":1,"id":"old"}`)
		}
		var agents sync.WaitGroup
		for i := range 8 {
			agents.Go(func() {
				guarded := store.Guarded(kv, "the cluster's data", store.SchemaKey, store.Migrations())
				_, err := store.NewCluster(guarded, fmt.Sprint("host-", i)).AcquirePool(t.Context(), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24))
				if err != nil {
					t.Error(err)
				}
			})
		}
		agents.Wait()
		w := &world{t, t.Context(), kv, want == 2}
		w.layoutIs(want)
		if got, want := w.forms(), map[int]string{1: "map[schema 1:8]", 2: "map[beside:8 schema 2:8]"}[want]; got != want {
			t.Errorf("%s: forms are %s, want %s", name, got, want)
		}
	}
}

// testLayoutOperator: an operator's word counts at once, if all hosts can follow; going back stays so.
func testLayoutOperator(w *world) {
	a := w.host("a")
	w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
	w.olderHost("b")
	w.wants(a.SetLayout(w.ctx, 2), store.ErrOlderHosts, "of b", "upgrade socketplane there")
	state, err := a.LayoutState(w.ctx)
	w.must(err)
	if len(state.Older) != 1 || state.Older[0].ID != "b" {
		w.Errorf("older are %+v", state.Older)
	}
	w.must(w.host("b").PutHost(w.ctx, store.Host{Name: "b"}))
	w.must(a.SetLayout(w.ctx, 2))
	w.layoutIs(2)
	w.must(a.SetLayout(w.ctx, 1))
	w.layoutIs(1)
	for day := range 4 {
		_, err := w.tend(a, time.Now().Add(time.Duration(day)*24*time.Hour), time.Hour)
		w.must(err)
	}
	w.layoutIs(1)
	w.must(a.SetLayout(w.ctx, 2))
	w.layoutIs(2)
	for _, wrong := range []int{0, 3} {
		w.wants(a.SetLayout(w.ctx, wrong), store.ErrInvalid)
	}
}

// testLayoutNewer: an agent leaves a layout that it does not know alone.
func testLayoutNewer(w *world) {
	a := w.host("a")
	for _, value := range []string{`{"schema":1,"layout":3}`, `{"schema":99}`, `{"schema":1,"layout":-1}`, `[]`} {
		w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.LayoutKey, Value: []byte(value)}))
		before := w.dump()
		_, tend := w.tend(a, time.Now(), 0)
		for _, err := range []error{a.BeginLayout(w.ctx), tend, a.SetLayout(w.ctx, 1), a.SetLayout(w.ctx, 2)} {
			w.wants(err, store.ErrInvalid)
		}
		if after := w.dump(); !slices.Equal(before, after) {
			w.Errorf("changed %q to %q", before, after)
		}
	}
}

// TestSchemaOfLayout: the number of the second layout is no trouble for an agent that knows it, and is for one of before.
func TestSchemaOfLayout(t *testing.T) {
	for value, fine := range map[string]bool{`{"schema":1}`: true, `{"schema":2}`: true, `{"schema":3}`: false} {
		kv := emptyStore(t)
		put(t, kv, store.SchemaKey, value)
		_, err := store.Guarded(kv, "the cluster's data", store.SchemaKey, store.Migrations()).List(t.Context(), store.Root)
		if fine != (err == nil) || !fine && !errors.Is(err, store.ErrNewer) {
			t.Errorf("%s: %v", value, err)
		}
		former := store.Guarded(kv, "the cluster's data", schemaKey, store.Migrations()) // any other key, such as the local state's, is as it was
		put(t, kv, schemaKey, `{"schema":2}`)
		if _, err := former.List(t.Context(), store.Root); !errors.Is(err, store.ErrNewer) {
			t.Errorf("other data: %v", err)
		}
	}
}

// toldLayout is a layout that a test tells.
type toldLayout struct {
	mu      sync.Mutex
	layout  int
	changed chan struct{}
}

func (t *toldLayout) now() (int, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.layout, t.changed
}

func (t *toldLayout) tell(layout int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.layout = layout
	close(t.changed)
	t.changed = make(chan struct{})
}

// testAlive: a host is alive for agents of both layouts while the first one is used, and for those of the second alone afterwards.
func testAlive(w *world) {
	a := w.host("a")
	w.olderHost("a")
	w.must(a.BeginLayout(w.ctx))
	w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	told := &toldLayout{changed: make(chan struct{})}
	go func() { ended <- a.Announce(ctx, 10*time.Second, told.now) }()
	has := func(key string, want bool) {
		w.Helper()
		var index uint64
		for {
			entries, next, err := w.kv.Watch(w.ctx, key, index)
			w.must(err)
			if slices.ContainsFunc(entries, func(e store.Entry) bool { return e.Key == key }) == want {
				return
			}
			index = next
		}
	}
	has(store.AliveKey("a"), true)
	has(store.FormerAliveKey("a"), false) // while the layout is not known
	told.tell(1)
	has(store.FormerAliveKey("a"), true)
	w.must(a.SetLayout(w.ctx, 2))
	told.tell(2)
	has(store.FormerAliveKey("a"), false)
	has(store.AliveKey("a"), true)
	members, err := a.Hosts(w.ctx)
	w.must(err)
	if len(members.Hosts) != 1 || !members.Alive["a"] || len(members.Alive) != 1 {
		w.Errorf("members are %+v", members)
	}
	w.must(a.SetLayout(w.ctx, 1))
	told.tell(1)
	has(store.FormerAliveKey("a"), true)
	cancel()
	w.wants(<-ended, context.Canceled)
	for _, key := range []string{store.AliveKey("a"), store.FormerAliveKey("a")} {
		has(key, false)
		w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: key, Value: []byte("a")}))
		alive, err := a.Alive(w.ctx)
		members, errHosts := a.Hosts(w.ctx)
		if w.must(errors.Join(err, errHosts)); !alive || !members.Alive["a"] {
			w.Errorf("with %s the host is not alive", key)
		}
		w.wants(w.host("b").RemoveHost(w.ctx, "a"), store.ErrConflict)
		if gone, err := w.host("b").NoteGone(w.ctx, time.Now()); err != nil || len(gone) != 0 {
			w.Errorf("with %s gone are %v, %v", key, gone, err)
		}
		w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpRemove, Key: key}))
	}
}

// testPermanent: what stands under watched prefixes in the second layout is no record of anything.
func testPermanent(w *world) {
	a := w.host("a")
	w.must(a.BeginLayout(w.ctx))
	for _, prefix := range []string{store.AsksPrefix, store.DeclaredPrefix, store.AlivePrefix} {
		if entries, err := w.kv.List(w.ctx, prefix); err != nil || len(entries) != 1 {
			w.Errorf("%s has %v, %v", prefix, entries, err)
		}
	}
	asks, err := a.Asks(w.ctx)
	w.must(err)
	watched, _, err := a.WatchAsks(w.ctx, 0)
	w.must(err)
	names, err := a.DeclaredNames(w.ctx)
	w.must(err)
	declared, _, err := a.WatchDeclared(w.ctx, 0)
	w.must(err)
	members, err := a.Hosts(w.ctx)
	w.must(err)
	garbage, err := a.Garbage(w.ctx)
	w.must(err)
	if n := len(asks) + len(watched) + len(names) + len(declared) + len(members.Alive) + len(members.Unreadable) + len(garbage); n != 0 {
		w.Errorf("asks %v %v, names %v %v, members %+v, garbage %v", asks, watched, names, declared, members, garbage)
	}
	w.must(a.SetLayout(w.ctx, 1)) // for agents of before, which would take the keys for garbage
	entries, err := w.kv.List(w.ctx, store.Root)
	w.must(err)
	if len(entries) != 3 { // layout, schema, and the key below shards/, which these do not know
		w.Errorf("left are %v", entries)
	}
}

func FuzzLayout(f *testing.F) {
	f.Add([]byte(`{"schema":1,"layout":2,"since":"2026-01-02T03:04:05Z","pinned":true,"nonce":"x"}`))
	f.Add([]byte(`{"schema":1}`))
	f.Add([]byte(`{"schema":2,"layout":9}`))
	kv, err := bolt.Open(filepath.Join(f.TempDir(), "kv.db"), bolt.Options{NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = kv.Close() })
	f.Fuzz(func(t *testing.T, value []byte) {
		if err := kv.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: store.LayoutKey, Value: value}); err != nil {
			t.Skip("no store takes such a value")
		}
		state, err := store.NewCluster(kv, "a").LayoutState(t.Context())
		if err == nil && state.Layout.Layout != 1 && state.Layout.Layout != 2 {
			t.Errorf("%q is read as %+v", value, state)
		}
		if err != nil && !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%q: %v", value, err)
		}
	})
}
