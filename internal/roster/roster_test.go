package roster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// patience bounds what a test waits for; only one that fails waits so long.
const patience = 60 * time.Second

// meter counts the keys that are read, by the first part of the key, and their bytes in Consul's JSON.
type meter struct {
	store.KV
	mu    sync.Mutex
	keys  map[string]int
	bytes int
	fail  error // of watches and lists
}

func (m *meter) count(prefix string, entries []store.Entry, err error) ([]store.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(prefix, store.Root), "/")
	for _, e := range entries {
		m.keys[kind]++
		m.bytes += 85 + len(e.Key) + len(e.Value)*4/3
	}
	return entries, err
}

func (m *meter) Get(ctx context.Context, key string) (store.Entry, error) {
	e, err := m.KV.Get(ctx, key)
	if err == nil {
		_, err = m.count(key, []store.Entry{e}, nil)
	}
	return e, err
}

func (m *meter) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	all, err := m.KV.List(ctx, prefix)
	return m.count(prefix, all, err)
}

func (m *meter) Watch(ctx context.Context, prefix string, since uint64) ([]store.Entry, uint64, error) {
	all, next, err := m.KV.Watch(ctx, prefix, since)
	all, err = m.count(prefix, all, err)
	return all, next, err
}

// take returns what was read, and begins again.
func (m *meter) take() (keys map[string]int, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys, bytes = m.keys, m.bytes
	m.keys, m.bytes = map[string]int{}, 0
	return keys, bytes
}

type world struct {
	*testing.T
	ctx  context.Context
	kv   *meter
	me   *store.Cluster
	r    *Roster
	back chan struct{}
}

// newWorld is a running roster of a cluster with that many other hosts.
func newWorld(t *testing.T, layout, hosts int) *world {
	t.Helper()
	kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx, kv: &meter{KV: kv, keys: map[string]int{}}, back: make(chan struct{}, 100)}
	w.me = store.NewCluster(kv, "me")
	w.must(w.me.BeginLayout(ctx))
	w.must(w.me.SetLayout(ctx, layout))
	for i := range hosts {
		w.put(i, "first")
	}
	w.r = New(store.NewCluster(w.kv, "me").HostRecords, Options{Back: func() { w.back <- struct{}{} }})
	running, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { _ = w.r.Run(running) })
	t.Cleanup(func() { stop(); done.Wait() })
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) host(i int) *store.Cluster { return store.NewCluster(w.kv.KV, fmt.Sprintf("%016x", i)) }

func (w *world) put(i int, name string) {
	w.Helper()
	h := store.Host{Name: name, VTEP: netip.MustParseAddr("192.0.2.1"), MTU: 1500, Started: time.Now()}
	w.must(w.host(i).PutHost(w.ctx, h))
}

// same waits until the roster has what the store has.
func (w *world) same(what string) {
	w.Helper()
	changed := w.r.Subscribe(w.ctx)
	for {
		want, err := w.me.Hosts(w.ctx)
		w.must(err)
		got, known := w.r.Members()
		if known && maps.EqualFunc(got.Hosts, want.Hosts, func(a, b store.Host) bool { return string(store.Encode(a)) == string(store.Encode(b)) }) &&
			slices.Equal(slices.Sorted(maps.Keys(got.Unreadable)), slices.Sorted(maps.Keys(want.Unreadable))) {
			return
		}
		select {
		case <-changed:
		case <-w.ctx.Done():
			w.Fatalf("%s: not known within %v: %d hosts of %d", what, patience, len(got.Hosts), len(want.Hosts))
		}
	}
}

// layout waits until the roster knows a layout.
func (w *world) layout(want int) {
	w.Helper()
	for {
		layout, changed := w.r.Layout()
		if layout == want {
			return
		}
		select {
		case <-changed:
		case <-w.ctx.Done():
			w.Fatalf("the layout is %d, the roster knows %d", want, layout)
		}
	}
}

