package ipamdriver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
)

// Pauses of Run.
const (
	tendEvery = time.Second     // surplus is given back in batches
	tendLimit = 5 * time.Second // a change of claims in the background
	tendAgain = 2 * time.Second // after the store has failed
)

// Run claims spares, gives surplus back and answers other hosts, until ctx ends. Without it requests are
// served as well, but claim what they need themselves.
func (d *Driver) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { d.answerAsks(ctx) })
	defer wg.Wait()
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	var last told
	unreadable := retry.Trouble{Logger: d.log, Level: slog.LevelWarn, Text: "this host's journal of addresses can't be read"}
	for {
		surplus := false
		select {
		case <-ctx.Done():
			return nil
		case <-d.kick:
		case <-ticker.C:
			surplus = true
		}
		all, err := d.all(ctx)
		unreadable.Note(err)
		if err != nil {
			continue
		}
		for _, s := range all {
			d.tend(ctx, s, surplus)
		}
		if surplus { // it looks at every address: not with each claim
			d.publish(ctx, all, &last)
		}
	}
}

// tend does what a pool needs in the background.
func (d *Driver) tend(ctx context.Context, s *stock, surplus bool) {
	s.mu.Lock()
	need := s.want() > 0 || surplus && (len(s.returning) > 0 || len(s.ledger.Surplus(d.now(), s.waiting, s.free(), 1)) > 0)
	need = need && time.Now().After(s.retry)
	s.mu.Unlock()
	if !need {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tendLimit)
	defer cancel()
	if s.takeTurn(ctx) != nil {
		return // somebody else is at it
	}
	defer s.endTurn()
	var err error
	if surplus {
		err = d.giveBack(ctx, s)
	}
	if err == nil {
		err = d.claim(ctx, s)
	}
	if err != nil && ctx.Err() == nil {
		d.log.Debug("spare addresses are neither claimed nor given back for a while", "pool", s.pool, "err", err)
	}
	if err != nil {
		s.mu.Lock()
		s.retry = time.Now().Add(tendAgain)
		s.mu.Unlock()
	}
}
