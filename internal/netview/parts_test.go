package netview_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/store"
)

// meter counts the keys and bytes that a view reads, by the first part of the keys.
type meter struct {
	store.KV
	mu    sync.Mutex
	keys  map[string]int
	bytes int
}

func (m *meter) count(prefix string, entries ...store.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys == nil {
		m.keys = map[string]int{}
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(prefix, store.Root), "/")
	for _, e := range entries {
		m.keys[kind]++
		m.bytes += 85 + len(e.Key) + len(e.Value)*4/3 // Consul's JSON for a key
	}
}

func (m *meter) Get(ctx context.Context, key string) (store.Entry, error) {
	e, err := m.KV.Get(ctx, key)
	if err == nil {
		m.count(key, e)
	}
	return e, err
}

func (m *meter) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	all, err := m.KV.List(ctx, prefix)
	m.count(prefix, all...)
	return all, err
}

func (m *meter) Watch(ctx context.Context, prefix string, since uint64) ([]store.Entry, uint64, error) {
	all, next, err := m.KV.Watch(ctx, prefix, since)
	m.count(prefix, all...)
	return all, next, err
}

// take returns what was counted, and begins anew.
func (m *meter) take() (keys map[string]int, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys, bytes = m.keys, m.bytes
	m.keys, m.bytes = nil, 0
	return keys, bytes
}

// TestOneHostsChange: what is read for the change of one endpoint of one host has the same bound in
// a small and in a large cluster.
func TestOneHostsChange(t *testing.T) {
	for _, hosts := range []int{10, 500} {
		t.Run(fmt.Sprint(hosts), func(t *testing.T) {
			w := newWorld(t)
			w.must(w.me.SetLayout(w.ctx, store.NewestLayout))
			const each = 100
			var some []*store.Cluster
			for i := range hosts {
				c := w.other(i)
				some = append(some, c)
				w.must(c.PutEndpoints(w.ctx, w.network, endpoints(i*each, each)))
			}
			read := &meter{KV: w.kv}
			w.me = store.NewCluster(read, "me")
			v := w.view()
			s, p := v.Stream(w.network), &plane{}
			s.Follow()
			w.run(v)
			w.follow(p, s, "all are known", func() bool { return p.count() == hosts*each })
			read.take()
			const changes = 5
			for n := range changes {
				c := some[n]
				w.must(c.PutEndpoints(w.ctx, w.network, endpoints(n*each, each-1)))
				w.follow(p, s, "the change is known", func() bool { return p.count() == hosts*each-n-1 })
			}
			keys, bytes := read.take()
			t.Logf("a change reads %v/%d keys and %d bytes", keys, changes, bytes/changes)
			if n := keys["shards"] + keys["heads"] + keys["parts"]; n > changes*70 || keys["parts"] > changes || keys["endpoints"]+keys["index"] > 0 {
				t.Errorf("%d changes read %v", changes, keys)
			}
			if bytes > changes*20<<10 {
				t.Errorf("%d changes read %d bytes", changes, bytes)
			}
		})
	}
}

// TestManyHere: 1,500 labelled containers of one host are known elsewhere, none is kept back, and
// one more is one part more or less to read.
func TestManyHere(t *testing.T) {
	w := newWorld(t)
	w.must(w.me.SetLayout(w.ctx, store.NewestLayout))
	v := w.view()
	v.Stream(w.network)
	w.run(v)
	const many = 1500
	for n := range many {
		e := endpoint(n)
		e.Container.Labels = map[string]string{"com.docker.compose.config-hash": strings.Repeat("x", 4000)}
		v.SetEndpoint(w.network, e, true)
	}
	there := store.NewCluster(w.kv, "there")
	w.must(w.me.PutHost(w.ctx, store.Host{Name: "me", VTEP: vtep(1), MTU: 1500}))
	_, err := there.Bind(w.ctx, store.Binding{ID: w.network, DockerID: "dthere", Pools: pools})
	w.must(err)
	theirs := w.viewOf(there, file(t, "there"))
	s, p := theirs.Stream(w.network), &plane{}
	s.Follow()
	w.run(theirs)
	w.follow(p, s, "all are known", func() bool { return p.count() == many })
	if all := v.Unpublished(); len(all) > 0 {
		t.Errorf("not published are %v", all)
	}
	labelled := 0
	w.must(there.EachHost(w.ctx, w.network, store.Walk{Labels: true}, func(e store.Endpoints) error {
		for _, its := range e.Endpoints {
			if its.Container != nil && its.Container.Labels != nil {
				labelled++
			}
		}
		return nil
	}))
	if labelled != many {
		t.Errorf("%d have labels", labelled)
	}
	v.DropEndpoint(w.network, endpoint(700).ID)
	w.follow(p, s, "one is gone", func() bool { return p.count() == many-1 })
}

