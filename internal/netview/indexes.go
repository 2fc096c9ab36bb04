package netview

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/socketplane/socketplane/store"
)

const (
	// ownWatches is how many networks are watched by a query of their own. Each takes a connection, and Consul allows 200 for a client's
	// address. Further ones share a query for all of the cluster's networks, whose answers grow with the cluster.
	ownWatches = 12
	// perEntry is the pause after an answer of the shared query for each entry in it: as an answer has all entries whatever changed,
	// changes are collected the longer, the more there are.
	perEntry = 20 * time.Microsecond
)

// indexes watches networks' indexes, or their shards, with few queries for however many networks.
type indexes struct {
	one func(ctx context.Context, network string, since uint64) (map[string]uint64, uint64, error)
	all func(ctx context.Context, since uint64) (map[string]map[string]uint64, uint64, error)

	mu  sync.Mutex
	own int // networks that have a query of their own
	// sharers are those who share the query.
	sharers map[*sharer]bool
	// now is the last answer, nil before the first and after a failure; gen counts answers and failures.
	now      map[string]map[string]uint64
	gen      uint64
	err      error
	failedAt uint64 // the generation of err
	failures int    // in a row
	index    uint64 // of the last answer, 0 after a failure
	after    time.Time
	reading  bool          // one of those who wait has the query
	news     chan struct{} // closed when something of this changes
}

// sharer is somebody's watch of a network by the shared query.
type sharer struct {
	network string
	changed uint64 // the generation in which its index changed last
}

// newIndexes watches indexes, which hosts in the form of the first layout change.
func newIndexes(cluster store.EndpointRecords) *indexes {
	return &indexes{one: cluster.WatchIndex, all: cluster.WatchIndexes, sharers: map[*sharer]bool{}, news: make(chan struct{})}
}

// newShards watches shards, which hosts in the form of the second layout change.
func newShards(cluster store.EndpointRecords) *indexes {
	return &indexes{one: cluster.WatchShards, all: cluster.WatchAllShards, sharers: map[*sharer]bool{}, news: make(chan struct{})}
}

// indexWatch is store.KV.Watch for one network's index or shards: the version of each host's endpoints, or of each shard.
type indexWatch func(ctx context.Context, since uint64) (map[string]uint64, uint64, error)

// begin begins to watch a network, until end is called. own says that a query of its own may be worth it.
func (x *indexes) begin(network string, own bool) (watch indexWatch, end func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if own && x.own < ownWatches {
		x.own++
		return func(ctx context.Context, since uint64) (map[string]uint64, uint64, error) {
				return x.one(ctx, network, since)
			}, func() {
				x.mu.Lock()
				defer x.mu.Unlock()
				x.own--
			}
	}
	s := &sharer{network: network}
	x.sharers[s] = true
	return func(ctx context.Context, since uint64) (map[string]uint64, uint64, error) {
			return x.shared(ctx, s, since)
		},
		func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			delete(x.sharers, s)
		}
}

// shared waits for news of one network. One of those who wait makes the query for all; when its own wait ends, another one does.
func (x *indexes) shared(ctx context.Context, s *sharer, since uint64) (map[string]uint64, uint64, error) {
	for ctx.Err() == nil {
		x.mu.Lock()
		switch {
		case since != 0 && since < x.failedAt:
			defer x.mu.Unlock()
			return nil, 0, x.err
		case x.now != nil && (since == 0 || since < s.changed):
			defer x.mu.Unlock()
			versions := maps.Clone(x.now[s.network])
			if versions == nil {
				versions = map[string]uint64{}
			}
			return versions, x.gen, nil
		}
		news, mine := x.news, !x.reading
		x.reading = true
		index, after := x.index, x.after
		x.mu.Unlock()
		if mine {
			if err := x.read(ctx, index, after); err != nil && since == 0 {
				return nil, 0, err
			}
			continue
		}
		select {
		case <-news:
		case <-ctx.Done():
		}
	}
	return nil, 0, ctx.Err()
}

// read makes the query once and notes what it says.
func (x *indexes) read(ctx context.Context, index uint64, after time.Time) error {
	timer := time.NewTimer(time.Until(after))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	all, next, err := x.all(ctx, index)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reading = false
	close(x.news)
	x.news = make(chan struct{})
	switch {
	case err == nil:
		x.take(all, next)
	case ctx.Err() == nil: // else it says nothing of the store
		x.gen++
		x.now, x.index, x.err, x.failedAt = nil, 0, err, x.gen
		x.after = time.Now().Add(backoff(x.failures))
		x.failures++
	}
	return err
}

// take takes an answer over; x.mu is held.
func (x *indexes) take(all map[string]map[string]uint64, index uint64) {
	x.gen++
	for s := range x.sharers {
		if x.now == nil || !maps.Equal(x.now[s.network], all[s.network]) {
			s.changed = x.gen
		}
	}
	entries := 0
	for _, versions := range all {
		entries += len(versions)
	}
	x.now, x.index, x.failures = all, index, 0
	x.after = time.Now().Add(time.Duration(entries) * perEntry)
}
