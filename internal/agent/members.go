package agent

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
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

// announce keeps this host's record and its sign of life in the cluster. It fails if another machine acts under this host's id.
func (a *agent) announce(ctx context.Context) error {
	refreshCtx, cancel := context.WithCancel(ctx)
	var refreshing sync.WaitGroup
	defer func() {
		cancel()
		refreshing.Wait()
	}()
	refreshing.Go(func() { a.refreshHost(refreshCtx) })
	loop := retry.Loop{
		Pause:   retry.Pause{First: announceAgain, Last: announceAgain, Steady: aliveTTL},
		Trouble: retry.Trouble{Logger: a.log, Level: slog.LevelWarn, Text: "other hosts take this one's agent for down until the store answers"},
	}
	for ctx.Err() == nil {
		// The store may not have answered when the agent started, and been without this one since.
		var err error
		if !a.seat.held.Load() {
			err = a.claimSeat(ctx)
		}
		if err == nil {
			began := time.Now()
			err = a.cluster.Announce(ctx, aliveTTL)
			if time.Since(began) >= aliveTTL { // it was announced for a while
				loop.Trouble.Note(nil)
			}
			a.seat.held.Store(false)
		} else if !errors.Is(err, errSeatUnknown) && ctx.Err() == nil {
			return err
		}
		loop.Fails(ctx, err)
	}
	return nil
}

// refreshHost writes the host's record when it differs from what was written: as soon as the host's network changes, and now and
// then, as the record may have been removed because this host was taken for gone.
func (a *agent) refreshHost(ctx context.Context) {
	stirred := a.underlay.Subscribe(ctx)
	for look := true; ctx.Err() == nil; {
		wait := refreshEvery
		if a.publishHost(ctx, look) != nil {
			wait = announceAgain // announce has said so
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
			look = true
		case <-stirred:
			look = false
		case <-a.seat.changed:
			look = false
		}
		timer.Stop()
	}
}

// publishHost writes this host's record if it differs from what was written, and with look also if the cluster does not have it.
func (a *agent) publishHost(ctx context.Context, look bool) error {
	a.publishing.Lock()
	defer a.publishing.Unlock()
	if !a.seat.held.Load() {
		return errSeatUnknown
	}
	former := a.written
	if former == nil { // the agent has just started
		var err error
		if former, err = a.formerRecord(ctx); err != nil {
			return err
		}
	}
	h := a.hostRecord(ctx, former)
	same := a.written != nil && reflect.DeepEqual(*a.written, h)
	if same && !look {
		return nil
	}
	_, err := a.cluster.KV().Get(ctx, store.HostKey(a.cluster.Host()))
	if err == nil && same {
		return nil
	}
	if errors.Is(err, store.ErrNotFound) && a.written != nil {
		a.log.Warn("the cluster had forgotten this host; it comes back as a new one")
		a.resync.Store(true) // it has forgotten its networks and addresses, too
	}
	if err := a.cluster.BeginLayout(ctx); err != nil {
		return err
	}
	if err := a.cluster.PutHost(ctx, h); err != nil {
		a.written = nil // it may have been written all the same
		return err
	}
	a.written = &h
	return nil
}

// formerRecord is this host's record as the cluster has it, nil if it has none that can be read.
func (a *agent) formerRecord(ctx context.Context) (*store.Host, error) {
	e, err := a.cluster.KV().Get(ctx, store.HostKey(a.cluster.Host()))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	h, err := store.Decode[store.Host](e)
	if err != nil {
		return nil, nil // it is replaced
	}
	return &h, nil
}

// hostRecord is what this host says of itself. What can't be found out now is as in the former record, which may be nil.
func (a *agent) hostRecord(ctx context.Context, former *store.Host) store.Host {
	at := a.where()
	h := store.Host{Name: a.cfg.Name, VTEP: at.Addr, MTU: at.MTU, Version: a.opts.Version.Version, Started: a.started, VXLANPort: a.cfg.VXLANPort}
	h.Answered = a.seat.answer()
	a.seat.say(h.VTEP)
	h.Uses = a.uses(ctx, former)
	var err error
	if h.Routed, err = a.subnets.Routed(ctx); err != nil && former != nil {
		h.Routed = former.Routed
	}
	for _, u := range h.Uses { // sorted
		if n := len(h.Subnets); n == 0 || h.Subnets[n-1] != u.Subnet {
			h.Subnets = append(h.Subnets, u.Subnet)
		}
	}
	return h
}

// uses are the subnets that this host uses. Those that can't be read are taken to be as they were: another host would use them, else.
func (a *agent) uses(ctx context.Context, former *store.Host) []store.Use {
	complete := a.subnets.Complete()
	uses, err := a.subnets.Uses(ctx)
	if ctx.Err() == nil {
		a.unreadUses.Note(err)
	}
	if former == nil || err == nil && complete {
		return uses
	}
	if err != nil {
		return former.Uses
	}
	for _, u := range former.Uses { // Docker may take a while
		same := func(other store.Use) bool { return other.Subnet == u.Subnet }
		if u.Network != "" && !slices.ContainsFunc(uses, same) {
			uses = append(uses, u)
		}
	}
	slices.SortFunc(uses, store.Use.Compare)
	return uses
}

// pause waits for a while or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
