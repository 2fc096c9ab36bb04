// Package roster owns what the agent's parts know of the cluster's hosts: one watch of the hosts' records for all of them, one of their signs of life,
// and the last answers in memory, so that nothing that grows with the cluster is listed again and again.
//
// It may import store and internal/retry. It must not know who asks, or what a host's record is used for.
package roster

import (
	"context"
	"log/slog"
	"maps"
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
	beside  map[string]bool // alive by what is beside the hosts' records
	alive   map[string]bool // alive by keys of their own
	known   bool            // the store has answered since New
	heard   bool            // the last question was answered
	waiting map[chan struct{}]struct{}
}

// New returns a roster that knows nothing until Run.
func New(cluster store.HostRecords, opts Options) *Roster {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Back == nil {
		opts.Back = func() {}
	}
	return &Roster{cluster: cluster, opts: opts, waiting: map[chan struct{}]struct{}{}}
}

// Members are the hosts as the store told them last, also while it is away; known is false before its first answer. The maps are shared: callers
// must not change them.
func (r *Roster) Members() (members store.Membership, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members, r.known
}

// Heard says whether the store has answered the last question, so that Members is what it has now.
func (r *Roster) Heard() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard
}

// Subscribe signals, until ctx ends, that Members has changed in more than who is alive. Changes that come together are one signal.
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

// Run follows the hosts' records and signs of life until ctx ends.
func (r *Roster) Run(ctx context.Context) error {
	var following sync.WaitGroup
	following.Go(func() { r.followAlive(ctx) })
	defer following.Wait()
	loop := retry.Loop{
		Pause:   retry.Pause{First: retryFirst, Last: retryLast, Steady: steady},
		Trouble: retry.Trouble{Logger: r.opts.Logger, Level: slog.LevelDebug, Text: "the cluster's hosts can't be read; the last known stay"},
	}
	away := false
	loop.Follow(ctx, func(ctx context.Context, since uint64) (uint64, error) {
		members, next, err := r.cluster.WatchHosts(ctx, since)
		if err != nil {
			r.silent()
			away = true
			return 0, err
		}
		if away || next < since { // a lower index: the store was restored
			r.opts.Back()
		}
		if away || next != since {
			r.set(members)
		}
		away = false
		return next, nil
	})
	return nil
}

// followAlive follows the signs of life.
func (r *Roster) followAlive(ctx context.Context) {
	loop := retry.Loop{
		Pause:   retry.Pause{First: retryFirst, Last: retryLast, Steady: steady},
		Trouble: retry.Trouble{Logger: r.opts.Logger, Level: slog.LevelDebug, Text: "who is alive can't be read; the last known stays"},
	}
	for index := uint64(0); ctx.Err() == nil; {
		alive, next, err := r.cluster.WatchAlive(ctx, index)
		if index = next; err != nil {
			loop.Fails(ctx, err)
			continue
		}
		r.mu.Lock()
		r.alive = alive
		r.join()
		r.mu.Unlock()
		loop.Works()
	}
}

// join makes Members from what the watches said, in a map of its own: callers have the former one.
func (r *Roster) join() {
	alive := maps.Clone(r.beside)
	if alive == nil {
		alive = map[string]bool{}
	}
	maps.Copy(alive, r.alive)
	r.members.Alive = alive
}

func (r *Roster) silent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = false
}

func (r *Roster) set(members store.Membership) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members, r.beside, r.known, r.heard = members, members.Alive, true, true
	r.join()
	for changed := range r.waiting {
		select {
		case changed <- struct{}{}:
		default: // one is waiting already
		}
	}
}
