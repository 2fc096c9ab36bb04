package netview_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
)

// refusing is a store that takes no record of this host's endpoints, as it would one that is too
// large.
type refusing struct{ store.KV }

func (r refusing) Apply(ctx context.Context, ops ...store.Op) error {
	for _, op := range ops {
		if len(op.Value) > 1000 {
			return fmt.Errorf("%w: too large", store.ErrInvalid)
		}
	}
	return r.KV.Apply(ctx, ops...)
}

// TestUnpublishedIsTold: endpoints that the store does not take are told by the view, with the
// cause, until it takes them.
func TestUnpublishedIsTold(t *testing.T) { eachLayout(t, testUnpublishedIsTold) }

func testUnpublishedIsTold(w *world) {
	t := w.T
	w.me = store.NewCluster(refusing{w.kv}, "me")
	v := w.view()
	v.Stream(w.network)
	w.run(v)
	for _, e := range endpoints(0, 50) {
		v.SetEndpoint(w.network, e, true)
	}
	until := func(what string, ok func([]netview.Unpublished) bool) {
		t.Helper()
		for !ok(v.Unpublished()) {
			if w.ctx.Err() != nil {
				t.Fatal(what)
			}
			runtime.Gosched()
		}
	}
	until("nothing is told", func(all []netview.Unpublished) bool {
		return len(all) == 1 && all[0].Network == w.network && errors.Is(all[0].Err, store.ErrInvalid) && !all[0].Since.IsZero()
	})
	for _, e := range endpoints(1, 49) {
		v.DropEndpoint(w.network, e.ID)
	}
	until("it is told for ever", func(all []netview.Unpublished) bool { return len(all) == 0 })
}

// late is a store that holds back the next transaction which publishes: its caller gets no answer in time, and it takes effect when it is let go.
type late struct {
	store.KV
	mu   sync.Mutex
	hold bool
	held []store.Op
}

func (l *late) Apply(ctx context.Context, ops ...store.Op) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if publishes := slices.ContainsFunc(ops, func(op store.Op) bool { return strings.HasPrefix(op.Key, store.Root+"parts/") }); l.hold && publishes {
		l.hold, l.held = false, ops
		return fmt.Errorf("%w: no answer in time", store.ErrUnavailable)
	}
	return l.KV.Apply(ctx, ops...)
}

// TestLateRequestIsVoid: a request to publish whose answer did not come in time, and that takes effect after this host has published other endpoints, leaves these as
// they are. A consul_late round of test/chaos had other hosts forward to containers that were gone.
func TestLateRequestIsVoid(t *testing.T) {
	w := newWorld(t)
	w.must(w.me.SetLayout(w.ctx, store.NewestLayout))
	kv := &late{KV: w.kv}
	w.me = store.NewCluster(kv, "me")
	v := w.view()
	v.Stream(w.network)
	w.run(v)
	published := func() int {
		e, err := w.other(1).Endpoints(w.ctx, w.network, "me")
		w.must(err)
		return len(e.Endpoints)
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		if err := testenv.Poll(w.ctx, time.Millisecond, ok); err != nil {
			t.Fatal(what)
		}
	}
	first, more := endpoints(0, 3), endpoints(3, 2)
	for _, e := range first {
		v.SetEndpoint(w.network, e, true)
	}
	until("the first are published", func() bool { return published() == 3 })
	kv.mu.Lock()
	kv.hold = true
	kv.mu.Unlock()
	for _, e := range more {
		v.SetEndpoint(w.network, e, true)
	}
	until("a request is late, and another one published", func() bool {
		kv.mu.Lock()
		defer kv.mu.Unlock()
		return kv.held != nil && len(v.Unpublished()) == 0
	})
	for _, e := range more {
		v.DropEndpoint(w.network, e.ID)
	}
	until("they are gone again", func() bool { return published() == 3 })
	if err := w.kv.Apply(w.ctx, kv.held...); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the late request takes effect: %v", err)
	}
	if n := published(); n != 3 {
		t.Errorf("%d endpoints are published, 3 are here", n)
	}
}
