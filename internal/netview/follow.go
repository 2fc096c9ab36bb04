package netview

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// sightings are the versions of the hosts' records that were read last, by host.
type sightings struct {
	versions map[string]uint64
	// unreadable are the hosts whose record at that version this agent can't read, because a newer agent wrote it or another program changed it, and why.
	unreadable map[string]error
}

func newSightings() sightings { return sightings{map[string]uint64{}, map[string]error{}} }

func (s sightings) forget(host string) {
	delete(s.versions, host)
	delete(s.unreadable, host)
}

// watchPeers keeps the network's peers as the store has them, until ctx ends.
func (v *View) watchPeers(ctx context.Context, t *table, w *watch) {
	known := false
	tell := func() {
		if !known {
			close(w.known)
			known = true
		}
	}
	defer tell() // they never will be
	wait, end := v.indexes.begin(t.id)
	defer end()
	var index uint64
	seen := newSightings()
	unreadable := retry.Trouble{Logger: v.log, Level: slog.LevelWarn, Text: "records of other hosts' containers can't be read; what was known of these hosts stays"}
	loop := v.newLoop("peers can't be read or written to this host's disk; the last known stay")
	for ctx.Err() == nil {
		versions, next, err := wait(ctx, index)
		if err == nil {
			err = v.readPeers(ctx, t, w, versions, seen, tell)
			unreadable.Note(errors.Join(slices.Collect(maps.Values(seen.unreadable))...), "network", t.id)
		}
		if err == nil {
			index = next
			loop.Works()
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errNotKept) {
			index = next
			err = v.keep(ctx, t, w, loop, err)
		}
		if err != nil {
			index = 0 // read everything again when it works: the store may be another one
			seen = newSightings()
			loop.Fails(ctx, err, "network", t.id)
		}
	}
}

// keep tries again to write to this host's own store what is known, until it works.
func (v *View) keep(ctx context.Context, t *table, w *watch, loop *retry.Loop, err error) error {
	for err != nil && ctx.Err() == nil {
		loop.Fails(ctx, err, "network", t.id)
		err = t.stored.update(ctx, nil, nil, v.current(t, w))
	}
	return err
}

// current says whether a watch is still the network's.
func (v *View) current(t *table, w *watch) func() bool {
	return func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return t.watch == w
	}
}

// readPeers fetches the records of the hosts whose version changed, and calls known when they are in the table. A record that can't be read does not delay the others.
func (v *View) readPeers(ctx context.Context, t *table, w *watch, versions map[string]uint64, seen sightings, known func()) error {
	v.noteOwn(t, versions[v.cluster.Host()])
	delete(versions, v.cluster.Host())
	fresh := map[string]store.Endpoints{}
	for host, version := range versions {
		if seen.versions[host] == version {
			continue
		}
		r, err := v.cluster.EndpointsAt(ctx, t.id, host, version)
		delete(seen.unreadable, host)
		switch {
		case errors.Is(err, store.ErrInvalid):
			seen.versions[host], seen.unreadable[host] = version, err
		case err != nil:
			return err
		case r.Host != "": // else it has just gone, and so will its version
			fresh[host] = r
		}
	}
	gone := v.take(t, w, fresh, versions)
	for host := range seen.versions {
		if _, there := versions[host]; !there {
			seen.forget(host)
		}
	}
	for host := range fresh {
		seen.versions[host] = versions[host]
	}
	// First the consumers, for they are waited for; the copy only matters after a restart.
	known()
	set := map[string]copied{}
	for host, r := range fresh {
		set[store.LocalPeerKey(t.id, host)] = copied{r.Revision, r}
	}
	for i, host := range gone {
		gone[i] = store.LocalPeerKey(t.id, host)
	}
	return t.stored.update(ctx, set, gone, v.current(t, w))
}

// take takes over what was read of other hosts, and returns those that are gone. Records are parsed before the table is locked.
func (v *View) take(t *table, w *watch, fresh map[string]store.Endpoints, versions map[string]uint64) (gone []string) {
	parsed := make(map[string][]Endpoint, len(fresh))
	for host, r := range fresh {
		parsed[host] = parse(r.Endpoints)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if t.watch != w { // the watch was ended meanwhile
		return nil
	}
	for host := range t.peers {
		if _, there := versions[host]; !there {
			gone = append(gone, host)
			v.remote -= t.set(host, nil)
		}
	}
	for host, endpoints := range parsed {
		v.remote += len(endpoints) - t.set(host, endpoints)
	}
	return gone
}
