package subnets

import (
	"context"

	"github.com/socketplane/socketplane/store"
)

// watchHosts wakes the tracker when a host's record changes: other hosts publish their uses there.
func (t *Tracker) watchHosts(ctx context.Context) {
	t.follow(ctx, func(ctx context.Context, since uint64) (uint64, error) {
		_, index, err := t.cluster.WatchHosts(ctx, since)
		return index, err
	})
}

// watchPools wakes the tracker when the cluster gets or loses a pool. That a network uses one tells Docker's event on the host
// that made it.
func (t *Tracker) watchPools(ctx context.Context) {
	t.follow(ctx, func(ctx context.Context, since uint64) (uint64, error) {
		_, index, err := t.cluster.KV().Watch(ctx, store.PoolsRevisionKey, since)
		return index, err
	})
}

func (t *Tracker) follow(ctx context.Context, next func(context.Context, uint64) (uint64, error)) {
	for index := uint64(0); ctx.Err() == nil; {
		now, err := next(ctx, index)
		if err != nil {
			index = 0
			pause(ctx, passAgain)
			continue
		}
		if now != index {
			t.nudge()
		}
		index = now
	}
}

// watchRoutes wakes the tracker when this host's network may have changed.
func (t *Tracker) watchRoutes(ctx context.Context) {
	stirred := t.opts.Stirred(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-stirred:
			t.Wake()
		}
	}
}
