package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// Pauses of the loop that finishes what handlers could not.
const (
	syncSoon  = 2 * time.Second
	syncEvery = time.Minute
)

// finisher finishes what handlers could not: soon while there is something, and now and then anyway. What fails is tried again after pauses that
// grow up to syncEvery, but as soon as a store that was away answers.
type finisher struct {
	sync    func(context.Context) error
	pending func(context.Context) bool
	// answers asks the cluster's store something small.
	answers func(context.Context) error
	// resync asks for a pass at once.
	resync *atomic.Bool
	// done is called after a pass without an error.
	done func(time.Time)
	log  *slog.Logger
}

func (f *finisher) run(ctx context.Context) error {
	pause := retry.Pause{First: syncSoon, Last: syncEvery}
	trouble := retry.Trouble{Logger: f.log, Level: slog.LevelWarn, Text: "something is left to be finished; it is tried again", Over: "what was left is finished"}
	var last, next time.Time
	away := false // the last pass failed because the store did not answer
	ticker := time.NewTicker(syncSoon)
	defer ticker.Stop()
	for {
		asked := f.resync.Swap(false)
		due := asked || f.pending(ctx) || time.Since(last) > syncEvery
		if due && (asked || !time.Now().Before(next) || away && f.answers(ctx) == nil) {
			err := f.pass(ctx)
			if ctx.Err() != nil {
				return nil
			}
			trouble.Note(err)
			if away = errors.Is(err, store.ErrUnavailable); err != nil {
				next = time.Now().Add(pause.Next(0))
			} else {
				pause.Reset()
				last = time.Now()
				f.done(last)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
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