// TestOneHost: what is read when a host joins, changes or goes has one bound in a small and in a large cluster.
func TestOneHost(t *testing.T) {
	const most, mostBytes = 20, 6 << 10
	for _, hosts := range []int{10, 500, 1000} {
		t.Run(fmt.Sprint(hosts), func(t *testing.T) {
			w := newWorld(t, store.NewestLayout, hosts)
			w.same("all")
			for _, c := range []struct {
				what string
				do   func()
			}{
				{"a host joins", func() { w.put(hosts, "new") }},
				{"a host starts again", func() { w.put(3, "again") }},
				{"a host goes", func() { w.must(w.me.RemoveHost(w.ctx, w.host(5).Host())) }},
			} {
				w.kv.take()
				c.do()
				w.same(c.what)
				keys, bytes := w.kv.take()
				n := 0
				for _, count := range keys {
					n += count
				}
				if t.Logf("%s: %v, %d bytes", c.what, keys, bytes); n > most || bytes > mostBytes {
					t.Errorf("%s among %d: %v and %d bytes are read", c.what, hosts, keys, bytes)
				}
			}
		})
	}
}

// TestFollows: the roster has what the store has, through each change of a host, in both layouts, while the layout changes, and after the store was away.
func TestFollows(t *testing.T) {
	w := newWorld(t, store.FirstLayout, 40)
	changes := func(what string, base int) {
		w.Helper()
		w.put(base, "new")
		w.same(what + ": a new host")
		w.put(3, what)
		w.same(what + ": a host that changed")
		w.must(w.me.RemoveHost(w.ctx, w.host(base).Host()))
		w.same(what + ": a host that is gone")
		for i := range 30 {
			w.put(base+i, what)
		}
		w.same(what + ": many")
		for i := range 30 {
			w.must(w.me.RemoveHost(w.ctx, w.host(base+i).Host()))
		}
		w.same(what + ": many that are gone")
	}
	w.same("all")
	w.layout(1)
	changes("the first layout", 100)
	w.must(w.me.SetLayout(w.ctx, 2))
	w.layout(2)
	changes("the second layout", 200)
	w.must(w.me.SetLayout(w.ctx, 1))
	w.layout(1)
	changes("the first layout again", 300)
	w.must(w.me.SetLayout(w.ctx, 2))
	w.layout(2)
	w.put(3, "in the second")
	w.same("the second layout again")

	// A record that can't be read is one host's; its head is that of a newer agent.
	newer := store.Op{Kind: store.OpPut, Key: store.HostKey(w.host(4).Host()), Value: []byte(`{"schema":99}`)}
	w.must(w.kv.Apply(w.ctx, newer))
	w.must(w.me.ReformHosts(w.ctx))
	w.same("an unreadable record")

	for len(w.back) > 0 {
		<-w.back
	}
	w.kv.mu.Lock()
	w.kv.fail = errors.New("the store is away")
	w.kv.mu.Unlock()
	w.put(5, "while it is away")
	heard := func(want bool) {
		w.Helper()
		for w.r.Heard() != want {
			if w.ctx.Err() != nil {
				w.Fatalf("heard is not %t within %v", want, patience)
			}
			w.put(6, store.NewNonce()) // wakes the watch
		}
	}
	heard(false)
	w.layout(2) // the last known stays
	if hosts, current := w.r.Hosts(); current || len(hosts) == 0 {
		t.Errorf("while the store is away, %d hosts are known, and said to be current: %t", len(hosts), current)
	}
	w.kv.mu.Lock()
	w.kv.fail = nil
	w.kv.mu.Unlock()
	heard(true)
	w.same("the store is back")
	if hosts, current := w.r.Hosts(); !current || len(hosts) == 0 {
		t.Errorf("when the store is back, %d hosts are known, and said to be current: %t", len(hosts), current)
	}
	if len(w.back) == 0 {
		t.Error("that the store was away is not told")
	}
}

// TestWhileRaised: hosts change and go while the layout goes up and down, and the roster has them in the end.
func TestWhileRaised(t *testing.T) {
	w := newWorld(t, store.FirstLayout, 20)
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var turning sync.WaitGroup
	turning.Go(func() {
		for layout := 2; ctx.Err() == nil; layout = 3 - layout {
			if err := w.me.SetLayout(ctx, layout); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	for round := range 20 {
		for i := range 20 {
			if (i+round)%7 == 0 {
				if err := w.me.RemoveHost(w.ctx, w.host(i).Host()); err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Error(err)
				}
				continue
			}
			w.put(i, fmt.Sprint(round))
		}
	}
	cancel()
	turning.Wait()
	w.same("after the layout changed again and again")
}
