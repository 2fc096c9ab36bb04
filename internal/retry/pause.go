package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Pause is the time between the attempts of one loop. It doubles from First to Last while attempts fail, and is First again after an
// attempt that worked. An attempt that worked only for a moment, such as a connection that is accepted and dropped at once, has failed: Steady
// is how long it must have lasted. It is not safe for concurrent use.
type Pause struct {
	First, Last, Steady time.Duration

	limit time.Duration // of the next pause; 0 means First
}

// Next returns the pause after an attempt that worked for so long; 0 means that it did not work at all. A random part, up to half, spreads those
// who failed together.
func (p *Pause) Next(worked time.Duration) time.Duration {
	if p.limit == 0 || worked > 0 && worked >= p.Steady {
		p.limit = p.First
	}
	limit := p.limit
	p.limit = min(2*p.limit, p.Last)
	return limit - rand.N(limit/2+1)
}

// Reset makes the next pause the shortest.
func (p *Pause) Reset() { p.limit = 0 }

// Wait is Next which also waits, until ctx ends at the latest.
func (p *Pause) Wait(ctx context.Context, worked time.Duration) { Sleep(ctx, p.Next(worked)) }

// Sleep waits for d or until ctx ends.
func Sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
