package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/socketplane/socketplane/store"
)

// KV is the cluster's store, whatever the cluster is at the moment. While there is none, calls fail at once with
// store.ErrUnavailable and the reason.
type KV struct {
	mu     sync.RWMutex
	inner  store.KV // nil: none
	life   uint64   // counts the inner stores
	why    string
	closed bool
	opened chan struct{} // closed while there is an inner store, and after Close
	// going is closed unless calls are to wait, as this host's Consul restarts.
	going chan struct{}
}

var _ store.KV = (*KV)(nil)

// lifeShift leaves 48 bits to an index. Those above say in which store's life it was answered, so that no index of one cluster means
// anything in another.
const lifeShift = 48

// patience is how long Watch and Announce, whose callers wait anyway, wait for a store. Who comes again after ever longer pauses would hear
// of one too late.
const patience = 8 * time.Second

func newKV() *KV {
	k := &KV{why: "this host has just started and is in no cluster yet", opened: make(chan struct{}), going: make(chan struct{})}
	close(k.going)
	return k
}

// hold lets calls wait, each for patience at most, until release: a Consul that restarts because the host gets another role is back
// in a moment, and no container should fail for that.
func (k *KV) hold() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.holding() {
		k.going = make(chan struct{})
	}
}

// release lets calls go on.
func (k *KV) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.holding() {
		close(k.going)
	}
}

func (k *KV) held() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.holding()
}

// holding is held with the lock taken.
func (k *KV) holding() bool {
	select {
	case <-k.going:
		return false
	default:
		return true
	}
}

// through calls do with the inner store, and again after a call that was cut off by a restart. A write may have taken effect by
// then: its repetition is refused, and its caller reads what there is.
func (k *KV) through(ctx context.Context, do func(store.KV) error) error {
	for {
		k.mu.RLock()
		going := k.going
		k.mu.RUnlock()
		timer := time.NewTimer(patience)
		select {
		case <-going:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		inner, _, err := k.get()
		if err != nil {
			return err
		}
		waited := k.held()
		err = k.seen(do(inner))
		if waited || !errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil || !k.held() {
			return err
		}
	}
}

// open lets calls through to inner, which it owns from now on.
func (k *KV) open(inner store.KV) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.inner == inner {
		return
	}
	if k.inner == nil {
		close(k.opened)
	}
	k.inner, k.life = inner, k.life+1
}

// shut says why there is no store; the one that was there is closed by its owner.
func (k *KV) shut(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.inner != nil && !k.closed {
		k.opened = make(chan struct{})
	}
	k.inner, k.why = nil, why
}

// await is get for those who wait.
func (k *KV) await(ctx context.Context) (store.KV, uint64, error) {
	k.mu.RLock()
	opened := k.opened
	k.mu.RUnlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("%w: %w", store.ErrUnavailable, ctx.Err())
	case <-timer.C:
	case <-opened:
	}
	return k.get()
}

func (k *KV) get() (store.KV, uint64, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	switch {
	case k.closed:
		return nil, 0, fmt.Errorf("%w: %w", store.ErrUnavailable, store.ErrClosed)
	case k.inner == nil:
		return nil, 0, fmt.Errorf("%w: %s", store.ErrUnavailable, k.why)
	}
	return k.inner, k.life, nil
}

// seen is an error as callers may see it: that one cluster's store was closed does not mean that this one is.
func (k *KV) seen(err error) error {
	if !errors.Is(err, store.ErrClosed) {
		return err
	}
	if _, _, now := k.get(); now != nil {
		return now
	}
	return fmt.Errorf("%w: this host has changed to another cluster: try again", store.ErrUnavailable)
}

// Get implements store.KV.
func (k *KV) Get(ctx context.Context, key string) (e store.Entry, err error) {
	err = k.through(ctx, func(inner store.KV) error {
		e, err = inner.Get(ctx, key)
		return err
	})
	return e, err
}

// List implements store.KV.
func (k *KV) List(ctx context.Context, prefix string) (entries []store.Entry, err error) {
	err = k.through(ctx, func(inner store.KV) error {
		entries, err = inner.List(ctx, prefix)
		return err
	})
	return entries, err
}

// Apply implements store.KV.
func (k *KV) Apply(ctx context.Context, ops ...store.Op) error {
	return k.through(ctx, func(inner store.KV) error { return inner.Apply(ctx, ops...) })
}

// Watch implements store.KV.
func (k *KV) Watch(ctx context.Context, prefix string, since uint64) ([]store.Entry, uint64, error) {
	inner, life, err := k.await(ctx)
	if err != nil {
		return nil, 0, err
	}
	if since>>lifeShift != life {
		since = 0
	}
	entries, index, err := inner.Watch(ctx, prefix, since&(1<<lifeShift-1))
	if err != nil {
		return nil, 0, k.seen(err)
	}
	return entries, life<<lifeShift | index, nil
}

// Announce implements store.KV.
func (k *KV) Announce(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	inner, _, err := k.await(ctx)
	if err != nil {
		return err
	}
	return k.seen(inner.Announce(ctx, key, value, ttl))
}

// Close implements store.KV.
func (k *KV) Close() error {
	k.mu.Lock()
	inner := k.inner
	if inner == nil && !k.closed {
		close(k.opened)
	}
	if k.holding() {
		close(k.going)
	}
	k.inner, k.closed = nil, true
	k.mu.Unlock()
	if inner == nil {
		return nil
	}
	return inner.Close()
}
