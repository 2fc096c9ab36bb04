package testenv

import (
	"context"
	"fmt"
	"time"
)

// Poll calls ready until it is true; the error is the context's.
func Poll(ctx context.Context, every time.Duration, ready func() bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !ready() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Await polls until check returns nil. After the limit its error has what check said last, but for what the limit itself cut off, which says less than
// what was seen before.
func Await(ctx context.Context, limit, every time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last error
	if Poll(ctx, every, func() bool {
		if now := check(ctx); now == nil || ctx.Err() == nil || last == nil {
			last = now
		}
		return last == nil
	}) != nil {
		return fmt.Errorf("not within %v: %w", limit, last)
	}
	return nil
}
