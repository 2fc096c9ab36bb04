package store

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// Endpoints reads one host's endpoints on a network with their labels, whatever form they have;
// none is no error.
func (c EndpointRecords) Endpoints(ctx context.Context, network, host string) (Endpoints, error) {
	of := NewCluster(c.kv, host)
	p, err := of.Published(ctx, network)
	if err == nil && p.none() { // it may have changed the form of its records between the two reads
		p, err = of.Published(ctx, network)
	}
	if err != nil || p.none() {
		return Endpoints{}, err
	}
	return Endpoints{Schema: Schema, Network: network, Host: host, Revision: p.revision, Endpoints: p.Endpoints()}, nil
}

// EndpointsAt reads one host's Endpoints in the form of the first layout, not older than a version
// of the host's index, which is written with them. A leader that stood still and was deposed
// meanwhile answers single reads from what it knew, for a moment, and the watch would not fire again.
func (c EndpointRecords) EndpointsAt(ctx context.Context, network, host string, index uint64) (Endpoints, error) {
	key := EndpointsKey(network, host)
	e, version, err := find[Endpoints](ctx, c.kv, key)
	if err != nil || version >= index && version != 0 {
		return e, err
	}
	e = Endpoints{}
	err = list(ctx, c.kv, key, func(at Entry, r Endpoints) { // lists are never old
		if at.Key == key {
			e = r
		}
	})
	return e, err
}

// labels reads labels under a prefix, by endpoint.
func (c *core) labels(ctx context.Context, prefix string) (map[string]map[string]string, error) {
	all := map[string]map[string]string{}
	err := list(ctx, c.kv, prefix, func(_ Entry, r labelsRecord) {
		for endpoint, its := range r.Labels {
			all[endpoint] = its
		}
	})
	return all, err
}

// Users lists the hosts that have published endpoints on a network, sorted. One that changes the
// form of its records meanwhile is not missed: heads are listed before and after the index.
func (c EndpointRecords) Users(ctx context.Context, network string) ([]string, error) {
	var users []string
	for _, prefix := range []string{HeadsOf(network), IndexPrefix(network), HeadsOf(network)} {
		entries, err := c.kv.List(ctx, prefix)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			users = append(users, Last(e.Key))
		}
	}
	slices.Sort(users)
	return slices.Compact(users), nil
}

// WatchIndexes is KV.Watch for the indexes of the networks whose ids begin with a prefix: by
// network, the version of each host's endpoints that have the form of the first layout.
func (c EndpointRecords) WatchIndexes(ctx context.Context, prefix string, since uint64) (map[string]map[string]uint64, uint64, error) {
	entries, index, err := c.kv.Watch(ctx, IndexesPrefix+prefix, since)
	return byNetwork(IndexesPrefix, entries), index, err
}

// WatchShards is KV.Watch for the shards of the networks whose ids begin with a prefix: by network,
// the version of each. Where nothing is there yet and the layout is the second, it writes the key
// that keeps the prefix from being empty, for the network keep, which is one of those; "" is none.
func (c EndpointRecords) WatchShards(ctx context.Context, prefix, keep string, since uint64) (map[string]map[string]uint64, uint64, error) {
	entries, index, err := c.kv.Watch(ctx, ShardsPrefix+prefix, since)
	if err == nil && len(entries) == 0 && keep != "" {
		err = c.keepShards(ctx, keep)
	}
	if err != nil {
		return nil, 0, err
	}
	return byNetwork(ShardsPrefix, entries), index, nil
}

func (c *core) watchOne(ctx context.Context, prefix string, since uint64) (map[string]uint64, uint64, error) {
	entries, index, err := c.kv.Watch(ctx, prefix, since)
	if err != nil {
		return nil, 0, err
	}
	return versionsOf(entries), index, nil
}

func versionsOf(entries []Entry) map[string]uint64 {
	versions := make(map[string]uint64, len(entries))
	for _, e := range dropPermanent(entries) {
		versions[Last(e.Key)] = e.Version
	}
	return versions
}

