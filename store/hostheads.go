package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
)

// In the second layout the hosts' records are not watched: a host that changes its record would make all agents read all of them. The hash of each host's record is in its
// shard's heads, one record for each of HostShards shards, and a shard's key changes with each hash. An agent watches the shards' keys, reads the heads of those that
// changed, and the records whose hashes it does not have. In the first layout there are neither: agents of before do not write them.
const (
	// HostShardsPrefix is the prefix of the hosts' shards. This is what is watched.
	HostShardsPrefix = Root + "hostshards/"
	// HostHeadsPrefix is the prefix of the shards' heads.
	HostHeadsPrefix = Root + "hostheads/"
)

// HostShards is how many shards the hosts' heads are in. With 1,000 hosts a change of one is read as 17 small keys and the hashes of 63 hosts, 30 bytes each. They are fewer than
// a network's shards, as heads are one record: hosts that change theirs at once are compared.
const HostShards = 16

// HostShardOf is the shard in which a host's head is: a hexadecimal digit. It depends on the id only and never changes.
func HostShardOf(host string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(host)) // never fails
	return fmt.Sprintf("%x", h.Sum32()%HostShards)
}

// HostShardKey changes with the heads of a shard.
func HostShardKey(shard string) string { return HostShardsPrefix + shard }

// HostHeadsKey is the key of a shard's heads.
func HostHeadsKey(shard string) string { return HostHeadsPrefix + shard }

// hostHeads is the record at HostHeadsKey: the hash of each host's record, by id.
type hostHeads struct {
	Schema int               `json:"schema"`
	Hashes map[string]string `json:"h"`
}

// SeenHost is a host's record as it was read.
type SeenHost struct {
	Host Host
	// Hash is that of its stored form.
	Hash string
	// Err is why it can't be read.
	Err error
}

// hostOps are the operations that go with a host's record of this value, nil for its removal: they keep its head true, and make the transaction fail if the layout changes meanwhile.
func (c *core) hostOps(ctx context.Context, id string, value []byte) ([]Op, error) {
	layout, same, err := c.layout(ctx)
	if err != nil || layout == FirstLayout {
		return []Op{same}, err
	}
	shard, hash := HostShardOf(id), ""
	if value != nil {
		hash = hashOf(value)
	}
	heads, version, err := find[hostHeads](ctx, c.kv, HostHeadsKey(shard))
	byHand := errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNewer)
	if byHand {
		heads, version, err = c.newHeads(ctx, shard)
	}
	switch {
	case err != nil:
		return nil, err
	case heads.Hashes[id] == hash && !byHand:
		// Others may know another record: a conversion that is not over has not written its head yet, or has left it.
		return []Op{same, {Kind: OpCheck, Key: HostHeadsKey(shard), Version: version}, shardMoves(shard)}, nil
	case hash == "":
		delete(heads.Hashes, id)
	default:
		heads.set(id, hash)
	}
	return append(headsOps(shard, heads, version), same), nil
}

func (h *hostHeads) set(id, hash string) {
	if h.Hashes == nil {
		h.Hashes = map[string]string{}
	}
	h.Hashes[id] = hash
}

// headsOps write a shard's heads over the version that was read.
func headsOps(shard string, heads hostHeads, version uint64) []Op {
	heads.Schema = Schema
	op := Op{Kind: OpSet, Key: HostHeadsKey(shard), Value: Encode(heads), Version: version}
	if len(heads.Hashes) == 0 {
		if op = (Op{Kind: OpDelete, Key: HostHeadsKey(shard), Version: version}); version == 0 {
			op.Kind = OpCheck
		}
	}
	return []Op{op, shardMoves(shard)}
}

// shardMoves makes those who watch the hosts read a shard's heads.
func shardMoves(shard string) Op {
	return Op{Kind: OpPut, Key: HostShardKey(shard), Value: []byte(NewNonce()[:hashText])}
}

// newHeads makes a shard's heads of the hosts' records. It returns the version of what is there.
func (c *core) newHeads(ctx context.Context, shard string) (hostHeads, uint64, error) {
	versions, err := c.headVersions(ctx)
	if err != nil {
		return hostHeads{}, 0, err
	}
	all, err := c.allHeads(ctx)
	return all[shard], versions[shard].Version, err
}

// headVersions are the records of the shards' heads as they are.
func (c *core) headVersions(ctx context.Context) (map[string]Entry, error) {
	entries, err := c.kv.List(ctx, HostHeadsPrefix)
	there := map[string]Entry{}
	for _, e := range entries {
		there[Last(e.Key)] = e
	}
	return there, err
}

// allHeads makes all shards' heads of the hosts' records.
func (c *core) allHeads(ctx context.Context) (map[string]hostHeads, error) {
	hosts, err := c.hosts().AllHosts(ctx)
	all := map[string]hostHeads{}
	for id, h := range hosts {
		heads := all[HostShardOf(id)]
		heads.set(id, h.Hash)
		all[HostShardOf(id)] = heads
	}
	return all, err
}

