package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/socketplane/socketplane/store"
)

// reading counts what is read of a store.
type reading struct {
	store.KV
	reads int
}

func (r *reading) Get(ctx context.Context, key string) (store.Entry, error) {
	r.reads++
	return r.KV.Get(ctx, key)
}

func (r *reading) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	r.reads++
	return r.KV.List(ctx, prefix)
}

// testTerms: a change of what is published reads nothing as long as the layout and the host's binding stay as they were; else they are
// read again.
func testTerms(w *world) {
	w.setLayout(2)
	kv := &reading{KV: w.kv}
	a := store.NewCluster(kv, "a")
	n, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	_, err = w.host("b").Bind(w.ctx, binding("db", "", poolA))
	w.must(err)
	there, err := a.Published(w.ctx, n.ID)
	w.must(err)
	now, err := a.Publish(w.ctx, n.ID, there, labelledOnes(0, 1, 20))
	w.must(err)
	before := kv.reads
	for i := range 40 {
		now, err = a.Publish(w.ctx, n.ID, *now, labelledOnes(0, 2+i, 20))
		w.must(err)
	}
	if kv.reads != before {
		w.Errorf("%d reads for 40 changes", kv.reads-before)
	}
	w.published(n.ID, "a", labelledOnes(0, 41, 20))
	w.setLayout(1)
	now, err = a.Publish(w.ctx, n.ID, *now, labelledOnes(0, 42, 20))
	w.must(err)
	if now.Form() != store.FirstLayout {
		w.Errorf("the form is %d", now.Form())
	}
	w.published(n.ID, "a", labelledOnes(0, 42, 20))
	w.setLayout(2)
	now, err = a.Publish(w.ctx, n.ID, *now, labelledOnes(0, 42, 20)) // nothing but the layout is another
	w.must(err)
	if now.Form() != store.NewestLayout {
		w.Errorf("the form is %d", now.Form())
	}
	w.must(a.PutEndpoints(w.ctx, n.ID, nil))
	w.must(a.Unbind(w.ctx, n.ID, "da"))
	_, err = a.Publish(w.ctx, n.ID, *now, labelledOnes(0, 43, 20))
	w.wants(err, store.ErrNotFound)
	w.must(w.host("b").Unbind(w.ctx, n.ID, "db"))
}

// writing counts operations and bytes of parts that are written to a store.
type writing struct {
	store.KV
	ops, parts, bytes int
}

func (c *writing) Apply(ctx context.Context, ops ...store.Op) error {
	for _, op := range ops {
		if c.ops++; op.Kind == store.OpPut && strings.Contains(op.Key, "/parts/") {
			c.parts++
			c.bytes += len(op.Value)
		}
	}
	return c.KV.Apply(ctx, ops...)
}

