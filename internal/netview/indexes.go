package netview

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/socketplane/socketplane/store"
)

const (
	// queries is how many queries follow networks in the form of the layout, at most. Each takes a connection, and Consul allows 200 for a client's address, of which an agent holds
	// some twenty (docs/design/0012-restarts.md).
	queries = 14
	// perEntry is the pause after an answer that several networks share, for each entry in the last answers of all such. Each such answer has the entries of all
	// these networks, also when one of them has changed: so the more entries there are, the longer changes are collected.
	perEntry = 20 * time.Microsecond
	// gather is the pause before the first question of a query that replaces others: networks come many at a time.
	gather = 10 * time.Millisecond
	// seldom is the pause after an answer that has nothing of a form in which nothing comes any more.
	seldom = 5 * time.Minute
)

// indexes watches networks' indexes, or their shards, with few queries for however many networks. Up to so many networks have one each, and hear of no others; of more, those
// whose ids begin alike share one, whose answers have all of the cluster's networks that begin like that: a part of them, as long as the ids have fewer first digits than there are
// queries, which up to some thirty networks they have as a rule.
type indexes struct {
	// read is store.KV.Watch for the networks whose ids begin with a prefix. keep is one of them whose watch is to be kept from being empty, "" for none.
	read func(ctx context.Context, prefix, keep string, since uint64) (map[string]map[string]uint64, uint64, error)
	// ended says that no host takes this form where it is not that of the layout: who has none of it needs no watch.
	ended bool

	mu  sync.Mutex // guards what follows, and groups
	gen uint64     // counts answers and failures
	// groups are those that are followed in the form of the layout, all is the one for networks that are followed in it beside the other form, nil if there are none.
	groups []*group
	all    *group
}

// group is what one query follows.
type group struct {
	prefix  string // of the networks' ids
	sharers map[*sharer]bool
	// now is the last answer, nil before the first and after a failure.
	now      map[string]map[string]uint64
	entries  int // in it, if several networks share it
	err      error
	failedAt uint64 // the generation of err
	failures int    // in a row
	index    uint64 // of the last answer, 0 after a failure
	after    time.Time
	stop     context.CancelFunc // of the query that one of the sharers makes; nil while none does
	news     chan struct{}      // closed when something of this changes, or the group is replaced
}

// sharer is a watch of one network.
type sharer struct {
	network string
	group   *group
	// now is what the last answer had of the network, nil before the first and after a failure; changed is the generation in which it changed last.
	now     map[string]uint64
	changed uint64
}

// newIndexes watches indexes, which hosts in the form of the first layout change. In the second layout no host takes that form.
func newIndexes(cluster store.EndpointRecords) *indexes {
	return &indexes{ended: true, read: func(ctx context.Context, prefix, _ string, since uint64) (map[string]map[string]uint64, uint64, error) {
		return cluster.WatchIndexes(ctx, prefix, since)
	}}
}

// newShards watches shards, which hosts in the form of the second layout change. In the first layout hosts may take it whose endpoints do not fit into the former record.
func newShards(cluster store.EndpointRecords) *indexes {
	return &indexes{read: cluster.WatchShards}
}

// indexWatch is store.KV.Watch for one network's index or shards: the version of each host's endpoints, or of each shard.
type indexWatch func(ctx context.Context, since uint64) (map[string]uint64, uint64, error)

// begin begins to watch a network, until end is called. own says that this is the form of the layout.
func (x *indexes) begin(network string, own bool) (watch indexWatch, end func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := &sharer{network: network}
	if own {
		x.join(s)
	} else {
		if x.all == nil {
			x.all = newGroup("")
		}
		x.all.add(s)
	}
	return func(ctx context.Context, since uint64) (map[string]uint64, uint64, error) {
			return x.wait(ctx, s, since)
		},
		func() { x.leave(s) }
}

func newGroup(prefix string) *group {
	return &group{prefix: prefix, sharers: map[*sharer]bool{}, news: make(chan struct{})}
}

// add has one more follow what the group does; mu is held.
func (g *group) add(s *sharer) {
	g.sharers[s], s.group = true, g
	if g.now != nil {
		s.now = versionsOf(g.now, s.network)
	}
}

// versionsOf are the versions of one network in an answer, never nil.
func versionsOf(all map[string]map[string]uint64, network string) map[string]uint64 {
	if versions := all[network]; versions != nil {
		return versions
	}
	return map[string]uint64{}
}

