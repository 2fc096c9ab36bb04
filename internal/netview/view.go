package netview

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// Bounds of the wait after the store failed.
const (
	retryFirst = 200 * time.Millisecond
	retryLast  = 5 * time.Second
)

// Deps are the parts that a View works on.
type Deps struct {
	Cluster *store.Cluster
	// Roster follows the cluster's hosts; Run needs it.
	Roster Roster
	// Local is the host's own store.
	Local store.KV
	// OwnRecord hears this host's record whenever the cluster's hosts change; it must not block. nil hears nothing.
	OwnRecord func(store.Host)
	Logger    *slog.Logger
}

// Roster is what follows the cluster's hosts: a roster.Roster, which other parts ask, too.
type Roster interface {
	// Members are the hosts; known is false before they were read first. Its maps are shared.
	Members() (members store.Membership, known bool)
	// Subscribe signals that a host's record has changed.
	Subscribe(context.Context) <-chan struct{}
	// Layout is that of the cluster's records, 0 while it is not known; changed is closed when it is another one.
	Layout() (layout int, changed <-chan struct{})
}

// View is what this host knows of the cluster. It is safe for concurrent use.
type View struct {
	cluster *store.Cluster
	roster  Roster
	local   store.KV
	own     func(store.Host)
	log     *slog.Logger
	// indexes and shards are watches of the two forms of endpoints' records.
	indexes, shards *indexes
	// storedHosts are the copies of hosts.
	storedHosts *copies
	carries     chan struct{} // has room for the news that the hosts carry another MTU
	wake        chan struct{} // has room for the news that something is to be published
	// convert has room for the wait until all is published in the form of another layout; only followLayout writes it.
	convert chan time.Duration

	mu       sync.Mutex // guards what follows; never held while anything is waited for
	tables   map[string]*table
	hosts    map[string]store.Host   // replaced, never changed
	networks map[string]*Network     // this host's, by Docker's id
	follows  map[*NetworkStream]bool // their consumers
	mtu      int                     // of containers: what all hosts carry, 0 while none has told
	read     chan struct{}           // closed when the other hosts were read; nil when they were, and before Run
	begin    func(*table)            // begins a watch; nil before Run
	remote   int                     // endpoints on other hosts
	dirty    map[string]bool         // networks whose endpoints are to be published
	failed   map[string]Unpublished
}

// New returns a view with what the host's own store remembers.
func New(ctx context.Context, deps Deps) (*View, error) {
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.OwnRecord == nil {
		deps.OwnRecord = func(store.Host) {}
	}
	v := &View{
		cluster: deps.Cluster, roster: deps.Roster, local: deps.Local, own: deps.OwnRecord, log: deps.Logger, indexes: newIndexes(deps.Cluster.EndpointRecords), shards: newShards(deps.Cluster.EndpointRecords), storedHosts: newCopies(deps.Local),
		carries: make(chan struct{}, 1), wake: make(chan struct{}, 1), convert: make(chan time.Duration, 1), tables: map[string]*table{}, hosts: map[string]store.Host{},
		networks: map[string]*Network{}, follows: map[*NetworkStream]bool{},
		dirty: map[string]bool{}, failed: map[string]Unpublished{},
	}
	return v, v.restore(ctx)
}

