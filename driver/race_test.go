package driver_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/store"
)

// meddler does something just before the first write.
type meddler struct {
	store.KV
	done   atomic.Bool
	before func()
}

func (m *meddler) Apply(ctx context.Context, ops ...store.Op) error {
	if m.done.CompareAndSwap(false, true) {
		m.before()
	}
	return m.KV.Apply(ctx, ops...)
}

// TestNetworkIsMadeAgainWhileItsRestIsEnded: an agent died between the cluster's record of a network and its own. When it is
// back, Docker's user tries again at the moment at which Sync ends what was never finished.
func TestNetworkIsMadeAgainWhileItsRestIsEnded(t *testing.T) {
	w := newWorld(t)
	h := w.host("a")
	w.must(h.create("n1", "LocalDefault"))
	w.must(h.local.Apply(w.ctx, store.Op{Kind: store.OpRemove, Key: store.LocalBindingKey("n1")}))
	h.boot()
	made := make(chan error, 1)
	h.shared.KV = &meddler{KV: h.shared.KV, before: func() {
		go func() { made <- h.create("n1", "LocalDefault") }()
		select { // it is finished by now, or waits for its turn
		case err := <-made:
			made <- err
		case <-time.After(300 * time.Millisecond):
		}
	}}
	w.must(h.Sync(w.ctx))
	w.must(<-made)
	networks, err := h.cluster.Networks(w.ctx)
	w.must(err)
	if len(networks) != 1 || !slices.Equal(w.bound(networks[0].ID), []string{"a"}) {
		t.Errorf("docker has the network, and the cluster has %+v", networks)
	}
	w.must(h.remove("n1"))
	w.must(h.Sync(w.ctx))
	w.must(h.ipam.Sync(w.ctx))
	w.clean(h)
}
