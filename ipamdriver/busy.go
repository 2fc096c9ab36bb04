package ipamdriver

import (
	"context"
	"fmt"
	"sync"
)

// busy lets one caller at a time work on an address or pool of this host: between what the journal says and what
// memory and the cluster are told nobody else may change either. The zero value is ready.
type busy[K comparable] struct {
	mu   sync.Mutex
	held map[K]chan struct{} // closed when it is free again; nil while nobody waits
}

// lock waits until the key is free, at most until ctx ends, and takes it.
func (b *busy[K]) lock(ctx context.Context, key K) (unlock func(), err error) {
	for {
		unlock, wait := b.try(key)
		if unlock != nil {
			return unlock, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("another request for %v is still under way: %w", key, context.Cause(ctx))
		}
	}
}

// try takes the key if it is free, else it tells what to wait for.
func (b *busy[K]) try(key K) (unlock func(), wait <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if wait, held := b.held[key]; held {
		if wait == nil {
			wait = make(chan struct{})
			b.held[key] = wait
		}
		return nil, wait
	}
	if b.held == nil {
		b.held = map[K]chan struct{}{}
	}
	b.held[key] = nil
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if free := b.held[key]; free != nil {
			close(free)
		}
		delete(b.held, key)
	}, nil
}
