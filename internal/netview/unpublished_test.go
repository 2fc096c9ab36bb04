package netview_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/socketplane/socketplane/internal/netview"
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
