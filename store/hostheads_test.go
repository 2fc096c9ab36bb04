package store_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// allShards are the hosts' shards.
func allShards() (all []string) {
	for i := range store.HostShards {
		all = append(all, fmt.Sprintf("%x", i))
	}
	return all
}

// heads compares the heads of all hosts with their records, as the layout wants them: all, or none.
func (w *world) heads(layout int) {
	w.Helper()
	reader := w.host("reader")
	heads, err := reader.HostHeads(w.ctx, allShards())
	w.must(err)
	hosts, err := reader.AllHosts(w.ctx)
	w.must(err)
	want := map[string]string{}
	for id, h := range hosts {
		if layout > 1 {
			want[id] = h.Hash
		}
	}
	if !maps.Equal(heads, want) {
		w.Errorf("in layout %d heads are %v, want %v", layout, heads, want)
	}
	for _, prefix := range []string{store.HostHeadsPrefix, store.HostShardsPrefix} {
		if entries, err := w.kv.List(w.ctx, prefix); err != nil || layout == 1 && len(entries) > 0 {
			w.Errorf("%s has %v, %v in the first layout", prefix, entries, err)
		}
	}
}

// moved are the shards that have changed since a watch, in order.
func (w *world) moved(before map[string]uint64, index uint64) (moved []string, now map[string]uint64, next uint64) {
	w.Helper()
	now, next, err := w.host("reader").WatchHostShards(w.ctx, index)
	w.must(err)
	for s, version := range now {
		if before[s] != version {
			moved = append(moved, s)
		}
	}
	slices.Sort(moved)
	return moved, now, next
}

// testHeads: each writing of a host's record changes its head and its shard, and no other; hosts that write at once are all told of.
func testHeads(w *world) {
	a, b := w.host("a"), w.host("b")
	shards, index, err := a.WatchHostShards(w.ctx, 0)
	w.must(err)
	if len(shards) != 0 {
		w.Errorf("shards of no hosts are %v", shards)
	}
	question := store.Question{Nonce: "q", Asker: "x", Name: "copy", VTEP: addr("192.0.2.9")}
	var moved []string
	for name, change := range []func() error{
		func() error { return a.PutHost(w.ctx, store.Host{Name: "a"}) },
		func() error { return a.PutHost(w.ctx, store.Host{Name: "other"}) },
		func() error { return b.NoteQuestion(w.ctx, "a", question) },
		func() error { return b.RemoveHost(w.ctx, "a") },
	} {
		w.must(change())
		if moved, shards, index = w.moved(shards, index); !slices.Equal(moved, []string{store.HostShardOf("a")}) {
			w.Errorf("change %d moved the shards %v", name, moved)
		}
		w.heads(2)
	}
	w.together(40, func(i int, c *store.Cluster) {
		for n := range 2 {
			if err := c.PutHost(w.ctx, store.Host{Name: fmt.Sprint(c.Host(), n)}); err != nil {
				w.Error(err)
			}
		}
	})
	w.heads(2)
	hosts, err := a.Hosts(w.ctx)
	w.must(err)
	if len(hosts.Hosts) != 40 {
		w.Errorf("hosts are %v", hosts)
	}
	w.together(40, func(i int, c *store.Cluster) {
		if err := b.RemoveHost(w.ctx, c.Host()); err != nil {
			w.Error(err)
		}
	})
	w.heads(2)
	w.empty()
}

// testHeadsRaised: the heads come with the second layout, also of records that can't be read and of hosts that are down, and go with it.
func testHeadsRaised(w *world) {
	a := w.host("a")
	for i := range 50 {
		w.must(w.host(fmt.Sprint("host", i)).PutHost(w.ctx, store.Host{Name: "x"}))
	}
	w.heads(1)
	for range 2 {
		w.must(a.SetLayout(w.ctx, 2))
		w.heads(2)
		w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
		w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.JanitorKey, Value: []byte(`{"schema":1,"host":"a"}`)}))
		w.heads(2)
		w.must(a.SetLayout(w.ctx, 1))
		w.heads(1)
		if _, err := w.kv.Get(w.ctx, store.JanitorKey); !errors.Is(err, store.ErrNotFound) {
			w.Errorf("the janitor in the second layout: %v", err)
		}
		w.must(a.RemoveHost(w.ctx, "a"))
	}
}

