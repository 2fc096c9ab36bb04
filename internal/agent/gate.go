package agent

import (
	"context"
	"sync"
)

// gate lets loops run while it is open, ends them when it closes, and runs them again when it opens. The zero gate is open.
type gate struct {
	mu      sync.Mutex
	closed  chan struct{} // nil while open; closed when it opens again
	inside  sync.WaitGroup
	cancels map[int]context.CancelFunc
	next    int
}

// enter waits until the gate is open. The context ends when it closes; leave must be called then.
func (g *gate) enter(ctx context.Context) (inner context.Context, leave func(), err error) {
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

// run runs f whenever the gate is open, until ctx ends or f fails of itself.
func (g *gate) run(ctx context.Context, f func(context.Context) error) error {
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

// close ends what runs, and waits for it.
func (g *gate) close() {
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

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}