// byNetwork are the versions of keys below networks' ids.
func byNetwork(prefix string, entries []Entry) map[string]map[string]uint64 {
	all := map[string]map[string]uint64{}
	for _, e := range dropPermanent(entries) {
		network, last, _ := strings.Cut(strings.TrimPrefix(e.Key, prefix), "/")
		if all[network] == nil {
			all[network] = map[string]uint64{}
		}
		all[network][last] = e.Version
	}
	return all
}

// keepShards writes the permanent key of a network's shards, if the layout is the second and this
// host has the network.
func (c *core) keepShards(ctx context.Context, network string) error {
	err := c.change(ctx, func() ([]Op, error) {
		m, err := c.mark(ctx)
		if err != nil || !m.apart() {
			return nil, err
		}
		bound, err := c.boundOps(ctx, m, network)
		if err != nil {
			return nil, err
		}
		return append(bound, permanentOp(ShardsOf(network))), nil
	})
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrInvalid) { // the network is gone, or can't be read: that is another one's trouble
		return nil
	}
	return err
}

// Heads lists the heads of a network's shards, of all its shards if none is named: by host, and
// apart why some can't be read. Those of which the reader knows this version are not decoded: of
// some tens of a shard, one has changed. known may be nil.
func (c EndpointRecords) Heads(ctx context.Context, network string, known func(host string) (version uint64), shards ...string) (
	map[string]Head, map[string]error, error,
) {
	prefixes := []string{HeadsOf(network)}
	if len(shards) > 0 {
		prefixes = prefixes[:0]
		for _, s := range shards {
			prefixes = append(prefixes, HeadsOf(network)+s+"/")
		}
	}
	heads, unreadable := map[string]Head{}, map[string]error{}
	for _, prefix := range prefixes {
		entries, err := c.kv.List(ctx, prefix)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range entries {
			host := Last(e.Key)
			if HeadKey(network, host) != e.Key {
				continue // in another shard than its own, where no agent writes or looks for it
			}
			if known != nil && known(host) == e.Version {
				heads[host] = Head{Version: e.Version}
				continue
			}
			if heads[host], err = DecodeHead(e); err != nil {
				delete(heads, host)
				unreadable[host] = err
			}
		}
	}
	return heads, unreadable, nil
}

// Parts reads some parts of a host's endpoints on a network, by number; one that is not there any
// more is left out. Parts that differ from the head are newer than it; they are never older.
// Records that can't be read are apart.
func (c EndpointRecords) Parts(ctx context.Context, network, host string, head Head, want []int) (map[int]Part, map[int]error, error) {
	r := partReader{map[int]Part{}, map[int]error{}}
	if 2*len(want) > len(head.Parts) && len(want) > 1 {
		entries, err := c.kv.List(ctx, PartsOf(network, host))
		for _, e := range entries {
			if _, n, bad := partOfKey(e.Key); bad == nil && slices.Contains(want, n) {
				r.take(n, e)
			}
		}
		return r.parts, r.unreadable, err
	}
	for _, n := range want {
		key := PartKey(network, host, n)
		e, err := c.kv.Get(ctx, key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, nil, err
		}
		if err == nil && n < len(head.Parts) && hashOf(e.Value) == head.Parts[n] {
			r.take(n, e)
			continue
		}
		// Newer than the head, or of a leader that was deposed and does not know it yet: lists are
		// never old.
		entries, err := c.kv.List(ctx, key)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range entries {
			if e.Key == key {
				r.take(n, e)
			}
		}
	}
	return r.parts, r.unreadable, nil
}

type partReader struct {
	parts      map[int]Part
	unreadable map[int]error
}

func (r partReader) take(n int, e Entry) {
	if p, err := DecodePart(e); err != nil {
		r.unreadable[n] = err
	} else {
		r.parts[n] = p
	}
}

// Changed are the numbers of the parts whose hashes are not those that are known, and of those that
// are known and are not there any more.
func (h Head) Changed(known []string) (changed, gone []int) {
	for n := range max(len(h.Parts), len(known)) {
		switch now := h.at(n); {
		case now == (Head{Parts: known}).at(n):
		case now == "":
			gone = append(gone, n)
		default:
			changed = append(changed, n)
		}
	}
	return changed, gone
}

// at is the hash of a part, "" if the head has none.
func (h Head) at(n int) string {
	if n < len(h.Parts) {
		return h.Parts[n]
	}
	return ""
}