func (v *View) restore(ctx context.Context) error {
	entries, err := v.local.List(ctx, store.LocalHosts)
	if err != nil {
		return err
	}
	for _, e := range entries {
		h, err := store.Decode[store.Host](e)
		if err != nil {
			return err
		}
		v.hosts[h.ID] = h
		v.storedHosts.restored(e.Key, copyOfHost(h).mark)
	}
	v.mtu = carried(v.hosts)
	for _, copies := range []struct {
		prefix  string
		restore func(store.Entry) error
	}{{store.LocalParts, v.restorePart}, {store.LocalPeers, v.restoreRecord}} {
		if entries, err = v.local.List(ctx, copies.prefix); err != nil {
			return err
		}
		for _, e := range entries {
			if err := copies.restore(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// restoreRecord takes a copy of another host's record. If there are copies of the host's parts, too, the record is what counts: an agent of before, which does not know
// of the parts, has written it since. The parts are read again.
func (v *View) restoreRecord(e store.Entry) error {
	r, err := store.Decode[store.Endpoints](e)
	if err != nil {
		return err
	}
	t := v.table(r.Network)
	endpoints := parse(r.Endpoints, 0)
	v.remote += len(endpoints) - t.set(r.Host, endpoints)
	if p := t.peers[r.Host]; p != nil {
		p.parts = nil
	}
	t.stored.restored(e.Key, r.Revision)
	return nil
}

// restorePart takes a copy of a part of another host's endpoints.
func (v *View) restorePart(e store.Entry) error {
	network, host, number, is := store.ParseLocalPart(e.Key)
	if !is {
		return fmt.Errorf("%w: %q is not the key of a part", store.ErrInvalid, e.Key)
	}
	p, err := store.DecodePart(e)
	if err != nil {
		return err
	}
	t := v.table(network)
	head := store.Head{Parts: make([]string, number+1)}
	if known := t.peers[host]; known != nil && len(known.parts) > number {
		head.Parts = known.parts
	}
	n := news{job: job{host: host, head: &head, parts: []int{number}}, read: map[int]store.Part{number: p}, parsed: parse(p.Endpoints, number)}
	now, hashes := t.merge(n)
	v.remote += len(now) - t.set(host, now)
	if known := t.peers[host]; known != nil {
		known.parts = hashes
	}
	t.stored.restored(e.Key, p.Hash)
	return nil
}

// table returns a network's table; mu is held.
func (v *View) table(network string) *table {
	t := v.tables[network]
	if t == nil {
		t = newTable(network, newCopies(v.local))
		v.tables[network] = t
	}
	return t
}

// Keep removes what is known of all networks but those that this host has: what a crash in the middle of a network's removal has left.
func (v *View) Keep(ctx context.Context, has func(network string) bool) error {
	v.mu.Lock()
	var orphans []*table
	for id, t := range v.tables {
		if !has(id) {
			orphans = append(orphans, t)
			v.unfollow(t)
			delete(v.tables, id)
		}
	}
	v.mu.Unlock()
	var errs []error
	for _, t := range orphans {
		if t.stored.any() {
			v.log.Info("removing what was known of a network that is not on this host", "network", t.id)
		}
		errs = append(errs, t.stored.clear(ctx))
	}
	return errors.Join(errs...)
}

// Run watches the other hosts and publishes this host's endpoints, until ctx ends.
// What it can't do now it tries again; what was known before stays valid meanwhile.
func (v *View) Run(ctx context.Context) error {
	var watchers sync.WaitGroup
	v.mu.Lock()
	v.read = make(chan struct{})
	v.begin = func(t *table) {
		watchCtx, stop := context.WithCancel(ctx)
		w := &watch{stop, make(chan struct{})}
		t.watch = w
		watchers.Go(func() {
			defer stop()
			v.watchPeers(watchCtx, t, w)
		})
	}
	for _, t := range v.tables {
		v.start(t)
		v.dirty[t.id] = true
	}
	v.mu.Unlock()
	v.nudge()
	watchers.Go(func() { v.followHosts(ctx) })
	watchers.Go(func() { v.followLayout(ctx) })
	v.publishLoop(ctx)
	v.mu.Lock()
	v.begin = nil // none begins any more
	v.mu.Unlock()
	watchers.Wait()
	return context.Cause(ctx)
}

// start begins the watch of a network that is followed; mu is held.
func (v *View) start(t *table) {
	if t.watch == nil && v.begin != nil && t.followed() {
		v.begin(t)
	}
}

// unfollow ends the watch of a network that no stream follows, and forgets its peers; mu is held.
func (v *View) unfollow(t *table) {
	if t.followed() {
		return
	}
	if t.watch != nil {
		t.watch.stop()
		t.watch = nil
	}
	for host := range t.peers {
		v.remote -= t.set(host, nil)
	}
}

// backoff is a wait that grows with each failure in a row.
func backoff(failures int) time.Duration {
	limit := min(retryFirst<<min(failures, 8), retryLast)
	return limit/2 + rand.N(limit/2)
}

// newLoop is for a watch of the store: one that answers plain questions and drops those that wait is asked seldom.
func (v *View) newLoop(trouble string) *retry.Loop {
	return &retry.Loop{
		Pause:   retry.Pause{First: retryFirst, Last: retryLast, Steady: retryLast},
		Trouble: retry.Trouble{Logger: v.log, Level: slog.LevelWarn, Text: trouble},
	}
}
