package subnets

import (
	"context"

	"github.com/socketplane/socketplane/store"
)

// watchHosts wakes the tracker when a host's record changes: other hosts publish their uses there.
func (t *Tracker) watchHosts(ctx context.Context) {
	changed := t.opts.Hosts.Subscribe(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			t.nudge()
		}
	}
}

// watchPools wakes the tracker when the cluster gets or loses a pool. That a network uses one tells Docker's event on the host
// that made it.
func (t *Tracker) watchPools(ctx context.Context) {
	for index := uint64(0); ctx.Err() == nil; {
		_, now, err := t.cluster.KV().Watch(ctx, store.PoolsRevisionKey, index)
		if err != nil {
			index = 0
			pause(ctx, passAgain)
			continue
		}
		if now != index {
			t.poolsChanged.Store(true)
			t.nudge()
		}
		index = now
	}
}

// watchRoutes wakes the tracker when this host's network may have changed. Docker's networks are told by its own events.
func (t *Tracker) watchRoutes(ctx context.Context) {
	stirred := t.opts.Stirred(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-stirred:
			t.nudge()
		}
	}
}
