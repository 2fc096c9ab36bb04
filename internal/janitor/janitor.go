// Package janitor removes from the cluster's records what nothing needs: hosts that are gone for good, and what is left of anything. It owns when that
// is looked for, and for how long it must have been so.
//
// One host does it for the cluster; if two do, nothing happens twice. It is the one that holds the lock of the cluster's records (in the first layout the first of those that are
// alive): the others ask once a minute whether it still does, and read nothing else for it. The one watches who is alive, lists hosts when one of them goes or comes, and everything
// once an hour.
//
// It may import store and internal/retry. It must not know what keeps the cluster's members, or who asks what is left.
package janitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

const (
	// tidyMost is the longest pause between two turns, which ask the store only if something has changed.
	tidyMost = time.Minute
	// tidyLimit bounds one turn.
	tidyLimit = time.Minute
	// watchedFor is how long this agent itself must have seen a host away before it removes it, whatever clocks say.
	watchedFor = 10 * time.Minute
	// censusMost is between two looks at all records while nothing was found, or censusGraces times the grace if that is less. No change of ours leaves
	// anything behind.
	censusMost   = time.Hour
	censusGraces = 12
)

// Options are the settings of a Janitor.
type Options struct {
	// Expiry is how long a host's agent may be away until the host is removed; 0 for ever.
	Expiry time.Duration
	// Grace is how long nothing must have needed a record until it is removed; more than 0.
	Grace time.Duration
	// Members are the cluster's hosts as they are known without asking the store; false while they are not. Who is alive the janitor asks itself.
	Members func() (store.Membership, bool)
	// Remove removes a host's records, which not every member of a cluster may do itself; nil for Cluster.RemoveHost.
	Remove func(ctx context.Context, id string) error
	Logger *slog.Logger
}

// Janitor tidies on behalf of one host. Run is called once; Again may be called at any time.
type Janitor struct {
	cluster *store.Cluster
	opts    Options
	log     *slog.Logger
	again   atomic.Bool // the store may hold other records than before

	// What follows belongs to Run.
	living   living
	away     map[string]absence // by host
	noted    map[string]bool    // hosts that were away when gone was read; nil when it is to be read again
	gone     map[string]store.Gone
	found    []sighting
	censused bool // all records were looked at since this host's turn began
	census   time.Duration
	layout   int // of the cluster's records, as it was seen last; 0 before
}

// moment is a point in time: by the clock, which may be set meanwhile, and as the time since the janitor began, which never jumps.
type moment struct {
	clock time.Time
	up    time.Duration
}

// absence is a host's as this agent sees it.
type absence struct {
	note store.Gone
	// before is how long the host was away when this agent saw it first, as far as the clocks can be believed that say so; since is when that was.
	before, since time.Duration
}

// sighting is garbage that was seen before.
type sighting struct {
	store.Garbage
	since time.Duration
}

// New returns a janitor that does nothing until Run.
func New(cluster *store.Cluster, opts Options) *Janitor {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Remove == nil {
		opts.Remove = cluster.RemoveHost
	}
	j := &Janitor{cluster: cluster, opts: opts, log: opts.Logger, away: map[string]absence{}}
	j.living = living{watch: cluster.WatchAlive, rest: j.every() / 2}
	return j
}

// Again says that the store may hold other records than before: it was away, or is another one. It never blocks.
func (j *Janitor) Again() { j.again.Store(true) }

// every is the pause between two turns.
func (j *Janitor) every() time.Duration {
	every := min(tidyMost, j.opts.Grace/4)
	if j.opts.Expiry > 0 {
		every = min(every, j.opts.Expiry/4)
	}
	return every
}

// Run tidies until ctx ends.
func (j *Janitor) Run(ctx context.Context) error {
	ticker := time.NewTicker(j.every())
	defer ticker.Stop()
	defer j.living.end()
	began := time.Now()
	trouble := retry.Trouble{Logger: j.log, Level: slog.LevelWarn, Text: "garbage can't be removed from the store; retrying"}
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			bounded, cancel := context.WithTimeout(ctx, tidyLimit)
			err := j.tidy(bounded, moment{now, now.Sub(began)})
			cancel()
			if ctx.Err() == nil {
				trouble.Note(err)
			}
		}
	}
}

// tidy has one turn.
func (j *Janitor) tidy(ctx context.Context, now moment) error {
	members, known := j.opts.Members()
	mine := false
	var err error
	if known {
		if mine, err = j.cluster.IsJanitor(ctx, members); err != nil {
			return err // nothing is known: what was seen stays
		}
	}
	if !mine {
		j.living.end()
		clear(j.away)
		j.noted, j.gone, j.found, j.censused, j.layout = nil, nil, nil, false, 0
		return nil
	}
	if j.again.Swap(false) {
		j.noted, j.censused, j.layout = nil, false, 0
	}
	if members.Alive, err = j.living.now(ctx, members.Alive); err != nil {
		return err
	}
	return errors.Join(j.tendLayout(ctx, members, now.clock), j.expire(ctx, members, now), j.collect(ctx, now))
}