// join gives a network that is followed in the form of the layout a query; mu is held.
func (x *indexes) join(s *sharer) {
	var in *group
	for _, g := range x.groups {
		if strings.HasPrefix(s.network, g.prefix) && (in == nil || len(g.prefix) > len(in.prefix)) {
			in = g
		}
	}
	if in != nil {
		in.add(s)
		return
	}
	g := newGroup(s.network)
	g.add(s)
	if x.groups = append(x.groups, g); len(x.groups) > queries {
		x.unite()
	}
}

// unite makes one query of the two whose networks have the most digits in common; mu is held.
func (x *indexes) unite() {
	first, second, prefix := 0, 1, ""
	for i, g := range x.groups {
		for j, h := range x.groups[:i] {
			if c := common(g.prefix, h.prefix); len(c) > len(prefix) {
				first, second, prefix = j, i, c
			}
		}
	}
	both := newGroup(prefix)
	both.after = time.Now().Add(gather)
	for _, g := range []*group{x.groups[first], x.groups[second]} {
		for s := range g.sharers {
			both.add(s)
		}
		if g.failedAt > both.failedAt { // not all may have been told
			both.err, both.failedAt = g.err, g.failedAt
		}
		if g.stop != nil {
			g.stop()
		}
		g.tell()
	}
	x.groups = append(slices.Delete(x.groups, second, second+1), both)
	x.groups = slices.Delete(x.groups, first, first+1)
}

// common is how two texts begin alike.
func common(a, b string) string {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// leave ends a watch. What is left of its group keeps its query.
func (x *indexes) leave(s *sharer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(s.group.sharers, s)
	if len(s.group.sharers) > 0 {
		return
	}
	if x.all == s.group {
		x.all = nil
	}
	x.groups = slices.DeleteFunc(x.groups, func(g *group) bool { return g == s.group })
}

// tell wakes who waits for news of a group; mu is held.
func (g *group) tell() {
	close(g.news)
	g.news = make(chan struct{})
}

// wait waits for news of one network. One of those who wait makes the query for its group; when its own wait ends, another one does.
func (x *indexes) wait(ctx context.Context, s *sharer, since uint64) (map[string]uint64, uint64, error) {
	for ctx.Err() == nil {
		x.mu.Lock()
		g := s.group
		switch {
		case since != 0 && since < g.failedAt:
			defer x.mu.Unlock()
			return nil, 0, g.err
		case s.now != nil && (since == 0 || since < s.changed):
			defer x.mu.Unlock()
			return maps.Clone(s.now), x.gen, nil
		}
		news, mine := g.news, g.stop == nil
		var query context.Context
		if mine {
			query, g.stop = context.WithCancel(ctx)
		}
		x.mu.Unlock()
		if mine {
			if err := x.ask(query, g, s.network); err != nil && since == 0 {
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

// ask makes a group's query once and notes what it says. It returns why it failed, nil if it was ended.
func (x *indexes) ask(ctx context.Context, g *group, network string) error {
	x.mu.Lock()
	index, after, stop := g.index, g.after, g.stop
	x.mu.Unlock()
	defer stop()
	timer := time.NewTimer(time.Until(after))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	all, next, err := x.read(ctx, g.prefix, network, index)
	x.mu.Lock()
	defer x.mu.Unlock()
	g.stop = nil
	g.tell()
	switch {
	case ctx.Err() != nil: // it says nothing of the store
		return nil
	case err == nil:
		x.take(g, all, next)
	default:
		x.gen++
		for s := range g.sharers {
			s.now = nil
		}
		g.now, g.index, g.err, g.failedAt = nil, 0, err, x.gen
		g.after = time.Now().Add(backoff(g.failures))
		g.failures++
	}
	return err
}

// take takes an answer over; mu is held.
func (x *indexes) take(g *group, all map[string]map[string]uint64, index uint64) {
	x.gen++
	entries, alone := 0, true
	for s := range g.sharers {
		versions := versionsOf(all, s.network)
		if s.now == nil || !maps.Equal(s.now, versions) {
			s.changed = x.gen
		}
		s.now = versions
		alone = alone && s.network == g.prefix
	}
	for _, versions := range all {
		entries += len(versions)
	}
	g.now, g.index, g.failures, g.after, g.entries = all, index, 0, time.Time{}, 0
	switch {
	case g == x.all && x.ended && entries == 0:
		g.after, g.index = time.Now().Add(seldom), 0
	case !alone:
		g.entries = entries
		g.after = time.Now().Add(x.pause(g))
	}
}

// pause is the time between two answers of a group, by what all groups read of which several networks share the answers; mu is held.
func (x *indexes) pause(g *group) time.Duration {
	entries := 0
	for _, h := range x.groups {
		entries += h.entries
	}
	if g == x.all {
		entries += g.entries
	}
	return time.Duration(entries) * perEntry
}
