// Package finish owns when a host finishes what handlers could not: at the start, soon while something is left, when the cluster's store was away, and else rarely. What
// is finished is not its business.
//
// It imports store for the error of one that is away, and internal/retry.
package finish

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
	// Soon is how often it is looked whether something is to be done.
	Soon = 2 * time.Second
	// Every bounds a pass, the pauses after failures, and those between two questions to the store while nothing is left.
	Every = time.Minute
	// rarely is between two passes that nothing asked for; a quarter of it spreads the hosts. A pass lists what grows with the cluster.
	rarely = time.Hour
)

// Finisher finishes what handlers could not: at the start, soon while there is something, when the store was away, when the cluster may know other
// things of this host than before, and else rarely. What fails is tried again after pauses that grow up to Every, but as soon as a store that was
// away answers.
type Finisher struct {
	// Sync finishes what is left, Pending says whether something is.
	Sync    func(context.Context) error
	Pending func(context.Context) bool
	// Answers asks the cluster's store something small.
	Answers func(context.Context) error
	// Resync asks for a pass at once.
	Resync *atomic.Bool
	// Done is called when nothing is left: after a pass without an error, and each Every while the store answers.
	Done   func(time.Time)
	Logger *slog.Logger

	last   time.Time // a pass without an error, or the last answer of the store since
	passed time.Time // the last pass without an error
	next   time.Time // not before this is tried what failed
	failed bool      // the last pass did
	away   bool      // the store did not answer when it was asked last
}

// Run finishes until ctx ends. It must be called once.
func (f *Finisher) Run(ctx context.Context) error {
	pause := retry.Pause{First: Soon, Last: Every}
	trouble := retry.Trouble{Logger: f.Logger, Level: slog.LevelWarn, Text: "something is left to be finished; it is tried again", Over: "what was left is finished"}
	pauses := rarely - rand.N(rarely/4)
	ticker := time.NewTicker(Soon)
	defer ticker.Stop()
	for {
		asked := f.Resync.Swap(false)
		switch due := asked || f.failed || f.away || f.Pending(ctx) || time.Since(f.passed) > pauses; {
		case due && (asked || !time.Now().Before(f.next) || f.away && f.Answers(ctx) == nil):
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
		case !due && time.Since(f.last) > Every:
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
func (f *Finisher) look(ctx context.Context) {
	if f.away = f.Answers(ctx) != nil; !f.away {
		f.well(time.Now())
	}
}

func (f *Finisher) well(at time.Time) {
	f.last = at
	f.Done(at)
}

func (f *Finisher) pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, Every)
	defer cancel()
	return f.Sync(ctx)
}
