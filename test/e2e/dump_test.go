package e2e

import (
	"context"
	"fmt"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// view is the lab's dump without what differs by chance.
func (w *world) view(ctx context.Context) string { return lab.Lasting(w.Dump(ctx)) }

// settled gives a dump that did not change for a moment: what is released in the background is gone.
func (w *world) settled(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last := w.view(ctx)
	err := testenv.Poll(ctx, time.Second, func() bool {
		now := w.view(ctx)
		same := now == last
		last = now
		return same
	})
	if err != nil {
		return "", fmt.Errorf("the lab's state does not come to rest: %w", err)
	}
	return last, nil
}

// sameAs waits until the lab is as it was, for what is finished in the background: that a host was away is forgotten when the others look again, once a
// minute.
func (w *world) sameAs(ctx context.Context, before string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var different string
	err := testenv.Poll(ctx, 200*time.Millisecond, func() bool {
		now := w.view(ctx)
		if ctx.Err() != nil && different != "" {
			return false
		}
		different = lab.Compare(before, now)
		return different == ""
	})
	if err != nil {
		return fmt.Errorf("the lab is not as it was before (-) but (+):\n%s", different)
	}
	return nil
}
