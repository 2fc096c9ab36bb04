// Package roster owns what the agent's parts know of the cluster's hosts: one watch for all of them, and the last answers in memory, so that nothing that grows with the
// cluster is listed again and again, and a host that joins or changes is read as that one.
//
// It may import store and internal/retry. It must not know who asks, or what a host's record is used for.
package roster

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// Pauses after the store did not answer; an answer that lasts for steady ends the trouble.
const (
	retryFirst = 500 * time.Millisecond
	retryLast  = 5 * time.Second
	steady     = 5 * time.Second
)

// Options are the settings of a Roster.
type Options struct {
	// Back is called when the store answers again after it was away, or has become another one: records may differ from what this host wrote. It must
	// not block.
	Back   func()
	Logger *slog.Logger
}

// Roster is the cluster's hosts as the store told them last. It is safe for concurrent use.
type Roster struct {
	cluster store.HostRecords
	opts    Options

	mu      sync.Mutex // guards what follows
	members store.Membership
	known   bool // the store has answered since New
	heard   bool // the last question was answered
	waiting map[chan struct{}]struct{}
	// layout is that of the cluster's records, 0 while it is not known; relayout is closed and replaced when it changes.
	layout   int
	relayout chan struct{}
}

// New returns a roster that knows nothing until Run.
func New(cluster store.HostRecords, opts Options) *Roster {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Back == nil {
		opts.Back = func() {}
	}
	return &Roster{cluster: cluster, opts: opts, waiting: map[chan struct{}]struct{}{}, relayout: make(chan struct{})}
}

// Members are the hosts as the store told them last, also while it is away; known is false before its first answer. The maps are shared: callers
// must not change them. Alive is filled in the first layout only, from the keys beside the hosts' records; others read it from the store (HostRecords.Alive).
func (r *Roster) Members() (members store.Membership, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members, r.known
}

// Hosts are those of Members, for a store.KnownHosts. current is false before the first answer, and while the store does not answer.
func (r *Roster) Hosts() (hosts map[string]store.Host, current bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members.Hosts, r.known && r.heard
}

// Heard says whether the store has answered the last question, so that Members is what it has now.
func (r *Roster) Heard() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard
}

// Layout is the layout of the cluster's records as the store told it last, also while it is away or a record of it can't be read; 0 before. changed is closed when there is another
// one. It is a store.LayoutNow.
func (r *Roster) Layout() (layout int, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.layout, r.relayout
}

func (r *Roster) setLayout(layout int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if layout != r.layout {
		r.layout = layout
		close(r.relayout)
		r.relayout = make(chan struct{})
	}
}

// Subscribe signals, until ctx ends, that Members has changed. Changes that come together are one signal.
func (r *Roster) Subscribe(ctx context.Context) <-chan struct{} {
	changed := make(chan struct{}, 1)
	r.mu.Lock()
	r.waiting[changed] = struct{}{}
	r.mu.Unlock()
	context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting, changed)
	})
	return changed
}

// Run follows the hosts until ctx ends, in the form that the layout has.
func (r *Roster) Run(ctx context.Context) error {
	forms := make(chan bool)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { r.followLayout(ctx, forms) })
	end := func() {}
	defer func() { end() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case heads := <-forms:
			end()
			end = r.begin(ctx, heads)
		}
	}
}

// begin follows the hosts in one form until end is called.
func (r *Roster) begin(ctx context.Context, heads bool) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	watch := r.watchAll
	if heads {
		watch = (&reader{roster: r}).watch
	}
	following.Go(func() { r.follow(ctx, watch) })
	return func() {
		cancel()
		following.Wait()
	}
}

func (r *Roster) loop(level slog.Level, text string) retry.Loop {
	return retry.Loop{
		Pause:   retry.Pause{First: retryFirst, Last: retryLast, Steady: steady},
		Trouble: retry.Trouble{Logger: r.opts.Logger, Level: level, Text: text},
	}
}

// followLayout keeps the layout, and says whether the hosts' records have heads, at first and when that has changed. A layout that can't be read is taken for one without: the records
// are true in every layout.
func (r *Roster) followLayout(ctx context.Context, forms chan<- bool) {
	var told, last bool
	loop := r.loop(slog.LevelWarn, "the layout of the cluster's records can't be read; the last known stays")
	loop.Follow(ctx, func(ctx context.Context, since uint64) (uint64, error) {
		layout, next, err := r.cluster.WatchLayout(ctx, since)
		if err != nil && !errors.Is(err, store.ErrInvalid) {
			return 0, err
		}
		if err == nil {
			r.setLayout(layout)
		}
		if heads := err == nil && layout > store.FirstLayout; !told || heads != last {
			select {
			case forms <- heads:
				told, last = true, heads
			case <-ctx.Done():
			}
		}
		return next, err
	})
}

// follow asks a watch of the hosts again and again until ctx ends.
func (r *Roster) follow(ctx context.Context, watch func(ctx context.Context, since uint64) (*store.Membership, uint64, error)) {
	loop := r.loop(slog.LevelDebug, "the cluster's hosts can't be read; the last known stay")
	away := false
	loop.Follow(ctx, func(ctx context.Context, since uint64) (uint64, error) {
		members, next, err := watch(ctx, since)
		if err != nil {
			if ctx.Err() == nil {
				r.silent()
			}
			away = true
			return 0, err
		}
		if away || next < since { // a lower index: the store was restored
			r.opts.Back()
		}
		if members != nil && (away || next != since) {
			r.set(*members)
		}
		away = false
		r.answered()
		return next, nil
	})
}

// watchAll is the watch of the first layout: it reads all hosts.
func (r *Roster) watchAll(ctx context.Context, since uint64) (*store.Membership, uint64, error) {
	members, next, err := r.cluster.WatchHosts(ctx, since)
	return &members, next, err
}

func (r *Roster) silent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = false
}

func (r *Roster) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = true
}

func (r *Roster) set(members store.Membership) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members, r.known, r.heard = members, true, true
	for changed := range r.waiting {
		select {
		case changed <- struct{}{}:
		default: // one is waiting already
		}
	}
}
