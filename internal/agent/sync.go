package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// Pauses of the loop that finishes what handlers could not.
const (
	syncSoon  = 2 * time.Second
	syncEvery = time.Minute
	// syncRarely is between two passes that nothing asked for; a quarter of it spreads the hosts. A pass lists what grows with the cluster.
	syncRarely = time.Hour
)

// finisher finishes what handlers could not: at the start, soon while there is something, when the store was away, when the cluster may know other
// things of this host than before, and else rarely. What fails is tried again after pauses that grow up to syncEvery, but as soon as a store that was
// away answers.
type finisher struct {
	sync    func(context.Context) error
	pending func(context.Context) bool
	// answers asks the cluster's store something small.
	answers func(context.Context) error
	// resync asks for a pass at once.
	resync *atomic.Bool
	// done is called when nothing is left: after a pass without an error, and each syncEvery while the store answers.
	done func(time.Time)
	log  *slog.Logger

	last   time.Time // a pass without an error, or the last answer of the store since
	passed time.Time // the last pass without an error
	next   time.Time // not before this is tried what failed
	failed bool      // the last pass did
	away   bool      // the store did not answer when it was asked last
}

func (f *finisher) run(ctx context.Context) error {
	pause := retry.Pause{First: syncSoon, Last: syncEvery}
	trouble := retry.Trouble{Logger: f.log, Level: slog.LevelWarn, Text: "something is left to be finished; it is tried again", Over: "what was left is finished"}
	rarely := syncRarely - rand.N(syncRarely/4)
	ticker := time.NewTicker(syncSoon)
	defer ticker.Stop()
	for {
		asked := f.resync.Swap(false)
		switch due := asked || f.failed || f.away || f.pending(ctx) || time.Since(f.passed) > rarely; {
		case due && (asked || !time.Now().Before(f.next) || f.away && f.answers(ctx) == nil):
			err := f.pass(ctx)
			if ctx.Err() != nil {
				return nil
			}
			trouble.Note(err)
			f.away, f.failed = errors.Is(err, store.ErrUnavailable), err != nil
			if err != nil {
				f.next = time.Now().Add(pause.Next(0))
				break
			}
			pause.Reset()
			f.passed = time.Now()
			f.well(f.passed)
		case !due && time.Since(f.last) > syncEvery:
			f.look(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// look asks the store whether it is there: after it was away, other hosts may have decided on this one.
func (f *finisher) look(ctx context.Context) {
	if f.away = f.answers(ctx) != nil; !f.away {
		f.well(time.Now())
	}
}

func (f *finisher) well(at time.Time) {
	f.last = at
	f.done(at)
}

func (f *finisher) pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syncEvery)
	defer cancel()
	return f.sync(ctx)
}

// syncLoop is the agent's finisher.
func (a *agent) syncLoop(ctx context.Context) error {
	f := finisher{
		sync:    func(ctx context.Context) error { return errors.Join(a.driver.Sync(ctx), a.ipam.Sync(ctx)) },
		pending: a.pending, answers: a.storeAnswers, resync: &a.resync, log: a.log,
		done: func(at time.Time) { a.synced.Store(at.UnixNano()) },
	}
	return f.run(ctx)
}

// storeAnswers asks the cluster's store for one small record.
func (a *agent) storeAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syncSoon)
	defer cancel()
	_, err := a.cluster.KV().Get(ctx, store.IdentityKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
