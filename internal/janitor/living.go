package janitor

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
)

// Pauses after the store did not tell who is alive.
const (
	askFirst = time.Second
	askLast  = 10 * time.Second
)

// living follows the hosts' signs of life from the first call of now until end. Each answer has all of them, so that only the cluster's janitor asks, and not more often than is
// of use to it.
type living struct {
	watch func(ctx context.Context, since uint64) (map[string]bool, uint64, error)
	// rest is the shortest time between two answers.
	rest time.Duration

	stop func() // nil while nothing is followed
	mu   sync.Mutex
	last map[string]bool // guarded by mu
}

// now is who is alive as it was told last, with those in beside. The first call asks.
func (l *living) now(ctx context.Context, beside map[string]bool) (map[string]bool, error) {
	if l.stop == nil {
		first, index, err := l.watch(ctx, 0)
		if err != nil {
			return nil, err
		}
		l.begin(ctx, first, index)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all := maps.Clone(l.last)
	maps.Copy(all, beside)
	return all, nil
}

// begin follows what has changed since index, beyond the turn whose context is given.
func (l *living) begin(turn context.Context, first map[string]bool, index uint64) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(turn))
	l.last = first
	var following sync.WaitGroup
	following.Go(func() { l.follow(ctx, index) })
	l.stop = func() {
		cancel()
		following.Wait()
	}
}

func (l *living) follow(ctx context.Context, index uint64) {
	pause := retry.Pause{First: askFirst, Last: askLast}
	for {
		retry.Sleep(ctx, l.rest)
		alive, next, err := l.watch(ctx, index)
		if ctx.Err() != nil {
			return
		}
		if index = next; err != nil {
			index = 0
			pause.Wait(ctx, 0)
			continue
		}
		pause.Reset()
		l.mu.Lock()
		l.last = alive
		l.mu.Unlock()
	}
}

// end ends it; now begins again. It may be called when nothing is followed.
func (l *living) end() {
	if l.stop != nil {
		l.stop()
		l.stop = nil
	}
}
