// Package gate owns the right of loops to run: they end while a gate is closed and run again when it opens. The agent closes one while this host leaves its
// cluster, so that nothing publishes what the farewell removes.
//
// It imports the standard library only, and must not know what runs behind it.
package gate

import (
	"context"
	"sync"
)

// Gate lets loops run while it is open, ends them when it closes, and runs them again when it opens. The zero Gate is open. All methods may be called concurrently.
type Gate struct {
	mu      sync.Mutex
	closed  chan struct{} // nil while open; closed when it opens again
	inside  sync.WaitGroup
	cancels map[int]context.CancelFunc
	next    int
}

// enter waits until the gate is open. The context ends when it closes; leave must be called then.
func (g *Gate) enter(ctx context.Context) (inner context.Context, leave func(), err error) {
	for {
		g.mu.Lock()
		closed := g.closed
		if closed == nil {
			defer g.mu.Unlock()
			inner, cancel := context.WithCancel(ctx)
			if g.cancels == nil {
				g.cancels = map[int]context.CancelFunc{}
			}
			id := g.next
			g.next++
			g.cancels[id] = cancel
			g.inside.Add(1)
			return inner, func() {
				cancel()
				g.mu.Lock()
				delete(g.cancels, id)
				g.mu.Unlock()
				g.inside.Done()
			}, nil
		}
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-closed:
		}
	}
}

// Run runs f whenever the gate is open, until ctx ends or f fails of itself.
func (g *Gate) Run(ctx context.Context, f func(context.Context) error) error {
	for ctx.Err() == nil {
		inner, leave, err := g.enter(ctx)
		if err != nil {
			return nil
		}
		err = f(inner)
		ended := inner.Err() != nil
		leave()
		if !ended {
			return err
		}
	}
	return nil
}

// Close ends what runs, and waits for it.
func (g *Gate) Close() {
	g.mu.Lock()
	if g.closed == nil {
		g.closed = make(chan struct{})
	}
	for _, cancel := range g.cancels {
		cancel()
	}
	g.mu.Unlock()
	g.inside.Wait()
}

// Open lets loops in again.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}
