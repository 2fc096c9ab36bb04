package driver_test

import (
	"context"
	"sync"

	"github.com/socketplane/socketplane/store"
)

// faulty is a store whose calls fail when a test says so, at a call that it chooses.
type faulty struct {
	store.KV
	mu      sync.Mutex
	down    bool
	failing bool // writes fail after skip more
	skip    int
	gone    chan struct{} // closed when it goes down, which ends waiting
}

func newFaulty(kv store.KV) *faulty { return &faulty{KV: kv, gone: make(chan struct{})} }

func (f *faulty) set(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if down && !f.down {
		close(f.gone)
	} else if !down && f.down {
		f.gone = make(chan struct{})
	}
	f.down, f.failing = down, false
}

func (f *faulty) check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return store.ErrUnavailable
	}
	return nil
}

func (f *faulty) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := f.check(); err != nil {
		return store.Entry{}, err
	}
	return f.KV.Get(ctx, key)
}

func (f *faulty) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	return f.KV.List(ctx, prefix)
}

// failAfter makes writes fail after a few.
func (f *faulty) failAfter(writes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failing, f.skip = true, writes
}

func (f *faulty) Apply(ctx context.Context, ops ...store.Op) error {
	if err := f.check(); err != nil {
		return err
	}
	f.mu.Lock()
	f.skip--
	fails := f.failing && f.skip < 0
	f.mu.Unlock()
	if fails {
		return store.ErrUnavailable
	}
	return f.KV.Apply(ctx, ops...)
}

func (f *faulty) Watch(ctx context.Context, prefix string, since uint64) ([]store.Entry, uint64, error) {
	if err := f.check(); err != nil {
		return nil, 0, err
	}
	f.mu.Lock()
	gone := f.gone
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	entries, index, err := f.KV.Watch(ctx, prefix, since)
	if down := f.check(); down != nil {
		return nil, 0, down
	}
	return entries, index, err
}
