package consul

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/store"
)

// Consul takes no session with a shorter or longer time to live.
const (
	minTTL = 10 * time.Second
	maxTTL = 24 * time.Hour
)

const (
	// lockDelay is for how long a key can't be locked after its session was
	// invalidated. Consul's default of 15 s guards a lock's work against its
	// late holder; a sign of life has no work. 0 would mean the default.
	lockDelay = time.Millisecond
	// farewell bounds the destruction of a session whose owner is leaving.
	farewell = 2 * time.Second
	// lockPause is between tries to take a key over.
	lockPause = 50 * time.Millisecond
	// renewPause is between tries to renew while Consul does not answer.
	renewPause = time.Second
)

// Announce implements store.KV with a session, which deletes its key when it
// ends. The session has no health check of Consul's agent: the key says
// that this process lives. An unrenewed session ends after one to two ttl.
func (s *Store) Announce(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := store.ValidOps([]store.Op{{Kind: store.OpPut, Key: key, Value: value}}); err != nil {
		return err
	}
	s.mu.Lock()
	if s.ctx.Err() != nil {
		s.mu.Unlock()
		return s.failure(ctx, "announce "+key, s.ctx.Err())
	}
	s.announced.Add(1)
	s.mu.Unlock()
	defer s.announced.Done()

	ttl = min(max(ttl, minTTL), maxTTL)
	session, err := s.newSession(ctx, key, ttl)
	if err != nil {
		return err
	}
	defer s.destroy(context.WithoutCancel(ctx), session)
	if err := s.acquire(ctx, &api.KVPair{Key: key, Value: value, Session: session}); err != nil {
		return err
	}
	return s.keep(ctx, key, session, ttl)
}

func (s *Store) newSession(ctx context.Context, key string, ttl time.Duration) (string, error) {
	req, cancel := s.call(ctx, s.timeout)
	defer cancel()
	crashpoint.Hit("consul: make a session")
	id, _, err := s.client.Session().CreateNoChecks(&api.SessionEntry{
		Name:      key,
		TTL:       ttl.String(),
		Behavior:  api.SessionBehaviorDelete,
		LockDelay: lockDelay,
	}, (&api.WriteOptions{}).WithContext(req))
	if err != nil {
		return "", s.failure(ctx, "announce "+key, err)
	}
	return id, nil
}

// destroy ends a session, and so deletes its key. If Consul is away, the
// session ends by itself: the error does not matter.
func (s *Store) destroy(ctx context.Context, session string) {
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	crashpoint.Hit("consul: end a session")
	_, _ = s.client.Session().Destroy(session, (&api.WriteOptions{}).WithContext(ctx))
}

// acquire locks the key, ending the session of a predecessor that died without
// ending it: whoever announces a key owns it.
func (s *Store) acquire(ctx context.Context, pair *api.KVPair) error {
	req, cancel := s.call(ctx, s.timeout)
	defer cancel()
	for {
		crashpoint.Hit("consul: announce")
		ok, _, err := s.client.KV().Acquire(pair, (&api.WriteOptions{}).WithContext(req))
		if err != nil {
			return s.failure(ctx, "announce "+pair.Key, err)
		}
		if ok {
			return nil
		}
		held, _, err := s.client.KV().Get(pair.Key, (&api.QueryOptions{}).WithContext(req))
		if err != nil {
			return s.failure(ctx, "announce "+pair.Key, err)
		}
		if held != nil && held.Session != "" && held.Session != pair.Session {
			s.destroy(req, held.Session)
		}
		if err := s.pause(req, lockPause); err == nil {
			continue
		}
		if ctx.Err() != nil || s.ctx.Err() != nil || held == nil {
			return s.failure(ctx, "announce "+pair.Key, req.Err())
		}
		return fmt.Errorf("announce %s: %w: session %s holds it and could not be ended within %s: does a second host have this host's id?", pair.Key, store.ErrConflict, held.Session, s.timeout)
	}
}

// keep renews the session until ctx or the store ends, or until it is lost.
func (s *Store) keep(ctx context.Context, key, session string, ttl time.Duration) error {
	alive, next := time.Now(), ttl/3
	for {
		err := s.pause(ctx, next)
		switch {
		case s.ctx.Err() != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		held, err := s.renew(ctx, key, session)
		switch {
		case err == nil && !held:
			return fmt.Errorf("announcement of %s was lost, its session %s has ended: %w", key, session, store.ErrConflict)
		case err == nil:
			alive, next = time.Now(), ttl/3
		case time.Since(alive) > 2*ttl:
			return err
		default:
			// Consul keeps sessions over a restart and gives them their
			// time anew, so there is hope for long.
			next = renewPause
		}
	}
}

// renew renews the session and reports whether it still is and has the key.
func (s *Store) renew(ctx context.Context, key, session string) (bool, error) {
	req, cancel := s.call(ctx, s.timeout)
	defer cancel()
	crashpoint.Hit("consul: renew a session")
	entry, _, err := s.client.Session().Renew(session, (&api.WriteOptions{}).WithContext(req))
	if err != nil {
		return false, s.failure(ctx, "renew the announcement of "+key, err)
	}
	if entry == nil {
		return false, nil
	}
	pair, _, err := s.client.KV().Get(key, (&api.QueryOptions{}).WithContext(req))
	if err != nil {
		return false, s.failure(ctx, "renew the announcement of "+key, err)
	}
	return pair != nil && pair.Session == session, nil
}
