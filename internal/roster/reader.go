package roster

import (
	"context"

	"github.com/socketplane/socketplane/store"
)

// reader follows the hosts of the second layout: it watches the shards' keys, and reads the heads of those that changed, and the records whose hashes differ. It is for one
// goroutine.
type reader struct {
	roster *Roster
	shards map[string]uint64 // the versions of what was read; nil when all is to be read
	hosts  map[string]known
}

// known is a host's record as it was read. head is the hash in the head by which it was read, "" if it was listed: a record that was changed by hand has another one.
type known struct {
	store.SeenHost
	head string
}

// watch returns the hosts when some have changed, nil if none has.
func (r *reader) watch(ctx context.Context, since uint64) (*store.Membership, uint64, error) {
	if since == 0 {
		r.shards = nil
	}
	shards, next, err := r.roster.cluster.WatchHostShards(ctx, since)
	if err == nil && next < since { // the store was restored
		r.shards = nil
	}
	var changed bool
	if err == nil {
		changed, err = r.take(ctx, shards)
	}
	if err != nil {
		r.shards = nil
		return nil, 0, err
	}
	if !changed {
		return nil, next, nil
	}
	members := store.Membership{Hosts: make(map[string]store.Host, len(r.hosts)), Alive: map[string]bool{}, Unreadable: map[string]error{}}
	for id, h := range r.hosts {
		members.Add(id, h.SeenHost)
	}
	return &members, next, nil
}

// take reads what has changed with the shards, and says whether hosts have.
func (r *reader) take(ctx context.Context, shards map[string]uint64) (changed bool, err error) {
	if r.shards == nil {
		if err := r.list(ctx); err != nil {
			return false, err
		}
		r.shards = shards
		return true, nil
	}
	moved := r.moved(shards)
	if len(moved) == 0 {
		return false, nil
	}
	heads, err := r.roster.cluster.HostHeads(ctx, moved)
	if err != nil {
		return false, err
	}
	want := r.differing(heads, moved)
	if err := r.read(ctx, want); err != nil {
		return false, err
	}
	r.shards = shards
	return len(want) > 0, nil
}

// moved are the shards that have changed since they were read. One that is gone has no hosts any more.
func (r *reader) moved(shards map[string]uint64) (moved []string) {
	for s, version := range shards {
		if r.shards[s] != version {
			moved = append(moved, s)
		}
	}
	for s := range r.shards {
		if shards[s] == 0 {
			moved = append(moved, s)
		}
	}
	return moved
}

// differing are the hosts of the shards whose records are to be read, with the hash in their heads: it is another one than that of what is known, or there is none any more.
func (r *reader) differing(heads map[string]string, shards []string) map[string]string {
	of := map[string]bool{}
	for _, s := range shards {
		of[s] = true
	}
	want := map[string]string{}
	for id, hash := range heads {
		if h := r.hosts[id]; hash != h.Hash && hash != h.head {
			want[id] = hash
		}
	}
	for id := range r.hosts {
		if _, there := heads[id]; !there && of[store.HostShardOf(id)] {
			want[id] = ""
		}
	}
	return want
}

// few is up to how many records are read one by one in a cluster of any size.
const few = 8

// read reads hosts' records, given with the hashes in their heads. Where these are many of all, all are listed.
func (r *reader) read(ctx context.Context, want map[string]string) error {
	if len(want) > few && len(want)*few > len(r.hosts) {
		return r.list(ctx)
	}
	found, err := r.roster.cluster.ReadHosts(ctx, want)
	if err != nil {
		return err
	}
	for id, hash := range want {
		if h, there := found[id]; there {
			r.hosts[id] = known{h, hash}
		} else {
			delete(r.hosts, id)
		}
	}
	return nil
}

// list reads all hosts' records.
func (r *reader) list(ctx context.Context) error {
	all, err := r.roster.cluster.AllHosts(ctx)
	if err != nil {
		return err
	}
	r.hosts = make(map[string]known, len(all))
	for id, h := range all {
		r.hosts[id] = known{SeenHost: h}
	}
	return nil
}
