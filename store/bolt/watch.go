package bolt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/socketplane/socketplane/store"
)

// maxWait is after how long a Watch answers though nothing has changed, like
// Consul's default; a tenth is added at random so that watches don't beat together.
const maxWait = 5 * time.Minute

// history is how many changes the hub remembers. Whoever asks for changes
// since before them is answered at once.
const history = 1024

// Watch implements store.KV.
func (s *Store) Watch(ctx context.Context, prefix string, since uint64) ([]store.Entry, uint64, error) {
	if err := store.ValidPrefix(prefix); err != nil {
		return nil, 0, err
	}
	if err := s.usable(ctx); err != nil {
		return nil, 0, err
	}
	if since != 0 {
		if err := s.wait(ctx, prefix, since); err != nil {
			return nil, 0, err
		}
	}
	return s.list(ctx, prefix)
}

// wait returns when something under prefix has changed after since, or after maxWait.
func (s *Store) wait(ctx context.Context, prefix string, since uint64) error {
	w := s.hub.wait(prefix, since)
	defer s.hub.leave(w)
	timer := time.NewTimer(maxWait + rand.N(maxWait/10))
	defer timer.Stop()
	select {
	case <-w.woken:
	case <-timer.C:
	case <-s.ctx.Done():
	case <-ctx.Done():
	}
	return s.usable(ctx)
}

// Announce implements store.KV. The key vanishes when ctx ends, with Close and,
// after the process has died, with the next Open: until then nobody can read
// it, as one process owns the file. So ttl does not matter.
func (s *Store) Announce(ctx context.Context, key string, value []byte, _ time.Duration) error {
	ops := []store.Op{{Kind: store.OpPut, Key: key, Value: value}}
	if err := store.ValidOps(ops); err != nil {
		return err
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	// Not ctx: the key would stay if ctx ended while it is being written.
	res := s.submit(context.WithoutCancel(ctx), &request{ops: ops, announce: key})
	if res.err != nil {
		return res.err
	}
	for index := res.version; ; {
		err := s.wait(ctx, key, index)
		switch {
		case s.ctx.Err() != nil:
			return err
		case ctx.Err() != nil:
			// Its own deadline does not matter: the writer always answers.
			ours := []store.Op{{Kind: store.OpDelete, Key: key, Version: res.version}}
			_ = s.submit(context.WithoutCancel(ctx), &request{ops: ours})
			return ctx.Err()
		}
		// Before the look at the key, so that no later change is missed.
		index = s.hub.index()
		entry, err := s.Get(context.WithoutCancel(ctx), key)
		if err != nil || entry.Version != res.version {
			return fmt.Errorf("announcement of %s was lost to another writer: %w", key, store.ErrConflict)
		}
	}
}

// event is one key that a transaction changed.
type event struct {
	key     string
	version uint64
}

// waiter is one Watch that waits.
type waiter struct {
	prefix string
	woken  chan struct{} // has room for one
}

func (w *waiter) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// hub knows what has changed lately, and who waits for changes. It is safe for
// concurrent use.
type hub struct {
	mu      sync.Mutex
	recent  []event // in order of version
	floor   uint64  // recent holds all changes with versions above it
	last    uint64
	waiters map[*waiter]struct{}
}

func newHub(counter uint64) *hub {
	return &hub{floor: counter, last: counter, waiters: map[*waiter]struct{}{}}
}

// publish wakes those who wait for one of the changes.
func (h *hub) publish(changed []event) {
	if len(changed) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recent = append(h.recent, changed...)
	h.last = changed[len(changed)-1].version
	if len(h.recent) > 2*history {
		dropped := len(h.recent) - history
		h.floor = h.recent[dropped-1].version
		h.recent = append([]event(nil), h.recent[dropped:]...)
	}
	for w := range h.waiters {
		for _, e := range changed {
			if strings.HasPrefix(e.key, w.prefix) {
				w.wake()
				break
			}
		}
	}
}

// wait registers a waiter, which is woken already if there was a change.
func (h *hub) wait(prefix string, since uint64) *waiter {
	w := &waiter{prefix: prefix, woken: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiters[w] = struct{}{}
	if since < h.floor || since > h.last {
		w.wake() // unknown, or the file was replaced by an older one
		return w
	}
	for i := len(h.recent) - 1; i >= 0 && h.recent[i].version > since; i-- {
		if strings.HasPrefix(h.recent[i].key, prefix) {
			w.wake()
			break
		}
	}
	return w
}

func (h *hub) leave(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiters, w)
}

// index is the version of the latest change.
func (h *hub) index() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}
