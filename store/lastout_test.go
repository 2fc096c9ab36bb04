package store_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/socketplane/socketplane/store"
)

// testLastOut: the last hosts leave while others join. Who has joined has the network, its subnet and its claims; when all have left nothing is there.
func testLastOut(w *world) {
	w.together(6, func(i int, c *store.Cluster) {
		for round := range 10 {
			docker := fmt.Sprintf("d%d-%d", i, round)
			_, err := c.AcquirePool(w.ctx, poolA)
			var n store.Network
			if err == nil {
				n, err = c.Bind(w.ctx, binding(docker, "", poolA))
			}
			if err == nil {
				err = w.has(c, n.ID, docker)
			}
			if err == nil {
				err = errors.Join(c.ReleasePool(w.ctx, poolA), c.Unbind(w.ctx, n.ID, docker))
			}
			if err != nil {
				w.Errorf("%s in round %d: %v", c.Host(), round, err)
				return
			}
		}
	})
	w.empty()
}

// has says what the cluster lacks of a network that a host has just bound.
func (w *world) has(c *store.Cluster, id, docker string) error {
	if _, err := c.Network(w.ctx, id); err != nil {
		return err
	}
	own, err := c.Bound(w.ctx, id)
	pool, errPool := c.Pool(w.ctx, poolA)
	held, errHeld := c.Holds(w.ctx, poolA)
	if err := errors.Join(err, errPool, errHeld); err != nil {
		return err
	}
	if own.DockerID != docker || pool.Network != id || !held {
		return fmt.Errorf("bound as %+v to %s, the subnet is %+v, held %t", own, id, pool, held)
	}
	return c.PutEndpoints(w.ctx, id, []store.Endpoint{{ID: "e"}})
}

// testClosing: a host joins in each moment of another's removal, and has what it joined; a removal that ends in the middle is nobody's trouble.
func testClosing(w *world) {
	a, b := w.host("a"), w.host("b")
	for at := 1; ; at++ {
		w.wipe()
		made, err := a.Bind(w.ctx, binding("da", "web", poolA))
		w.must(err)
		_, err = a.AcquirePool(w.ctx, poolA)
		w.must(err)
		count, joined := 0, false
		kv := &hooked{KV: w.kv, before: func([]store.Op) {
			if count++; count != at {
				return
			}
			joined = true
			n, err := b.Bind(w.ctx, binding("db", "", poolA))
			w.must(err)
			_, err = b.AcquirePool(w.ctx, poolA)
			w.must(err)
			w.must(w.has(b, n.ID, "db"))
		}}
		last := store.NewCluster(kv, "a")
		w.must(last.ReleasePool(w.ctx, poolA))
		w.must(last.Unbind(w.ctx, made.ID, "da"))
		if !joined {
			break
		}
		n, err := b.NetworkNamed(w.ctx, "web")
		if err != nil { // it joined a network that was made anew, or that has no name
			all, errAll := b.Networks(w.ctx)
			w.must(errAll)
			n = all[0]
		}
		w.must(w.has(b, n.ID, "db"))
		if n.State != store.Active {
			w.Errorf("joined before transaction %d, the network is %+v", at, n)
		}
		w.must(b.ReleasePool(w.ctx, poolA))
		w.must(b.Unbind(w.ctx, n.ID, "db"))
		w.empty()
	}
	// The host that removes it dies after it said so.
	for _, end := range []func(id string){
		func(id string) { // another one joins and leaves
			_, err := b.AcquirePool(w.ctx, poolA)
			w.must(err)
			n, err := b.Bind(w.ctx, binding("db", "", poolA))
			w.must(err)
			if n.ID != id || n.State != store.Active {
				w.Errorf("joined %+v", n)
			}
			w.must(b.ReleasePool(w.ctx, poolA))
			w.must(b.Unbind(w.ctx, n.ID, "db"))
		},
		func(id string) { w.must(a.Unbind(w.ctx, id, "da")) }, // it repeats what it did
		func(id string) { // nobody does anything
			for range 2 {
				all, _ := w.garbage(b)
				for _, g := range all {
					w.must(g.Remove(w.ctx))
				}
			}
		},
	} {
		for dies := 2; dies < 5; dies++ {
			w.wipe()
			made, err := a.Bind(w.ctx, binding("da", "web", poolA))
			w.must(err)
			count := 0
			kv := &hooked{KV: w.kv, before: func([]store.Op) { count++ }}
			err = store.NewCluster(&upTo{kv, dies, &count}, "a").Unbind(w.ctx, made.ID, "da")
			if err == nil {
				break
			}
			end(made.ID)
			w.empty()
		}
	}
}

// upTo is a store of which a host writes only so many transactions.
type upTo struct {
	store.KV
	most  int
	count *int
}

func (u *upTo) Apply(ctx context.Context, ops ...store.Op) error {
	if *u.count+1 >= u.most {
		return store.ErrUnavailable
	}
	return u.KV.Apply(ctx, ops...)
}
