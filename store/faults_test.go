package store_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/socketplane/socketplane/store"
)

// fault is what a store that fails on purpose does at one of its operations.
type fault int

const (
	failBefore   fault = iota // unavailable, nothing was done
	failAfter                 // unavailable, but it was done
	failConflict              // somebody else was faster
)

// faulty is a store that fails at its nth operation.
type faulty struct {
	store.KV
	at    int64
	fault fault
	count atomic.Int64
}

func (f *faulty) hit() bool { return f.count.Add(1) == f.at }

func (f *faulty) Get(ctx context.Context, key string) (store.Entry, error) {
	if f.hit() {
		return store.Entry{}, store.ErrUnavailable
	}
	return f.KV.Get(ctx, key)
}

func (f *faulty) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	if f.hit() {
		return nil, store.ErrUnavailable
	}
	return f.KV.List(ctx, prefix)
}

func (f *faulty) Apply(ctx context.Context, ops ...store.Op) error {
	if !f.hit() {
		return f.KV.Apply(ctx, ops...)
	}
	switch f.fault {
	case failConflict:
		return store.ErrConflict
	case failAfter:
		if err := f.KV.Apply(ctx, ops...); err != nil {
			return err
		}
	}
	return store.ErrUnavailable
}

// testFaults: wherever a change is cut off, doing it again leads to the state that it has without faults.
func testFaults(w *world) {
	big := netip.MustParsePrefix("10.7.0.0/16")
	bound := func(c *store.Cluster, b store.Binding) { _, err := c.Bind(w.ctx, b); w.must(err) }
	only := func(c *store.Cluster) store.Network {
		all, err := store.NewCluster(w.kv, c.Host()).Networks(w.ctx)
		w.must(err)
		if len(all) == 0 {
			return store.Network{ID: "gone"}
		}
		return all[0]
	}
	pool := func(c *store.Cluster) { _, err := c.AcquirePool(w.ctx, poolA); w.must(err) }
	for _, s := range []struct {
		name  string
		setup func(a *store.Cluster)
		do    func(a *store.Cluster) error
	}{
		{"acquire", func(*store.Cluster) {}, func(a *store.Cluster) error { _, err := a.AcquirePool(w.ctx, poolA); return err }},
		{"release", pool, func(a *store.Cluster) error { return a.ReleasePool(w.ctx, poolA) }},
		{"release-big", func(a *store.Cluster) {
			_, err := a.AcquirePool(w.ctx, big)
			w.must(err)
			w.fill(a, big, 150)
		}, func(a *store.Cluster) error { return a.ReleasePool(w.ctx, big) }},
		{"keep", pool, func(a *store.Cluster) error { return a.Keep(w.ctx, poolA, addr("10.1.0.2")) }},
		{"shared", pool, func(a *store.Cluster) error { return a.Claim(w.ctx, poolA, addr("10.1.0.2"), store.NetworkOwner()) }},
		{"gateway", pool, func(a *store.Cluster) error { return a.SetGateway(w.ctx, poolA, addr("10.1.0.1")) }},
		{"unclaim", func(a *store.Cluster) {
			pool(a)
			w.must(a.Keep(w.ctx, poolA, addr("10.1.0.2")))
			w.must(a.Keep(w.ctx, poolA, addr("10.1.0.202")))
		}, func(a *store.Cluster) error {
			return a.Unclaim(w.ctx, poolA, store.HostOwner(a.Host()), addr("10.1.0.2"), addr("10.1.0.202"))
		}},
		{"bind-new", func(*store.Cluster) {}, func(a *store.Cluster) error {
			_, err := a.Bind(w.ctx, binding("da", "web", poolA, pool6))
			return err
		}},
		{"bind-join", func(*store.Cluster) { bound(w.host("b"), binding("db", "", poolA)) }, func(a *store.Cluster) error {
			_, err := a.Bind(w.ctx, binding("da", "web", poolA))
			return err
		}},
		{"unbind-last", func(a *store.Cluster) {
			bound(a, binding("da", "web", poolA, pool6))
			w.must(a.PutEndpoints(w.ctx, only(a).ID, []store.Endpoint{{ID: "e"}}))
		}, func(a *store.Cluster) error { return a.Unbind(w.ctx, only(a).ID, "da") }},
		{"unbind", func(a *store.Cluster) {
			bound(a, binding("da", "web", poolA))
			bound(w.host("b"), binding("db", "web", poolA))
		}, func(a *store.Cluster) error { return a.Unbind(w.ctx, only(a).ID, "da") }},
		{"endpoints", func(a *store.Cluster) { bound(a, binding("da", "", poolA)) }, func(a *store.Cluster) error {
			return a.PutEndpoints(w.ctx, only(a).ID, []store.Endpoint{{ID: "e"}})
		}},
		{"admit", func(a *store.Cluster) {
			w.keyed(true)
			w.token("twice", time.Hour, 2)
		}, func(a *store.Cluster) error {
			_, _, err := a.Admit(w.ctx, store.Candidate{Member: member("new", "k"), Token: "twice", Secret: store.NewSecret("TWICE")})
			return err
		}},
		{"remove-member", func(a *store.Cluster) {
			w.keyed(true)
			w.must(a.PutMember(w.ctx, member("one", "k")))
		}, func(a *store.Cluster) error { return a.RemoveMember(w.ctx, "one") }},
		{"lock", func(*store.Cluster) { w.keyed(false) }, func(a *store.Cluster) error { return a.Lock(w.ctx) }},
	} {
		clean := &faulty{KV: w.kv}
		w.wipe()
		s.setup(w.host("a"))
		w.must(s.do(store.NewCluster(clean, "a")))
		want := w.dump()
		for at := int64(1); at <= clean.count.Load(); at++ {
			for _, f := range []fault{failBefore, failAfter, failConflict} {
				where := fmt.Sprintf("%s, operation %d, fault %d", s.name, at, f)
				w.wipe()
				s.setup(w.host("a"))
				kv := &faulty{KV: w.kv, at: at, fault: f}
				c := store.NewCluster(kv, "a")
				if err := s.do(c); err != nil {
					w.wants(err, store.ErrUnavailable)
					if err = s.do(c); err != nil {
						w.Fatalf("%s: again: %v", where, err)
					}
				}
				if got := w.dump(); !slices.Equal(got, want) {
					w.Fatalf("%s: the store has\n%q, want\n%q", where, got, want)
				}
			}
		}
	}
}
