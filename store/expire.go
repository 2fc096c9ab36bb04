package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// GonePrefix is where it is noted since when agents are not alive.
const GonePrefix = Root + "gone/"

// GoneKey is the key of a Gone.
func GoneKey(id string) string { return GonePrefix + id }

// Gone says since when a host's agent is not alive. It is there so that the time counts on when those who look restart.
type Gone struct {
	Schema int       `json:"schema"`
	ID     string    `json:"id"`
	Since  time.Time `json:"since"`
	// By is the host by whose clock that is.
	By string `json:"by"`
}

// NoteGone notes which hosts are not alive at this moment, and forgets it of those that are. It returns the
// notes of the hosts that are not; one may do this for all. The host that looks is alive, whatever is said of it.
func (c HostRecords) NoteGone(ctx context.Context, now time.Time) (map[string]Gone, error) {
	members, err := c.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	noted := map[string]Gone{}
	versions := map[string]uint64{}
	_, err = listKnown(ctx, c.kv, GonePrefix, func(e Entry, g Gone) error {
		noted[g.ID], versions[g.ID] = g, e.Version
		return nil
	})
	if err != nil {
		return nil, err
	}
	var errs []error
	for id := range noted {
		if !members.Known(id) || members.Alive[id] || id == c.host {
			delete(noted, id)
			errs = append(errs, c.kv.Apply(ctx, Op{Kind: OpDelete, Key: GoneKey(id), Version: versions[id]}))
		}
	}
	for _, id := range slices.Concat(slices.Collect(maps.Keys(members.Hosts)), slices.Collect(maps.Keys(members.Unreadable))) {
		if _, already := noted[id]; already || members.Alive[id] || id == c.host {
			continue
		}
		g := Gone{Schema: Schema, ID: id, Since: now.UTC(), By: c.host}
		err := c.kv.Apply(ctx, append(notAlive(id), Op{Kind: OpSet, Key: GoneKey(id), Value: Encode(g)})...)
		if err == nil {
			noted[id] = g
		}
		errs = append(errs, err)
	}
	for i, err := range errs {
		if errors.Is(err, ErrConflict) { // it has come back, or another host was faster
			errs[i] = nil
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("note which hosts are gone: %w", err)
	}
	return noted, nil
}

// Gones lists the notes of hosts that are not alive.
func (c HostRecords) Gones(ctx context.Context) (map[string]Gone, error) {
	noted := map[string]Gone{}
	_, err := listKnown(ctx, c.kv, GonePrefix, func(_ Entry, g Gone) error {
		noted[g.ID] = g
		return nil
	})
	return noted, err
}