// testPublishChange: changes that say what may differ lead to the same as comparing all, and one of them writes one part, however many there are.
func testPublishChange(w *world) {
	w.setLayout(2)
	kv := &writing{KV: w.kv}
	a := store.NewCluster(kv, "a")
	n, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	here := map[string]store.Endpoint{}
	all := func() []store.Endpoint {
		return slices.SortedFunc(maps.Values(here), func(x, y store.Endpoint) int { return strings.Compare(x.ID, y.ID) })
	}
	now := &store.Publication{}
	change := func(set []store.Endpoint, gone ...string) {
		w.Helper()
		for _, e := range set {
			here[e.ID] = e
		}
		for _, id := range gone {
			delete(here, id)
		}
		now, err = a.PublishChange(w.ctx, n.ID, *now, store.Wanted{Count: len(here), All: all, Partly: true, Set: set, Gone: gone})
		w.must(err)
	}
	costs := map[int]writing{}
	for _, size := range []int{10, 300} {
		change(labelledOnes(len(here), size-len(here), 0))
		*kv = writing{KV: w.kv}
		change(labelledOnes(size, 1, 0))
		change(nil, labelled(size, 0).ID)
		costs[size] = writing{ops: kv.ops, parts: kv.parts}
		if most := 2 * store.PartSize * 400; kv.bytes > most || kv.parts != 2 {
			w.Errorf("%d endpoints: two changes wrote %d parts of %d bytes, at most 2 of %d are right", size, kv.parts, kv.bytes, most)
		}
	}
	if costs[10] != costs[300] {
		w.Errorf("two changes cost %+v with 10 endpoints and %+v with 300", costs[10], costs[300])
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 120 {
		var set []store.Endpoint
		var gone []string
		for range 1 + random.IntN(4) {
			i := random.IntN(400)
			e := labelled(i, random.IntN(3)*20)
			if id := e.ID; random.IntN(2) == 0 && !slices.ContainsFunc(set, func(o store.Endpoint) bool { return o.ID == id }) {
				gone = append(gone, id)
			} else if !slices.Contains(gone, id) {
				e.Addrs[0] = e.Addrs[0].Next()
				set = append(set, e)
			}
		}
		change(set, gone...)
		w.published(n.ID, "a", all())
	}
	again, err := a.Published(w.ctx, n.ID)
	w.must(err)
	*kv = writing{KV: w.kv}
	if _, err := a.Publish(w.ctx, n.ID, again, all()); err != nil || kv.ops > 0 {
		w.Errorf("publishing the same wrote %d operations, %v", kv.ops, err)
	}
	w.must(a.PutEndpoints(w.ctx, n.ID, nil))
	w.must(a.Unbind(w.ctx, n.ID, "da"))
}

// late is a store whose next transaction, once asked for, is held back: its caller gets ErrUnavailable, as if the answer had not come in time.
type late struct {
	store.KV
	hold bool
	held []store.Op
}

// Apply implements store.KV.
func (l *late) Apply(ctx context.Context, ops ...store.Op) error {
	if l.hold {
		l.hold, l.held = false, ops
		return fmt.Errorf("%w: no answer in time", store.ErrUnavailable)
	}
	return l.KV.Apply(ctx, ops...)
}

// testWithdrawGone: a host that withdraws its endpoints of a network that is gone meanwhile leaves no record of it.
func testWithdrawGone(w *world) {
	a := w.host("a")
	n, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	there, err := a.Published(w.ctx, n.ID)
	w.must(err)
	now, err := a.Publish(w.ctx, n.ID, there, labelledOnes(0, 3, 0))
	w.must(err)
	read, err := a.Published(w.ctx, n.ID) // as an agent that has just started has it
	w.must(err)
	w.must(a.Unbind(w.ctx, n.ID, "da"))
	for name, have := range map[string]store.Publication{"as it was published": *now, "as it was read": read} {
		_, err := a.Publish(w.ctx, n.ID, have, nil)
		w.must(err)
		for _, kind := range []string{"shards/", "heads/", "parts/", "endpoints/", "index/"} {
			if left := w.keys(kind + n.ID + "/"); left != 0 {
				w.Errorf("%s: %d keys are left below %s", name, left, kind)
			}
		}
	}
}

// testPublishLate: a request to publish that takes effect late, after its host has published something else, takes no effect any more.
func testPublishLate(w *world) {
	for name, change := range map[string][]store.Endpoint{"some more": labelledOnes(0, 20, 0), "none": nil} {
		kv := &late{KV: w.kv}
		a := store.NewCluster(kv, "a")
		n, err := a.Bind(w.ctx, binding("da", "", poolA))
		w.must(err)
		first, last := labelledOnes(0, 10, 0), labelledOnes(0, 10, 0)
		there, err := a.Published(w.ctx, n.ID)
		w.must(err)
		now, err := a.Publish(w.ctx, n.ID, there, first)
		w.must(err)
		kv.hold = true
		if _, err := a.Publish(w.ctx, n.ID, *now, change); !errors.Is(err, store.ErrUnavailable) {
			w.Errorf("%s: %v", name, err)
		}
		w.must(a.Fence(w.ctx, n.ID))
		there, err = a.Published(w.ctx, n.ID)
		w.must(err)
		last[3].Addrs = []netip.Addr{addr("10.1.0.250")}
		now, err = a.Publish(w.ctx, n.ID, there, last)
		w.must(err)
		if err := w.kv.Apply(w.ctx, kv.held...); !errors.Is(err, store.ErrConflict) {
			w.Errorf("%s: what is late takes effect: %v", name, err)
		}
		w.published(n.ID, "a", last)
		_, err = a.Publish(w.ctx, n.ID, *now, first)
		w.must(err)
		w.published(n.ID, "a", first)
		w.must(a.Unbind(w.ctx, n.ID, "da"))
	}
}
