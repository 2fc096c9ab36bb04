package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

const (
	// tidyMost is the longest pause between two looks at what nobody needs.
	tidyMost = time.Minute
	// tidyLimit bounds one look.
	tidyLimit = time.Minute
	// watchedFor is how long this agent itself must have seen a host away before it removes it, whatever clocks say.
	watchedFor = 10 * time.Minute
)

// janitor removes from the cluster's records what nobody needs: hosts that are gone for good, and what is left of anything. One
// host at a time does it, the first of those that are alive; if two do, nothing happens twice.
type janitor struct {
	cluster       *store.Cluster
	expiry, grace time.Duration
	// remove removes a host's records, which not every member of a cluster may do itself.
	remove func(ctx context.Context, id string) error
	log    *slog.Logger

	away  map[string]absence // by host
	found []sighting
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

func newJanitor(c *store.Cluster, expiry, grace time.Duration, log *slog.Logger) *janitor {
	return &janitor{cluster: c, expiry: expiry, grace: grace, remove: c.RemoveHost, log: log, away: map[string]absence{}}
}

// run tidies until ctx ends.
func (j *janitor) run(ctx context.Context) error {
	every := min(tidyMost, j.grace/4)
	if j.expiry > 0 {
		every = min(every, j.expiry/4)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	began := time.Now()
	trouble := retry.Trouble{Logger: j.log, Level: slog.LevelWarn, Text: "what nobody needs can't be removed from the store at the moment"}
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

// tidy looks once.
func (j *janitor) tidy(ctx context.Context, now moment) error {
	mine, err := j.mine(ctx)
	if err != nil || !mine {
		clear(j.away)
		j.found = nil
		return err
	}
	return errors.Join(j.expire(ctx, now), j.collect(ctx, now))
}

// mine says whether this host is the one that tidies.
func (j *janitor) mine(ctx context.Context) (bool, error) {
	members, err := j.cluster.Hosts(ctx)
	if err != nil {
		return false, err
	}
	for id := range members.Alive {
		if members.Known(id) && id < j.cluster.Host() {
			return false, nil
		}
	}
	return members.Alive[j.cluster.Host()], nil
}

// expire removes hosts whose agents have been away for too long.
func (j *janitor) expire(ctx context.Context, now moment) error {
	if j.expiry == 0 {
		return nil
	}
	gone, err := j.cluster.NoteGone(ctx, now.clock)
	if err != nil {
		return err
	}
	j.see(gone, now)
	var errs []error
	for id, g := range gone {
		a := j.away[id]
		watched := now.up - a.since
		if a.before+watched < j.expiry || watched < min(j.expiry/2, watchedFor) {
			continue
		}
		j.log.Warn("removing a host whose agent has been away for too long: its addresses and networks are free; it may come back as a new one",
			"host", j.cluster.OwnerName(ctx, store.HostOwner(id)), "id", id, "since", g.Since, "limit", j.expiry)
		err := j.remove(ctx, id)
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) { // else it is back, or another was faster
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// see notes which hosts are away. What a note says of the time before is asked of the clock only once: a clock that is set later changes nothing.
func (j *janitor) see(gone map[string]store.Gone, now moment) {
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

// collect removes records that have been needed by nothing for long enough.
func (j *janitor) collect(ctx context.Context, now moment) error {
	all, err := j.cluster.Garbage(ctx)
	if err != nil {
		return err
	}
	var found []sighting
	var errs []error
	for _, g := range all {
		since := now.up
		if i := slices.IndexFunc(j.found, func(s sighting) bool { return s.Same(g) }); i >= 0 {
			since = j.found[i].since
		}
		if now.up-since < j.grace {
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

// leftovers tells the doctor what nothing needs, and which hosts are away.
func (a *agent) leftovers(ctx context.Context, members store.Membership) (found []string, err error) {
	garbage, err := a.cluster.Garbage(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range garbage {
		found = append(found, fmt.Sprintf("%s: %s (removed after %v)", g.Key, g.Text, a.cfg.GarbageGrace))
	}
	gone, err := a.cluster.Gones(ctx)
	if err != nil {
		return nil, err
	}
	for id, g := range gone {
		away := time.Since(g.Since)
		if members.Alive[id] || away < min(toldAfter, a.cfg.HostExpiry/2) {
			continue
		}
		found = append(found, fmt.Sprintf("the agent of host %s is away since %s (the host is removed after %v)",
			members.Hosts[id].Name, g.Since.Format(time.RFC3339), a.cfg.HostExpiry))
	}
	slices.Sort(found)
	return found, nil
}