// testHeadsWhileRaised: hosts write, are asked and go while the layout goes up and down; no head is wrong in the end, and none was when it stood still.
func testHeadsWhileRaised(w *world) {
	a := w.host("a")
	w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
	var enough atomic.Bool // a write that is cut off could still take effect afterwards
	var turning sync.WaitGroup
	turns := 0
	turning.Go(func() {
		for layout := 2; !enough.Load(); layout = 3 - layout {
			if err := a.SetLayout(w.ctx, layout); err != nil {
				w.Error(err)
				return
			}
			turns++
		}
	})
	w.together(6, func(i int, c *store.Cluster) {
		for round := range 25 {
			err := c.PutHost(w.ctx, store.Host{Name: fmt.Sprint(round)})
			if round%3 == 0 {
				err = errors.Join(err, a.NoteQuestion(w.ctx, c.Host(), store.Question{Nonce: fmt.Sprint(round), VTEP: addr("192.0.2.9")}))
			}
			if round%5 == i%5 {
				err = errors.Join(err, a.RemoveHost(w.ctx, c.Host()))
			}
			if err != nil {
				w.Errorf("%s in round %d: %v", c.Host(), round, err)
				return
			}
		}
	})
	enough.Store(true)
	turning.Wait()
	w.Logf("the layout changed %d times", turns)
	for _, layout := range []int{2, 1, 2} {
		w.must(a.SetLayout(w.ctx, layout))
		w.heads(layout)
	}
	w.must(a.SetLayout(w.ctx, 1))
}

// testHeadsCutOff: a conversion that fails at any of its operations is finished by the next one.
func testHeadsCutOff(w *world) {
	for i := range 20 {
		w.must(w.host(fmt.Sprint("host", i)).PutHost(w.ctx, store.Host{Name: "x"}))
	}
	for _, layout := range []int{2, 1} {
		for at, failed := int64(1), true; failed; at++ {
			w.must(w.host("a").SetLayout(w.ctx, 3-layout))
			kv := &faulty{KV: w.kv, at: at, fault: failAfter}
			failed = store.NewCluster(kv, "a").SetLayout(w.ctx, layout) != nil
			w.must(w.host("a").SetLayout(w.ctx, layout))
			w.heads(layout)
		}
	}
}

// testHeadsUnwritten: before a conversion has written the heads, watchers see a host that goes or changes all the same.
func testHeadsUnwritten(w *world) {
	a, b := w.host("a"), w.host("b")
	w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
	record, err := w.kv.Get(w.ctx, store.HostKey("a"))
	w.must(err)
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.HostKey("b"), Value: []byte(`{"schema":1,"id":"b"}`)})) // as in the first layout
	shards, index, err := a.WatchHostShards(w.ctx, 0)
	w.must(err)
	w.must(a.RemoveHost(w.ctx, "b"))
	moved, shards, index := w.moved(shards, index)
	if !slices.Equal(moved, []string{store.HostShardOf("b")}) {
		w.Errorf("a host without a head that goes moves the shards %v", moved)
	}
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.HostKey("a"), Value: []byte(`{"schema":1,"id":"a"}`)})) // and the head of before is left
	w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
	if moved, _, _ = w.moved(shards, index); !slices.Equal(moved, []string{store.HostShardOf("a")}) {
		w.Errorf("a host that is again as its head says moves the shards %v", moved)
	}
	if now, err := b.AllHosts(w.ctx); err != nil || string(store.Encode(now["a"].Host)) != string(record.Value) {
		w.Errorf("hosts are %v, %v", now, err)
	}
	w.heads(2)
}

// testHeadsByHand: heads that were changed by hand, or records without them, are brought in order by the cluster's janitor, and by the hosts themselves.
func testHeadsByHand(w *world) {
	a := w.host("a")
	key := store.HostHeadsKey(store.HostShardOf("a"))
	put := func(key, value string) {
		w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: key, Value: []byte(value)}))
	}
	w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
	for _, broken := range []string{`[]`, `{"schema":1,"h":{"a":"other","unknown":"x"}}`, `{"schema":1}`, ``} {
		put(key, broken)
		w.must(a.ReformHosts(w.ctx))
		w.heads(2)
	}
	put(key, `[]`)
	w.must(a.PutHost(w.ctx, store.Host{Name: "b"}))
	w.heads(2)
	put(store.HostKey("planted"), `{"schema":99}`)
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpRemove, Key: store.HostKey("a")}))
	w.must(a.ReformHosts(w.ctx))
	w.heads(2)
	put(key, `{"schema":99}`)
	for _, err := range []error{a.PutHost(w.ctx, store.Host{Name: "c"}), a.ReformHosts(w.ctx)} {
		w.wants(err, store.ErrNewer)
	}
}

// testHeadsDeposed: a leader that was deposed answers single reads from what it knew; the record is read again by a list. A host without a head may have one all the same.
func testHeadsDeposed(w *world) {
	a := w.host("a")
	w.must(a.PutHost(w.ctx, store.Host{Name: "old"}))
	deposed := store.NewCluster(remembers(w, store.HostKey("a")), "b")
	w.must(a.PutHost(w.ctx, store.Host{Name: "new"}))
	heads, err := deposed.HostHeads(w.ctx, []string{store.HostShardOf("a")})
	w.must(err)
	for _, want := range []map[string]string{heads, {"a": ""}, {"a": "other"}} {
		found, err := deposed.ReadHosts(w.ctx, want)
		w.must(err)
		if len(found) != 1 || found["a"].Host.Name != "new" || found["a"].Hash != heads["a"] {
			w.Errorf("with %v found are %+v", want, found)
		}
	}
	w.must(w.host("c").RemoveHost(w.ctx, "a"))
	if found, err := w.host("b").ReadHosts(w.ctx, heads); err != nil || len(found) > 0 {
		w.Errorf("of a host that is gone: %+v, %v", found, err)
	}
}