// TestRestartReadsNoParts: after a restart the parts that this host's own store has are not read
// again, and all is known without the cluster's store.
func TestRestartReadsNoParts(t *testing.T) {
	w := newWorld(t)
	w.must(w.me.SetLayout(w.ctx, store.NewestLayout))
	for i := range 20 {
		w.must(w.other(i).PutEndpoints(w.ctx, w.network, endpoints(i*100, 50)))
	}
	read := &meter{KV: w.kv}
	w.me = store.NewCluster(read, "me")
	start := func() (*netview.View, *netview.Stream, func()) {
		v := w.view()
		s := v.Stream(w.network)
		s.Follow()
		return v, s, w.run(v)
	}
	kept := func(want int) {
		t.Helper()
		for {
			entries, err := w.local.List(w.ctx, store.LocalParts)
			w.must(err)
			if len(entries) == want {
				return
			}
			runtime.Gosched()
		}
	}
	_, s, stop := start()
	p := &plane{}
	w.follow(p, s, "all are known", func() bool { return p.count() == 1000 })
	kept(20 * 4)
	stop()
	if _, all := w.view().Count(); all != 1000 {
		t.Errorf("%d are known after a restart without the cluster's store", all)
	}
	read.take()
	v, s, stop := start()
	for s.Known() == nil {
		runtime.Gosched() // Run has not begun yet
	}
	<-s.Known()
	if keys, _ := read.take(); keys["parts"] > 0 {
		t.Errorf("the restart read %v", keys)
	}
	if _, all := v.Count(); all != 1000 {
		t.Errorf("%d are known after a restart", all)
	}
	// A host that has gone meanwhile, and one with less.
	stop()
	w.must(store.NewCluster(w.kv, "host0003").PutEndpoints(w.ctx, w.network, nil))
	w.must(store.NewCluster(w.kv, "host0004").PutEndpoints(w.ctx, w.network, endpoints(400, 10)))
	_, s, _ = start()
	p = &plane{}
	w.follow(p, s, "the difference is known", func() bool { return p.count() == 910 })
	kept(20*4 - 4 - 3)
}

// TestFormsChange: while the layout is raised and lowered, and hosts follow one after the other, no
// endpoint of another host is ever missing.
func TestFormsChange(t *testing.T) {
	w := newWorld(t)
	const hosts, each = 8, 40
	var all []*store.Cluster
	for i := range hosts {
		c := w.other(i)
		all = append(all, c)
		w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.AliveKey(c.Host()), Value: []byte("x")})) // it changes its records itself
		w.must(c.PutEndpoints(w.ctx, w.network, endpoints(i*each, each)))
	}
	v := w.view()
	s, p := v.Stream(w.network), &plane{}
	s.Follow()
	v.SetEndpoint(w.network, endpoint(1<<20), true)
	w.run(v)
	w.follow(p, s, "all are known", func() bool { return p.count() == hosts*each })
	var missed sync.WaitGroup
	ctx, stop := context.WithCancel(w.ctx)
	missed.Go(func() {
		for ctx.Err() == nil {
			if _, n := v.Count(); n != hosts*each {
				t.Errorf("%d endpoints are known", n)
				return
			}
			runtime.Gosched()
		}
	})
	draw := rand.New(rand.NewPCG(3, 4))
	for round := range 4 {
		layout := 1 + (round+1)%2
		w.must(w.me.SetLayout(w.ctx, layout))
		for _, i := range draw.Perm(hosts) {
			w.must(all[i].PutEndpoints(w.ctx, w.network, endpoints(i*each, each)))
		}
		for { // this host follows, too
			mine, err := w.me.Published(w.ctx, w.network)
			w.must(err)
			if mine.Form() == layout {
				break
			}
			runtime.Gosched()
		}
	}
	// What is new in either form is known; what has gone, too.
	w.must(all[0].PutEndpoints(w.ctx, w.network, endpoints(0, each)))
	stop()
	missed.Wait()
	w.must(all[1].PutEndpoints(w.ctx, w.network, nil))
	w.must(all[2].PutEndpoints(w.ctx, w.network, endpoints(2*each, 10)))
	w.follow(p, s, "two have less", func() bool { return p.count() == (hosts-2)*each+10 })
}

// TestFormerAgentReadsCopies: what this host's own store has below the prefix that an agent of before reads is in the form that it knows, also in the second
// layout: with anything else it would not start. What it writes there afterwards counts, until the cluster's store has told.
func TestFormerAgentReadsCopies(t *testing.T) {
	w := newWorld(t)
	w.must(w.me.SetLayout(w.ctx, store.NewestLayout))
	w.must(w.other(1).PutEndpoints(w.ctx, w.network, endpoints(0, 20)))
	v := w.view()
	s := v.Stream(w.network)
	s.Follow()
	stop := w.run(v)
	p := &plane{}
	w.follow(p, s, "all are known", func() bool { return p.count() == 20 })
	list := func(prefix string, want int) []store.Entry {
		t.Helper()
		for {
			entries, err := w.local.List(w.ctx, prefix)
			w.must(err)
			if len(entries) == want {
				return entries
			}
			runtime.Gosched()
		}
	}
	part := list(store.LocalParts, 2)[0]
	list(store.LocalPeers, 0)
	stop()
	_, host, _, _ := store.ParseLocalPart(part.Key)
	r := store.Endpoints{Schema: 1, Network: w.network, Host: host, Revision: "r", Endpoints: endpoints(0, 3)}
	w.must(w.local.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.LocalPeerKey(w.network, host), Value: store.Encode(r)}))
	v = w.view()
	if _, all := v.Count(); all != 3 {
		t.Errorf("%d are known, want those of the record that an agent of before has written", all)
	}
	s = v.Stream(w.network)
	s.Follow()
	defer w.run(v)()
	p = &plane{}
	w.follow(p, s, "what the cluster's store has is known again", func() bool { return p.count() == 20 })
	list(store.LocalPeers, 0)
	list(store.LocalParts, 2)
}
