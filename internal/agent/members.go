package agent

import (
	"context"
	"errors"
	"reflect"
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

// refreshHost writes the host's record when it differs from what was written: as soon as the host's network changes, and now and
// then, as the record may have been removed because this host was taken for gone.
func (a *agent) refreshHost(ctx context.Context) {
	stirred := a.underlay.Subscribe(ctx)
	var written *store.Host
	for look := true; ctx.Err() == nil; {
		wait := refreshEvery
		h, err := a.hostRecord(ctx)
		if err != nil {
			a.log.Warn("this host's subnets can't be read, so chosen pools may overlap them", "err", err)
		}
		if look || written == nil || !reflect.DeepEqual(*written, h) {
			if !a.putHost(ctx, h, &written) {
				wait = announceAgain // announce has said so
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
			look = true
		case <-stirred:
			look = false
		}
		timer.Stop()
	}
}

// hostRecord is what this host says of itself; with an error it may be incomplete.
func (a *agent) hostRecord(ctx context.Context) (store.Host, error) {
	at := a.where()
	h := store.Host{Name: a.cfg.Name, VTEP: at.Addr, MTU: at.MTU, Version: a.opts.Version.Version, Started: a.started, VXLANPort: a.cfg.VXLANPort}
	var err error
	h.Subnets, err = a.links.Subnets(ctx)
	return h, err
}

// putHost writes the record unless the cluster has it, and notes what it wrote.
func (a *agent) putHost(ctx context.Context, h store.Host, written **store.Host) bool {
	_, err := a.cluster.KV().Get(ctx, store.HostKey(a.cluster.Host()))
	if err == nil && *written != nil && reflect.DeepEqual(**written, h) {
		return true
	}
	if errors.Is(err, store.ErrNotFound) && *written != nil {
		a.log.Warn("the cluster had forgotten this host; it comes back as a new one")
	}
	if err := a.cluster.PutHost(ctx, h); err != nil {
		*written = nil // it may have been written all the same
		return false
	}
	*written = &h
	return true
}

// pause waits for a while or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
