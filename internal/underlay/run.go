package underlay

import (
	"context"
	"time"
)

// Run follows the kernel until ctx ends. It never gives up: without the kernel's messages it looks now and then.
func (t *Tracker) Run(ctx context.Context) error {
	for failed := false; ctx.Err() == nil; {
		// The watch first: what changes between it and the look is then signalled.
		events, err := t.source.WatchNetwork(ctx)
		if err != nil && ctx.Err() == nil && !failed {
			t.log.Warn("changes of this host's network are noticed late, as the kernel's messages can't be read", "err", err)
		}
		failed = err != nil
		t.follow(ctx, events)
		pause(ctx, again)
	}
	return nil
}

// follow looks after each change, and each lookEvery, until the events or ctx end. Without events it looks once.
func (t *Tracker) follow(ctx context.Context, events <-chan struct{}) {
	for stirred := false; ctx.Err() == nil; {
		next := lookEvery
		if wait := t.Look(ctx); wait > 0 {
			next = min(next, wait)
		}
		if stirred {
			stirred = false
			t.signal()
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-timer.C:
			if events == nil {
				return
			}
		case _, ok := <-events:
			if !ok {
				timer.Stop()
				return
			}
			calm(ctx, events)
			stirred = true
		}
		timer.Stop()
	}
}

// again is the pause before the kernel's messages are subscribed to again.
const again = time.Second

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// calm waits until nothing has been signalled for a moment, but not for ever.
func calm(ctx context.Context, events <-chan struct{}) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	silence := time.NewTimer(quiet)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-limit.C:
			return
		case <-silence.C:
			return
		case _, ok := <-events:
			if !ok {
				return
			}
			silence.Reset(quiet)
		}
	}
}
