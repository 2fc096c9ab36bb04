package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/socketplane/socketplane/store"
)

const (
	// aliveTTL is how long other hosts take this one's agent for alive after it fell silent.
	aliveTTL = 15 * time.Second
	// refreshEvery is how often the host's own record is looked at.
	refreshEvery = time.Minute
	// announceAgain is the pause after the store did not take the announcement.
	announceAgain = 2 * time.Second
)

// announce keeps this host's record and its sign of life in the cluster.
func (a *agent) announce(ctx context.Context) error {
	var refreshing sync.WaitGroup
	defer refreshing.Wait()
	refreshing.Go(func() { a.refreshHost(ctx) })
	for failed := false; ctx.Err() == nil; {
		err := a.cluster.KV().Announce(ctx, store.AliveKey(a.cluster.Host()), []byte(a.cluster.Host()), aliveTTL)
		if err != nil && ctx.Err() == nil && !failed {
			a.log.Warn("other hosts take this one's agent for down until the store answers", "err", err)
		}
		failed = err != nil
		pause(ctx, announceAgain)
	}
	return nil
}

// refreshHost writes the host's record when it differs from what was written.
func (a *agent) refreshHost(ctx context.Context) {
	var written *store.Host
	for wait := refreshEvery; ctx.Err() == nil; pause(ctx, wait) {
		wait = refreshEvery
		h := store.Host{
			Name: a.cfg.Name, VTEP: a.underlay.Addr, Version: a.opts.Version.Version, Started: a.started,
		}
		var err error
		if h.Subnets, err = a.links.Subnets(ctx); err != nil {
			a.log.Warn("this host's subnets can't be read, so chosen pools may overlap them", "err", err)
		}
		// The record may have been removed, because this host was taken for gone.
		_, err = a.cluster.KV().Get(ctx, store.HostKey(a.cluster.Host()))
		if err == nil && written != nil && slices.Equal(written.Subnets, h.Subnets) {
			continue
		}
		if errors.Is(err, store.ErrNotFound) && written != nil {
			a.log.Warn("the cluster had forgotten this host; it comes back as a new one")
		}
		if err := a.cluster.PutHost(ctx, h); err != nil {
			wait = announceAgain
			continue // announce has said so
		}
		written = &h
	}
}

// pause waits for a while or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
