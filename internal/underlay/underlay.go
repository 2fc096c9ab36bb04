// Package underlay owns where this host's tunnels end: the address, its interface and its MTU. It follows the kernel while the
// agent runs, so that a DHCP renewal, another NIC or another MTU needs no restart.
//
// It imports internal/hostlink, which reads the kernel. It knows neither the switch nor the store: whoever depends on the
// underlay subscribes, asks Current and compares with what it used last.
package underlay

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/hostlink"
)

// Underlay is where this host's tunnels end.
type Underlay = hostlink.Underlay

// ErrNone says that this host has no address for tunnels; the text has the cause and the cure.
var ErrNone = hostlink.ErrNoUnderlay

// Source reads the host's interfaces; *hostlink.Links is one.
type Source interface {
	// Choose finds the underlay; present is the one in use, or zero.
	Choose(ctx context.Context, advertise netip.Addr, present Underlay) (hostlink.Choice, error)
	// WatchNetwork signals that addresses, routes or interfaces of the host may have changed, until ctx ends.
	WatchNetwork(ctx context.Context) (<-chan struct{}, error)
}

// Times of Run.
const (
	// quiet is how long the kernel must be silent after a change: DHCP clients change addresses in several steps.
	quiet = 200 * time.Millisecond
	// patience is the longest that a look is put off while changes keep coming.
	patience = time.Second
	// settle is how long a choice that may be temporary must last, before it replaces the present underlay.
	settle = 2 * time.Second
	// lookEvery is how often the tracker looks without having been told of a change.
	lookEvery = 30 * time.Second
)

// Options are the settings of a Tracker.
type Options struct {
	// Advertise is the address that the operator chose; the zero Addr lets routes decide.
	Advertise netip.Addr
	Logger    *slog.Logger
}

// Tracker knows the underlay and follows it. Its methods may be called concurrently.
type Tracker struct {
	source Source
	opts   Options
	log    *slog.Logger

	looking sync.Mutex // one look at a time; guards since, candidate and home
	since   time.Time  // when candidate was first seen
	// candidate may replace the present underlay if it lasts.
	candidate Underlay
	// home is the underlay that a stopgap replaced: it is taken back when it returns. Zero if there is none.
	home Underlay

	mu      sync.Mutex // guards what follows
	present Underlay
	err     error
	subs    map[chan struct{}]struct{}
}

// New returns a Tracker that knows nothing before its first Look.
func New(source Source, opts Options) *Tracker {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Tracker{
		source: source, opts: opts, log: opts.Logger, subs: map[chan struct{}]struct{}{},
		err: fmt.Errorf("%w: this host's interfaces were not read yet", ErrNone),
	}
}

// Current is the underlay in use. An invalid Addr means that there has been none since the agent's start, and the error says
// why. An error beside a valid Addr says what is wrong with it now: it is kept until it is back or there is another one.
func (t *Tracker) Current() (Underlay, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.present, t.err
}

// Subscribe returns a channel that is signalled after each look that the kernel caused, and after each change of Current.
// The signals that nobody took yet become one. It ends with ctx.
func (t *Tracker) Subscribe(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	t.mu.Lock()
	t.subs[ch] = struct{}{}
	t.mu.Unlock()
	context.AfterFunc(ctx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.subs, ch)
	})
	return ch
}

func (t *Tracker) signal() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ch := range t.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Look reads the host's interfaces once. It returns how long a candidate must still last; 0 if there is none.
func (t *Tracker) Look(ctx context.Context) time.Duration {
	t.looking.Lock()
	defer t.looking.Unlock()
	present, _ := t.Current()
	choice, settled, err := t.choose(ctx, present)
	if ctx.Err() != nil {
		return 0
	}
	if err == nil && choice.Underlay != present && present.Addr.IsValid() && choice.Passing {
		if t.candidate != choice.Underlay {
			t.candidate, t.since = choice.Underlay, time.Now()
		}
		if wait := settle - time.Since(t.since); wait > 0 {
			return wait
		}
	}
	t.candidate = Underlay{}
	switch {
	case settled:
		t.home = Underlay{}
	case err == nil && choice.Stopgap && !t.home.Addr.IsValid():
		t.home = present
	}
	t.set(choice.Underlay, choice.Trouble, err)
	return 0
}

// choose asks the source. settled says that the choice is no stopgap for home, so that home need not be remembered.
func (t *Tracker) choose(ctx context.Context, present Underlay) (choice hostlink.Choice, settled bool, err error) {
	if t.home.Addr.IsValid() {
		choice, err = t.source.Choose(ctx, t.opts.Advertise, t.home)
		if err == nil && !choice.Stopgap && choice.Trouble == nil {
			return choice, true, nil
		}
	}
	choice, err = t.source.Choose(ctx, t.opts.Advertise, present)
	return choice, false, err
}

// set takes a choice over; with err the last one stays.
func (t *Tracker) set(u Underlay, trouble, err error) {
	t.mu.Lock()
	before, was := t.present, t.err
	switch {
	case err != nil && before.Addr.IsValid():
		t.err = fmt.Errorf("the tunnels' address %s of %s was lost and is kept until it is back: %w", before.Addr, before.Dev, err)
	case err != nil:
		t.err = err
	default:
		t.present, t.err = u, trouble
	}
	now, is := t.present, t.err
	t.mu.Unlock()
	t.tell(before, now, was, is)
	if before != now || text(was) != text(is) {
		t.signal()
	}
}

func (t *Tracker) tell(before, now Underlay, was, is error) {
	switch {
	case !now.Addr.IsValid(): // who started the tracker tells it
	case is != nil && text(was) != text(is):
		t.log.Error("containers of this host may not reach other hosts", "err", is)
	case before.Addr.IsValid() && before != now:
		t.log.Info("tunnels follow a change of this host's network", "addr", now.Addr, "dev", now.Dev, "mtu", now.MTU,
			"former_addr", before.Addr, "former_dev", before.Dev, "former_mtu", before.MTU)
	case is == nil && was != nil && before.Addr.IsValid():
		t.log.Info("the tunnels' address is back", "addr", now.Addr, "dev", now.Dev)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
