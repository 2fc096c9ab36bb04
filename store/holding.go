package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// poolRecord is the stored form of a pool.
type poolRecord struct {
	Pool
	// Holders hold the pool through our IPAM, in the first layout: hosts, or Swarm.
	Holders []Owner `json:"hosts,omitempty"`
}

// holderRecord is what lies at HolderKey.
type holderRecord struct {
	Schema int `json:"schema"`
}

// holding is a pool as a change reads and writes it: in the form of the cluster's layout. In the second one who begins or ends to hold it writes a key of its
// own only.
type holding struct {
	poolRecord
	mark
	version uint64 // of the record; 0 if there is none
	// changed says that the record is to be written; keys are writes of holders beside it.
	changed bool
	keys    []Op
	// unused says that it has no holder and no network is to use it: it is removed.
	unused bool
}

// holding reads a pool. A record in the form of another layout is brought into that of the cluster's first, and ErrConflict is returned: change decides again
// then. Where there is no record it is one that could be made.
func (c *core) holding(ctx context.Context, cidr netip.Prefix) (holding, error) {
	m, err := c.mark(ctx)
	if err != nil {
		return holding{mark: m}, err
	}
	return c.holdingIn(ctx, m, cidr)
}

// holdingIn is holding where the layout has been read already.
func (c *core) holdingIn(ctx context.Context, m mark, cidr netip.Prefix) (holding, error) {
	h := holding{mark: m}
	var err error
	if h.poolRecord, h.version, err = find[poolRecord](ctx, c.kv, PoolKey(cidr)); err != nil {
		return h, err
	}
	if h.version == 0 {
		h.Pool = Pool{Schema: h.schema(), CIDR: cidr}
		return h, nil
	}
	if apart(h.Schema) != h.apart() {
		if err := c.reformPool(ctx, cidr); err != nil {
			return h, err
		}
		return h, errReformed(PoolKey(cidr))
	}
	return h, nil
}

// hold makes the owner one of the holders.
func (h *holding) hold(o Owner) {
	if h.apart() {
		h.keys = append(h.keys, Op{Kind: OpPut, Key: HolderKey(h.CIDR, o), Value: Encode(holderRecord{Schema})})
		return
	}
	if !slices.Contains(h.Holders, o) {
		h.Holders, h.changed = append(slices.Clone(h.Holders), o), true
	}
}

// leave ends the hold of the owner.
func (h *holding) leave(o Owner) {
	if h.apart() {
		h.keys = append(h.keys, Op{Kind: OpRemove, Key: HolderKey(h.CIDR, o)})
		return
	}
	h.Holders, h.changed = without(h.Holders, o), true
}

// reopen takes back what a host that removes the pool has noted.
func (h *holding) reopen() {
	if h.State == Closing {
		h.State, h.changed = Active, true
	}
}

// ops write what has changed, and fail if the record or the layout has meanwhile.
func (h holding) ops() []Op {
	ops := []Op{h.check, {Kind: OpCheck, Key: PoolKey(h.CIDR), Version: h.version}}
	if h.changed || h.version == 0 {
		ops[1] = setPool(h.poolRecord, h.version)
	}
	return append(ops, h.keys...)
}

