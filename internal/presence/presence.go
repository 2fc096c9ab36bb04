package presence

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/internal/underlay"
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

// Deps are what a Presence works with.
type Deps struct {
	Cluster *store.Cluster
	// Local is this host's own store.
	Local store.KV
	// Name, Version and VXLANPort are in the host's record, with Started, when the agent's process began.
	Name, Version string
	VXLANPort     uint16
	Started       time.Time
	// Where is where this host's tunnels end, and Changed tells until ctx ends that it or the host's networks have changed.
	Where   func() underlay.Underlay
	Changed func(ctx context.Context) <-chan struct{}
	Subnets Subnets
	// Layout is that of the cluster's records, which says where agents look for this host's sign of life.
	Layout store.LayoutNow
	// Alone says that no other host reads this store. Admitted asks the members of a cluster that the agents form by themselves; it is nil in others.
	Alone    bool
	Admitted func(context.Context) error
	// Forgotten is called when the cluster has removed this host's records while it ran.
	Forgotten func()
	Logger    *slog.Logger
}

// Subnets are what this host uses, as internal/subnets knows them.
type Subnets interface {
	Uses(context.Context) ([]store.Use, error)
	Complete() bool
	Routed(context.Context) ([]netip.Prefix, error)
}

// Presence is this host in the cluster.
type Presence struct {
	deps    Deps
	log     *slog.Logger
	seat    *seat
	claimed bool // Admitted returned nil

	publishing sync.Mutex  // guards what follows
	written    *store.Host // this host's record, as it was written last; nil if it was not yet
	unread     retry.Trouble
}

// New makes a Presence. Nothing is published before Run or Publish.
func New(deps Deps) *Presence {
	return &Presence{deps: deps, log: deps.Logger, seat: newSeat(), unread: retry.Trouble{
		Logger: deps.Logger, Level: slog.LevelWarn, Text: "the subnets that this host uses can't be read; other hosts take them to be as they were", Over: "the subnets that this host uses can be read again",
	}}
}

// SetSubnets gives what Deps could not, before Run and Publish are called: who knows the subnets publishes by this.
func (p *Presence) SetSubnets(s Subnets) { p.deps.Subnets = s }

// Publish writes this host's record if it differs from what was written. It is safe for concurrent use.
func (p *Presence) Publish(ctx context.Context) error { return p.publish(ctx, false) }

// Run keeps this host's record and its sign of life in the cluster. It fails if another machine acts under this host's id.
func (p *Presence) Run(ctx context.Context) error {
	refreshCtx, cancel := context.WithCancel(ctx)
	var refreshing sync.WaitGroup
	defer func() {
		cancel()
		refreshing.Wait()
	}()
	refreshing.Go(func() { p.refresh(refreshCtx) })
	loop := retry.Loop{
		Pause:   retry.Pause{First: announceAgain, Last: announceAgain, Steady: aliveTTL},
		Trouble: retry.Trouble{Logger: p.log, Level: slog.LevelWarn, Text: "other hosts take this one's agent for down until the store answers"},
	}
	for ctx.Err() == nil {
		// The store may not have answered when the agent started, and been without this one since.
		var err error
		if !p.seat.held.Load() {
			err = p.Claim(ctx)
		}
		if err == nil {
			began := time.Now()
			err = p.deps.Cluster.Announce(ctx, aliveTTL, p.deps.Layout)
			if time.Since(began) >= aliveTTL { // it was announced for a while
				loop.Trouble.Note(nil)
			}
			p.seat.held.Store(false)
		} else if !errors.Is(err, ErrUnknown) && ctx.Err() == nil {
			return err
		}
		loop.Fails(ctx, err)
	}
	return nil
}

// refresh writes the host's record when it differs from what was written: as soon as the host's network changes, and now and
// then, as the record may have been removed because this host was taken for gone.
func (p *Presence) refresh(ctx context.Context) {
	stirred := p.deps.Changed(ctx)
	for look := true; ctx.Err() == nil; {
		wait := refreshEvery
		if p.publish(ctx, look) != nil {
			wait = announceAgain // Run has said so
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
			look = true
		case <-stirred:
			look = false
		case <-p.seat.changed:
			look = false
		}
		timer.Stop()
	}
}

// publish writes this host's record if it differs from what was written, and with look also if the cluster does not have it.
func (p *Presence) publish(ctx context.Context, look bool) error {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	if !p.seat.held.Load() {
		return ErrUnknown
	}
	former := p.written
	if former == nil { // the agent has just started
		var err error
		if former, err = p.former(ctx); err != nil {
			return err
		}
	}
	h := p.record(ctx, former)
	same := p.written != nil && reflect.DeepEqual(*p.written, h)
	if same && !look {
		return nil
	}
	_, err := p.deps.Cluster.KV().Get(ctx, store.HostKey(p.deps.Cluster.Host()))
	if err == nil && same {
		return nil
	}
	if errors.Is(err, store.ErrNotFound) && p.written != nil {
		p.log.Warn("the cluster had forgotten this host; it comes back as a new one")
		p.deps.Forgotten() // it has forgotten its networks and addresses, too
	}
	if err := p.deps.Cluster.BeginLayout(ctx); err != nil {
		return err
	}
	if err := p.deps.Cluster.PutHost(ctx, h); err != nil {
		p.written = nil // it may have been written all the same
		return err
	}
	p.written = &h
	return nil
}

// former is this host's record as the cluster has it, nil if it has none that can be read.
func (p *Presence) former(ctx context.Context) (*store.Host, error) {
	e, err := p.deps.Cluster.KV().Get(ctx, store.HostKey(p.deps.Cluster.Host()))
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