// tendLayout raises the layout of the cluster's records when all hosts have known the newest for long enough, and brings the records into its form.
func (j *Janitor) tendLayout(ctx context.Context, members store.Membership, now time.Time) error {
	if j.layout == store.NewestLayout {
		return nil
	}
	layout, err := j.cluster.TendLayout(ctx, members, now, store.LayoutSoak)
	if err != nil {
		return err
	}
	if layout == j.layout {
		return nil
	}
	// Records are brought into the form of a layout by what changes them; the rest is done here, once for each layout and janitor.
	if _, err := j.cluster.Reform(ctx); err != nil { // doctor tells of those that can't be read
		return err
	}
	if j.layout != 0 {
		j.log.Info("the layout of the cluster's records has changed", "layout", layout, "former", j.layout)
	}
	j.layout = layout
	return nil
}

// absent are the hosts that are known and not alive. The one that looks is alive.
func (j *Janitor) absent(members store.Membership) map[string]bool {
	absent := map[string]bool{}
	note := func(id string) {
		if !members.Alive[id] && id != j.cluster.Host() {
			absent[id] = true
		}
	}
	for id := range members.Hosts {
		note(id)
	}
	for id := range members.Unreadable {
		note(id)
	}
	return absent
}

// note reads and writes in the store since when hosts are away, if other hosts are than when it did so last.
func (j *Janitor) note(ctx context.Context, members store.Membership, now moment) error {
	absent := j.absent(members)
	if j.noted != nil && maps.Equal(absent, j.noted) {
		return nil
	}
	j.noted = nil
	gone, err := j.cluster.NoteGone(ctx, now.clock)
	if err != nil {
		return err
	}
	j.noted, j.gone = absent, gone
	return nil
}

// expire removes hosts whose agents have been away for too long.
func (j *Janitor) expire(ctx context.Context, members store.Membership, now moment) error {
	if j.opts.Expiry == 0 {
		return nil
	}
	if err := j.note(ctx, members, now); err != nil {
		return err
	}
	j.see(j.gone, now)
	var errs []error
	for id, g := range j.gone {
		a := j.away[id]
		watched := now.up - a.since
		if a.before+watched < j.opts.Expiry || watched < min(j.opts.Expiry/2, watchedFor) {
			continue
		}
		j.noted = nil // whatever comes of it, what was read is old
		j.log.Warn("removing a host whose agent has been away for too long: its addresses and networks are free; it may come back as a new one",
			"host", j.cluster.OwnerName(ctx, store.HostOwner(id)), "id", id, "since", g.Since, "limit", j.opts.Expiry)
		err := j.opts.Remove(ctx, id)
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) { // else it is back, or another was faster
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// see notes which hosts are away. What a note says of the time before is asked of the clock only once: a clock that is set later changes nothing.
func (j *Janitor) see(gone map[string]store.Gone, now moment) {
	for id := range j.away {
		if _, still := gone[id]; !still {
			delete(j.away, id)
		}
	}
	for id, g := range gone {
		if a, seen := j.away[id]; !seen || !a.note.Since.Equal(g.Since) || a.note.By != g.By { // it was back meanwhile
			j.away[id] = absence{g, max(0, now.clock.Sub(g.Since)), now.up}
		}
	}
}

// collect removes records that have been needed by nothing for long enough. While something was found it looks at each turn.
func (j *Janitor) collect(ctx context.Context, now moment) error {
	pause := min(censusMost, censusGraces*j.opts.Grace)
	if len(j.found) > 0 {
		pause = 0
	}
	if j.censused && now.up-j.census < pause {
		return nil
	}
	if err := j.cluster.ReformHosts(ctx); err != nil {
		return err
	}
	all, err := j.cluster.Garbage(ctx)
	if err != nil {
		return err
	}
	j.censused, j.census = true, now.up
	var found []sighting
	var errs []error
	for _, g := range all {
		since := now.up
		if i := slices.IndexFunc(j.found, func(s sighting) bool { return s.Same(g) }); i >= 0 {
			since = j.found[i].since
		}
		if now.up-since < j.opts.Grace {
			found = append(found, sighting{g, since})
			continue
		}
		j.log.Warn("removing a record that nothing needs", "kind", g.Kind, "key", g.Key, "cause", g.Text)
		if err := g.Remove(ctx); err != nil {
			found = append(found, sighting{g, since})
			errs = append(errs, err)
		}
	}
	j.found = found
	return errors.Join(errs...)
}

// toldAfter is how long a host is away before the doctor mentions it: agents restart.
const toldAfter = 5 * time.Minute

// Leftovers tells an operator what nothing needs in the cluster's records, and which hosts are away, a line each. It lists all records.
func Leftovers(ctx context.Context, cluster *store.Cluster, members store.Membership, expiry, grace time.Duration) (found []string, err error) {
	garbage, err := cluster.Garbage(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range garbage {
		found = append(found, fmt.Sprintf("%s: %s (removed after %v)", g.Key, g.Text, grace))
	}
	gone, err := cluster.Gones(ctx)
	if err != nil {
		return nil, err
	}
	for id, g := range gone {
		away := time.Since(g.Since)
		if members.Alive[id] || away < min(toldAfter, expiry/2) {
			continue
		}
		found = append(found, fmt.Sprintf("the agent of host %s is away since %s (the host is removed after %v)",
			members.Hosts[id].Name, g.Since.Format(time.RFC3339), expiry))
	}
	slices.Sort(found)
	return found, nil
}
