package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// testBound: how hosts stand to networks and pools is told alike in both layouts, for one host, one network and all.
func testBound(w *world) {
	a, b := w.host("a"), w.host("b")
	made, err := a.Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolA}})
	w.must(err)
	for id, h := range map[string]*store.Cluster{"da": a, "db": b} {
		_, err := h.AcquirePool(w.ctx, poolA)
		w.must(err)
		_, err = h.Bind(w.ctx, binding(id, "", poolA))
		w.must(err)
	}
	w.must(b.PutEndpoints(w.ctx, made.ID, []store.Endpoint{{ID: "e"}}))
	w.must(a.ManagePool(w.ctx, poolB, "a", false))
	w.must(a.Release(w.ctx, made.ID, "da"))
	for host, want := range map[string]store.Bound{"a": {Away: true}, "b": {DockerID: "db"}, "c": {}} {
		c := w.host(host)
		own, err := c.Bound(w.ctx, made.ID)
		w.must(err)
		listed, unread, err := c.OwnNetworks(w.ctx)
		w.must(err)
		if own != want || len(listed) != 1 || listed[0].Bound != want || listed[0].ID != made.ID || len(unread) > 0 {
			w.Errorf("host %s stands to the network as %+v, listed %+v, want %+v; unreadable %v", host, own, listed, want, unread)
		}
		held, err := c.Holds(w.ctx, poolA)
		w.must(err)
		pools, err := c.OwnPools(w.ctx)
		w.must(err)
		for _, p := range pools {
			if p.Held != (p.CIDR == poolA && host != "c") {
				w.Errorf("host %s holds %s: %t", host, p.CIDR, p.Held)
			}
		}
		if held != (host != "c") || len(pools) != 2 {
			w.Errorf("host %s holds the pool: %t; pools %+v", host, held, pools)
		}
	}
	all, unread, err := a.BoundNetworks(w.ctx)
	w.must(err)
	if len(all) != 1 || all[0].ID != made.ID || fmt.Sprint(all[0].Bindings.Present(), all[0].Bindings.Away()) != "[b] [a]" || len(unread) > 0 {
		w.Errorf("all are %+v, unreadable %v", all, unread)
	}
	if got := w.bound(made.ID); !slices.Equal(got, []string{"a away", "b=db"}) {
		w.Errorf("bound are %q", got)
	}
	if swarm, err := a.ForSwarm().Holds(w.ctx, poolB); err != nil || !swarm || !slices.Equal(w.holders(poolB), []string{"swarm"}) {
		w.Errorf("Swarm holds it: %t, %v; holders %q", swarm, err, w.holders(poolB))
	}
	if none, err := a.Bound(w.ctx, "nothing"); err != nil || none != (store.Bound{}) {
		w.Errorf("a network that is not there: %+v, %v", none, err)
	}
	_, err = a.BoundTo(w.ctx, "nothing")
	w.wants(err, store.ErrNotFound)
	// What must hold while this host has the network holds through others' joins in the second layout.
	ops, err := store.BoundOps(b, w.ctx, made.ID)
	w.must(err)
	w.must(w.kv.Apply(w.ctx, ops...))
	_, err = w.host("c").Bind(w.ctx, binding("dc", "", poolA))
	w.must(err)
	if err := w.kv.Apply(w.ctx, ops...); (err == nil) != w.second || !w.second && !errors.Is(err, store.ErrConflict) {
		w.Errorf("after another host's join: %v", err)
	}
	w.must(b.Unbind(w.ctx, made.ID, "db"))
	w.wants(w.kv.Apply(w.ctx, ops...), store.ErrConflict)
	_, err = store.BoundOps(b, w.ctx, made.ID)
	w.wants(err, store.ErrNotFound)
	// A network that is made anew is another one: nobody let go of it.
	w.must(w.host("c").Release(w.ctx, made.ID, "dc"))
	w.must(a.ReleasePool(w.ctx, poolA))
	w.must(b.ReleasePool(w.ctx, poolA))
	w.must(a.LeaveManaged(w.ctx, poolB, "a"))
	w.empty()
}

// counting counts transactions, and those that met a conflict. As many calls run at once as slots has room for: Consul takes 200 connections of one address.
type counting struct {
	store.KV
	slots                 chan struct{}
	all, reads, conflicts atomic.Int64
}

func (c *counting) Get(ctx context.Context, key string) (store.Entry, error) {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	c.reads.Add(1)
	return c.KV.Get(ctx, key)
}

func (c *counting) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	c.reads.Add(1)
	return c.KV.List(ctx, prefix)
}

func (c *counting) Apply(ctx context.Context, ops ...store.Op) error {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	err := c.KV.Apply(ctx, ops...)
	c.all.Add(1)
	if errors.Is(err, store.ErrConflict) {
		c.conflicts.Add(1)
	}
	return err
}

