// Package lock has a mutex that heeds a context: waiting for it ends when the caller's time is over, so that a holder that hangs holds
// up no more than its own work.
//
// It imports the standard library only, and must not know what is locked.
package lock

import "context"

// Lock is held by one goroutine at a time. New makes one. It is a channel with room for one value, so that a select can wait for it
// together with other things: sending takes it.
type Lock chan struct{}

// New returns a lock that is free.
func New() Lock { return make(Lock, 1) }

// Take waits for the lock, and returns the context's cause if that ends first.
func (l Lock) Take(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Release frees the lock, which the caller holds.
func (l Lock) Release() {
	select {
	case <-l:
	default:
		panic("lock: release of a lock that is not held")
	}
}
