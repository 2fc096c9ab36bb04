package netview_test

import (
	"testing"

	"github.com/socketplane/socketplane/store"
)

// TestNewerRecordsStay: a head or a part that a newer agent wrote changes nothing of what was known
// of its host, and keeps nothing of other hosts back.
func TestNewerRecordsStay(t *testing.T) {
	w := newWorld(t)
	w.must(w.me.SetLayout(w.ctx, store.NewestLayout))
	a, b := w.other(1), w.other(2)
	w.must(a.PutEndpoints(w.ctx, w.network, endpoints(0, 40)))
	w.must(b.PutEndpoints(w.ctx, w.network, endpoints(100, 10)))
	v := w.view()
	s, p := v.Stream(w.network), &plane{}
	s.Follow()
	w.run(v)
	w.follow(p, s, "all are known", func() bool { return p.count() == 50 })
	put := func(key, value string) {
		t.Helper()
		w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: key, Value: []byte(value)},
			store.Op{Kind: store.OpPut, Key: store.ShardKey(w.network, store.ShardOf("host0001")), Value: []byte(store.NewNonce())}))
	}
	e, err := w.kv.Get(w.ctx, store.HeadKey(w.network, "host0001"))
	w.must(err)
	head := string(e.Value)
	step := 0
	seen := func() { // what b does later is known later
		t.Helper()
		step++
		w.must(b.PutEndpoints(w.ctx, w.network, endpoints(100, 10+step)))
		w.follow(p, s, "b's change is known", func() bool { return p.count() == 50+step })
	}
	put(store.HeadKey(w.network, "host0001"), `{"schema":99}`)
	seen()
	put(store.HeadKey(w.network, "host0001"), head)
	seen()
	// A part, and the head that names it.
	put(store.PartKey(w.network, "host0001", 1), `{"schema":99}`)
	put(store.HeadKey(w.network, "host0001"), head[:len(head)-2-2*8]+"AAAAAAAA"+head[len(head)-2-8:])
	seen()
	seen()
	// It is written again as this agent knows it, with one endpoint less.
	w.must(a.PutEndpoints(w.ctx, w.network, endpoints(0, 39)))
	w.follow(p, s, "a's change is known", func() bool { return p.count() == 50+step-1 })
}