// sign makes a host's sign of life come or go.
func (w *world) sign(id string, there bool) {
	w.Helper()
	op := store.Op{Kind: store.OpRemove, Key: store.AliveKey(id)}
	if there {
		op = store.Op{Kind: store.OpPut, Key: store.AliveKey(id), Value: []byte(id)}
	}
	w.must(w.kv.Apply(w.ctx, op))
}

// testJanitor: one host that is alive is the janitor. In the first layout it is the first of them, in the second the first that asked, until it is not alive.
func testJanitor(w *world) {
	is := func(id string, want bool) {
		w.Helper()
		members, err := w.host("reader").Hosts(w.ctx)
		w.must(err)
		if got, err := w.host(id).IsJanitor(w.ctx, members); err != nil || got != want {
			w.Errorf("%s is the janitor: %t, %v", id, got, err)
		}
	}
	for _, id := range []string{"a", "b", "c"} {
		w.must(w.host(id).PutHost(w.ctx, store.Host{Name: id}))
		is(id, false) // not alive
	}
	w.sign("b", true)
	is("b", true)
	w.sign("a", true)
	is("a", !w.second)
	is("b", w.second)
	is("c", false)
	w.sign("b", false)
	is("b", false)
	is("a", true)
	w.sign("b", true)
	is("b", false)
	is("a", true)
	if !w.second {
		if _, err := w.kv.Get(w.ctx, store.JanitorKey); !errors.Is(err, store.ErrNotFound) {
			w.Errorf("in the first layout there is a record of the janitor: %v", err)
		}
		return
	}
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.JanitorKey, Value: []byte(`{"schema":1,"host":"no//id"}`)}))
	is("b", true)
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.JanitorKey, Value: []byte(`{"schema":99}`)}))
	_, err := w.host("b").IsJanitor(w.ctx, store.Membership{})
	w.wants(err, store.ErrNewer)
}

// testJanitorRace: of many hosts that ask at once, one is the janitor, however often its predecessor dies.
func testJanitorRace(w *world) {
	const hosts = 16
	for i := range hosts {
		w.sign(fmt.Sprintf("host-%02d", i), true)
	}
	for round := range 5 {
		var mu sync.Mutex
		var mine []string
		w.together(hosts, func(i int, c *store.Cluster) {
			is, err := c.IsJanitor(w.ctx, store.Membership{})
			if err != nil {
				w.Error(err)
			}
			if is {
				mu.Lock()
				defer mu.Unlock()
				mine = append(mine, c.Host())
			}
		})
		if len(mine) != 1 {
			w.Fatalf("in round %d these tidy: %q", round, mine)
		}
		w.sign(mine[0], false)
	}
}

// FuzzHostHeads: with any value at the key of heads, a reader gets hosts of their shard only, and a writer repairs it or refuses it as newer.
func FuzzHostHeads(f *testing.F) {
	f.Add([]byte(`{"schema":1,"h":{"a":"AAAAAAAA","b":"x","":"y","a//b":"z"}}`))
	f.Add([]byte(`{"schema":1,"h":null}`))
	f.Add([]byte(`{"schema":2}`))
	f.Add([]byte(`[]`))
	kv := emptyStore(f)
	a := store.NewCluster(kv, "a")
	if err := a.BeginLayout(f.Context()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		shard := store.HostShardOf("a")
		if err := kv.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: store.HostHeadsKey(shard), Value: value}); err != nil {
			t.Skip("no store takes such a value")
		}
		heads, err := a.HostHeads(t.Context(), []string{shard})
		if err != nil {
			t.Fatal(err)
		}
		for id := range heads {
			if store.HostShardOf(id) != shard || store.ValidKey(store.HostKey(id)) != nil {
				t.Errorf("%q: a head of host %q", value, id)
			}
		}
		if _, err := a.ReadHosts(t.Context(), heads); err != nil {
			t.Errorf("%q: %v", value, err)
		}
		if err := a.PutHost(t.Context(), store.Host{Name: "a", VTEP: netip.MustParseAddr("192.0.2.1")}); err != nil {
			if !errors.Is(err, store.ErrNewer) {
				t.Errorf("%q: %v", value, err)
			}
			return
		}
		hosts, err := a.AllHosts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if heads, err = a.HostHeads(t.Context(), []string{shard}); err != nil || heads["a"] != hosts["a"].Hash {
			t.Errorf("%q: heads are %v, %v", value, heads, err)
		}
	})
}