// ReformHosts makes the heads of hosts equal to their records, also where these were restored or changed by hand. It can be repeated.
func (c LayoutRecord) ReformHosts(ctx context.Context) error {
	return c.settled(ctx, func() error { return c.reformHosts(ctx) })
}

// reformHosts makes the heads equal to the hosts' records in the second layout, and removes them in the first. ErrConflict says that a host changed its record meanwhile, or the
// layout was changed. Heads are listed before records: what a host writes afterwards meets the version of its shard's heads.
func (c *core) reformHosts(ctx context.Context) error {
	m, err := c.mark(ctx)
	if err != nil {
		return err
	}
	if !m.apart() {
		return errors.Join(c.clear(ctx, HostHeadsPrefix, m), c.clear(ctx, HostShardsPrefix, m))
	}
	there, err := c.headVersions(ctx)
	if err != nil {
		return err
	}
	want, err := c.allHeads(ctx)
	if err != nil {
		return err
	}
	var ops []Op
	for i := range HostShards {
		shard := fmt.Sprintf("%x", i)
		have, err := Decode[hostHeads](there[shard])
		switch {
		case errors.Is(err, ErrNewer):
			return err
		case there[shard].Version == 0 && len(want[shard].Hashes) == 0, err == nil && there[shard].Version != 0 && maps.Equal(have.Hashes, want[shard].Hashes):
		default:
			ops = append(ops, headsOps(shard, want[shard], there[shard].Version)...)
		}
	}
	for _, chunk := range Chunks(ops, m.check) {
		if err := c.kv.Apply(ctx, chunk...); err != nil {
			return err
		}
	}
	return nil
}

// AllHosts lists the hosts' records, by id.
func (c HostRecords) AllHosts(ctx context.Context) (map[string]SeenHost, error) {
	entries, err := c.kv.List(ctx, HostsPrefix)
	if err != nil {
		return nil, err
	}
	all := make(map[string]SeenHost, len(entries))
	for _, e := range entries {
		if _, alive := aliveHost(e.Key); !alive && !isPermanent(e.Key) {
			all[Last(e.Key)] = seenHost(e)
		}
	}
	return all, nil
}

func seenHost(e Entry) SeenHost {
	h, err := Decode[Host](e)
	if id := Last(e.Key); err == nil && h.ID != id {
		err = fmt.Errorf("%w: record %s says that it is of host %q", ErrInvalid, e.Key, h.ID)
	}
	return SeenHost{h, hashOf(e.Value), err}
}

// WatchHostShards is KV.Watch for the hosts' shards: the version of each.
func (c HostRecords) WatchHostShards(ctx context.Context, since uint64) (map[string]uint64, uint64, error) {
	return c.watchOne(ctx, HostShardsPrefix, since)
}

// HostHeads reads the heads of some shards: the hash of each host's record, by id. It lists, as a leader that was deposed may answer single reads from what it knew.
// Heads that can't be read are none, so that the hosts' records are looked for.
func (c HostRecords) HostHeads(ctx context.Context, shards []string) (map[string]string, error) {
	prefixes := []string{HostHeadsPrefix}
	if 2*len(shards) < HostShards {
		prefixes = prefixes[:0]
		for _, s := range shards {
			prefixes = append(prefixes, HostHeadsKey(s))
		}
	}
	all := map[string]string{}
	for _, prefix := range prefixes {
		entries, err := c.kv.List(ctx, prefix)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			heads, err := Decode[hostHeads](e)
			if shard := Last(e.Key); err == nil && slices.Contains(shards, shard) {
				maps.Copy(all, heads.Hashes)
			}
		}
	}
	maps.DeleteFunc(all, func(id, _ string) bool {
		return !slices.Contains(shards, HostShardOf(id)) || ValidKey(HostKey(id)) != nil
	})
	return all, nil
}

// ReadHosts reads the records of some hosts, given with their hashes, "" where there is none any more. A record that differs from its hash is newer: it is never
// older. One that is not there is left out.
func (c HostRecords) ReadHosts(ctx context.Context, want map[string]string) (map[string]SeenHost, error) {
	found := map[string]SeenHost{}
	for id, hash := range want {
		key := HostKey(id)
		if hash != "" {
			e, err := c.kv.Get(ctx, key)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return nil, err
			}
			if err == nil && hashOf(e.Value) == hash {
				found[id] = seenHost(e)
				continue
			}
		}
		// Newer than the head, gone, or of a leader that was deposed: lists are never old.
		entries, err := c.kv.List(ctx, key)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Key == key {
				found[id] = seenHost(e)
			}
		}
	}
	return found, nil
}
