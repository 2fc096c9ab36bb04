package consul

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/store"
)

// maxWait is about how long a blocking query waits (Consul's own default). A
// tenth is added at random, so that the queries of a cluster that started
// together don't return together.
const maxWait = 5 * time.Minute

// firstWait is how long the first queries of a process wait.
const firstWait = 10 * time.Second

// largeAnswer is how many records an answer has that is not asked for again just because a query's time is over.
const largeAnswer = 8

// earlyPause is the pause after a query that came back early with the same
// index, which Consul allows itself.
const earlyPause = 100 * time.Millisecond

// Watch implements store.KV with blocking queries.
//
// Where nothing is under the prefix, Consul has no index of its own for it, and each write anywhere ends the query (hashicorp/consul#9449). A caller
// who knows that nothing is there is not woken by that; Consul is asked again after a pause.
func (s *Store) Watch(ctx context.Context, prefix string, since uint64) ([]store.Entry, uint64, error) {
	if err := store.ValidPrefix(prefix); err != nil {
		return nil, 0, err
	}
	wait := maxWait + rand.N(maxWait/10)
	until := time.Now().Add(wait)
	bare := since != 0 && s.bare.had(prefix, since)
	for at := since; ; {
		pairs, index, err := s.query(ctx, prefix, at, max(min(time.Until(until), s.wait(prefix)), time.Second))
		if err != nil {
			return nil, 0, err
		}
		// A lower index (a restored store) is an answer like any other.
		same := index == at || bare && len(pairs) == 0
		if since == 0 || !same || !time.Now().Before(until) {
			s.bare.note(prefix, index, len(pairs) == 0)
			s.large.note(prefix, len(pairs) > largeAnswer)
			return entriesOf(pairs), index, nil
		}
		at = index
		if err := s.pause(ctx, earlyPause); err != nil {
			return nil, 0, err
		}
	}
}

// wait is how long one query for a prefix waits at most. Consul does not notice that its client is gone: the query of a process that was killed stays with its
// connection until its time is over, and Consul takes 200 connections of an address. So a query waits for no longer than four times what this process has lived, and what an
// agent that dies again and again leaves is at most four times what it has open. The factor keeps a young agent from asking more than once a minute. What has many records is
// excepted, as each query's end reads all of them.
func (s *Store) wait(prefix string) time.Duration {
	if s.large.has(prefix) {
		return maxWait + maxWait/10
	}
	return max(firstWait, 4*time.Since(s.opened))
}

// prefixes is a set of prefixes. It is safe for concurrent use.
type prefixes struct {
	mu  sync.Mutex
	all map[string]bool
}

func (p *prefixes) has(prefix string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[prefix]
}

func (p *prefixes) note(prefix string, in bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in {
		p.all[prefix] = true
	} else {
		delete(p.all, prefix)
	}
}

// bareness remembers at which indexes callers were told that nothing is under a prefix. It is safe for concurrent use.
type bareness struct {
	mu   sync.Mutex
	seen map[string]span // by prefix, since something was last there
}

// span is from the first to the last index.
type span struct{ first, last uint64 }

func (b *bareness) had(prefix string, index uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, is := b.seen[prefix]
	return is && s.first <= index && index <= s.last
}

func (b *bareness) note(prefix string, index uint64, bare bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, is := b.seen[prefix]
	switch {
	case !bare:
		delete(b.seen, prefix)
	case !is || index < s.first: // a lower index is that of a restored store
		b.seen[prefix] = span{index, index}
	default:
		b.seen[prefix] = span{s.first, max(s.last, index)}
	}
}

// query is one blocking query, or a plain one when since is 0.
func (s *Store) query(ctx context.Context, prefix string, since uint64, wait time.Duration) (api.KVPairs, uint64, error) {
	limit := s.timeout
	opts := consistent()
	if since != 0 {
		opts = &api.QueryOptions{WaitIndex: since, WaitTime: wait}
		limit += wait + wait/16 // Consul adds up to a sixteenth
	}
	req, cancel := s.call(ctx, limit)
	defer cancel()
	pairs, meta, err := s.client.KV().List(prefix, opts.WithContext(req))
	if err != nil {
		return nil, 0, s.failure(ctx, "watch "+prefix, err)
	}
	// 0 would make the next query not wait.
	return pairs, max(meta.LastIndex, 1), nil
}

// pause waits for d; the error is that of ctx or of Close.
func (s *Store) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return s.failure(ctx, "wait", ctx.Err())
	case <-s.ctx.Done():
		return s.failure(ctx, "wait", s.ctx.Err())
	}
}