// testBoundAtOnce: in the second layout hosts that join a network and hold its subnet at once, publish, and leave, do not meet: each
// change is one transaction, and reads as often as if no other host did the same.
func testBoundAtOnce(w *world) {
	const hosts = 300
	made, err := w.host("first").Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolA}})
	w.must(err)
	_, err = w.host("first").AcquirePool(w.ctx, poolA)
	w.must(err)
	kv := &counting{KV: w.kv, slots: make(chan struct{}, 100)}
	at := func(what string, want, reads int64, do func(c *store.Cluster) error) {
		w.Helper()
		before, readBefore := kv.all.Load(), kv.reads.Load()
		var wg sync.WaitGroup
		for i := range hosts {
			wg.Go(func() {
				if err := do(store.NewCluster(kv, fmt.Sprintf("host-%03d", i))); err != nil {
					w.Errorf("%s: %v", what, err)
				}
			})
		}
		wg.Wait()
		if got := kv.all.Load() - before; got != want || kv.conflicts.Load() > 0 {
			w.Errorf("%s: %d transactions, want %d; %d conflicts so far", what, got, want, kv.conflicts.Load())
		}
		if got := kv.reads.Load() - readBefore; got > reads {
			w.Errorf("%s: %d reads, %d for each host, want at most %d", what, got, got/hosts, reads/hosts)
		}
	}
	at("join and hold", 2*hosts, 8*hosts, func(c *store.Cluster) error {
		_, err := c.AcquirePool(w.ctx, poolA)
		if err == nil {
			_, err = c.Bind(w.ctx, binding("d"+c.Host(), "", poolA))
		}
		return err
	})
	if got := len(w.bound(made.ID)); got != hosts {
		w.Errorf("%d hosts are bound", got)
	}
	at("publish", hosts, 6*hosts, func(c *store.Cluster) error { return c.PutEndpoints(w.ctx, made.ID, []store.Endpoint{{ID: "e"}}) })
	at("leave", 2*hosts, 12*hosts, func(c *store.Cluster) error {
		err := c.ReleasePool(w.ctx, poolA)
		if err == nil {
			err = c.Unbind(w.ctx, made.ID, "d"+c.Host())
		}
		return err
	})
	w.must(w.host("first").ReleasePool(w.ctx, poolA))
	w.must(w.host("first").Remove(w.ctx, made.ID))
	w.empty()
}

// testBoundUnreadable: a binding that can't be read is somebody's: its network stays, and it is told.
func testBoundUnreadable(w *world) {
	a := w.host("a")
	n, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	w.put(store.BoundKey(n.ID, "later"), `{"schema":99}`)
	w.wants(a.Unbind(w.ctx, n.ID, "da"), store.ErrNewer)
	if _, err := a.Network(w.ctx, n.ID); err != nil {
		w.Error(err)
	}
	all, unread, err := a.BoundNetworks(w.ctx)
	w.must(err)
	if len(all) != 1 || !errors.Is(unread[store.BoundKey(n.ID, "later")], store.ErrNewer) {
		w.Errorf("all are %+v, unreadable %v", all, unread)
	}
	if _, found := w.garbage(a); slices.ContainsFunc(found, func(text string) bool {
		return strings.HasPrefix(text, "network") || strings.HasPrefix(text, "binding")
	}) {
		w.Errorf("garbage is %q", found)
	}
}

// FuzzBound holds of whatever lies below bound/ and holders/ that it is refused with ErrInvalid or read as some host's, and keeps nobody from other networks.
func FuzzBound(f *testing.F) {
	f.Add("a", []byte(`{"schema":1,"docker_id":"da"}`))
	f.Add("b", []byte(`{"schema":1,"let_go":7}`))
	f.Add("permanent", []byte(`{"schema":2}`))
	f.Add("a/b", []byte(`[]`))
	kv := emptyStore(f)
	ctx := context.Background()
	c := store.NewCluster(kv, "a")
	if err := c.BeginLayout(ctx); err != nil {
		f.Fatal(err)
	}
	n, err := c.Create(ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolA}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host string, value []byte) {
		keys := []string{store.BoundKey(n.ID, host), store.HoldersPrefix + "10.1.0.0_24/" + host}
		for _, key := range keys {
			if kv.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: key, Value: value}) != nil {
				t.Skip("no store takes such a key or value")
			}
		}
		defer func() {
			for _, key := range keys {
				_ = kv.Apply(context.WithoutCancel(t.Context()), store.Op{Kind: store.OpRemove, Key: key})
			}
		}()
		_, bound := c.Bound(t.Context(), n.ID)
		_, to := c.BoundTo(t.Context(), n.ID)
		_, holders := c.Holders(t.Context(), poolA)
		for _, err := range []error{bound, to, holders} {
			if err != nil && !errors.Is(err, store.ErrInvalid) {
				t.Errorf("%q %q: %v", host, value, err)
			}
		}
		all, _, err := c.BoundNetworks(t.Context())
		if err != nil || len(all) != 1 {
			t.Errorf("%q %q: networks are %+v, %v", host, value, all, err)
		}
		if _, err := c.Garbage(t.Context()); err != nil {
			t.Errorf("%q %q: %v", host, value, err)
		}
	})
}