// heldBy says whether the owner holds a pool whose record is r.
func (c *core) heldBy(ctx context.Context, r poolRecord, o Owner) (bool, error) {
	if !apart(r.Schema) {
		return slices.Contains(r.Holders, o), nil
	}
	_, err := c.kv.Get(ctx, HolderKey(r.CIDR, o))
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// holdsNow is heldBy for a change that does nothing if the owner does not hold the pool: no transaction says then that this was true. ErrConflict says that the record
// has changed in between.
func (c *core) holdsNow(ctx context.Context, h holding, o Owner) (bool, error) {
	held, err := c.heldBy(ctx, h.poolRecord, o)
	if err != nil || held || !h.apart() {
		return held, err
	}
	if same, err := c.same(ctx, PoolKey(h.CIDR), h.version); err != nil || !same {
		return false, cmp.Or(err, errReformed(PoolKey(h.CIDR)))
	}
	return false, nil
}

// readHolders are the holders of a pool whose record is r, sorted.
func (c *core) readHolders(ctx context.Context, r poolRecord) ([]Owner, error) {
	if !apart(r.Schema) {
		return slices.SortedFunc(slices.Values(r.Holders), Owner.Compare), nil
	}
	entries, err := c.kv.List(ctx, holdersOf(r.CIDR))
	if err != nil {
		return nil, err
	}
	var all []Owner
	for _, e := range entries {
		o, err := ParseOwner(Last(e.Key))
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

// Holds says whether this host, or Swarm for [Cluster.ForSwarm], holds the pool through IPAM.
func (c PoolRecords) Holds(ctx context.Context, cidr netip.Prefix) (bool, error) {
	for range rereads {
		r, version, err := find[poolRecord](ctx, c.kv, PoolKey(cidr))
		if err != nil || version == 0 {
			return false, err
		}
		held, err := c.heldBy(ctx, r, c.owner)
		if err != nil || held || !apart(r.Schema) {
			return held, err
		}
		if same, err := c.same(ctx, PoolKey(cidr), version); err != nil || same {
			return false, err
		}
	}
	return false, errRestless(PoolKey(cidr))
}

// Holders are the owners that hold the pool through IPAM, sorted; none if there is no such pool.
func (c PoolRecords) Holders(ctx context.Context, cidr netip.Prefix) ([]Owner, error) {
	for range rereads {
		r, version, err := find[poolRecord](ctx, c.kv, PoolKey(cidr))
		if err != nil || version == 0 {
			return nil, err
		}
		all, err := c.readHolders(ctx, r)
		if err != nil || !apart(r.Schema) {
			return all, err
		}
		if same, err := c.same(ctx, PoolKey(cidr), version); err != nil || same {
			return all, err
		}
	}
	return nil, errRestless(PoolKey(cidr))
}

// OwnPool is a pool and whether this host, or Swarm for [Cluster.ForSwarm], holds it.
type OwnPool struct {
	Pool
	Held bool
}

// OwnPools lists all pools with this host's holds, without those whose records can't be read. It reads one key more for each pool, whatever the number of hosts.
func (c PoolRecords) OwnPools(ctx context.Context) ([]OwnPool, error) {
	records, _, err := c.poolRecords(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]OwnPool, len(records))
	for i, r := range records {
		held, err := c.heldBy(ctx, r, c.owner)
		if err != nil {
			return nil, err
		}
		all[i] = OwnPool{r.Pool, held}
	}
	return all, nil
}

// poolRecords lists the records of all pools, and apart those that can't be read.
func (c *core) poolRecords(ctx context.Context) ([]poolRecord, Unreadable, error) {
	var records []poolRecord
	unread, err := listKnown(ctx, c.kv, PoolsPrefix, func(e Entry, r poolRecord) error {
		if PoolKey(r.CIDR) != e.Key {
			return fmt.Errorf("%w: record %s says that it is of subnet %s", ErrInvalid, e.Key, r.CIDR)
		}
		records = append(records, r)
		return nil
	})
	return records, unread, err
}

// unheld says whether the pool has no holder, so that this stays true or the record changes. It returns the record as it is then: see [Cluster.unbound].
func (c *core) unheld(ctx context.Context, h holding) (holding, bool, error) {
	holders, err := c.readHolders(ctx, h.poolRecord)
	if err != nil || len(holders) > 0 || !h.apart() || h.State == Closing {
		return h, err == nil && len(holders) == 0, err
	}
	next := h
	next.State, next.changed = Closing, true
	if err := c.kv.Apply(ctx, next.ops()...); err != nil {
		return h, false, err
	}
	now, err := c.holding(ctx, h.CIDR)
	if err != nil {
		return h, false, err
	}
	if now.version == 0 || now.State != Closing || now.Network != h.Network {
		return h, false, fmt.Errorf("%w: another host uses or removes subnet %s", ErrConflict, h.CIDR)
	}
	holders, err = c.readHolders(ctx, now.poolRecord)
	return now, err == nil && len(holders) == 0, err
}

// endPool removes a pool that no network uses and that has no holder. gone is a network that is not there, though the pool's record may name it; empty for none. It can
// be repeated, by any host.
func (c *core) endPool(ctx context.Context, cidr netip.Prefix, gone string) error {
	return c.change(ctx, func() ([]Op, error) {
		h, err := c.holding(ctx, cidr)
		if err != nil || h.version == 0 || h.Network != "" && h.Network != gone {
			return nil, err
		}
		var guards []Op
		if h.Network != "" {
			guards = []Op{{Kind: OpCheck, Key: NetworkKey(gone)}}
		}
		h, empty, err := c.unheld(ctx, h)
		switch {
		case err != nil:
			return nil, err
		case !empty && h.State == Closing:
			h.reopen()
			return h.ops(), nil
		case !empty:
			return nil, nil
		}
		h.Network, h.unused = "", true
		ops, err := c.leavePools(ctx, guards, h)
		return slices.Concat(guards, []Op{h.check}, ops), err
	})
}

// ignoreConflict makes it no error that another host was faster.
func ignoreConflict(err error) error {
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}
