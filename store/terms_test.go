package store_test

import (
	"context"

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
