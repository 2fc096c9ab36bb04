package store

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

// Pool returns the record of a pool, or ErrNotFound.
func (c PoolRecords) Pool(ctx context.Context, cidr netip.Prefix) (Pool, error) {
	p, version, err := find[Pool](ctx, c.kv, PoolKey(cidr))
	if err == nil && version == 0 {
		err = fmt.Errorf("%w: subnet %s is not known to the cluster", ErrNotFound, cidr)
	}
	return p, err
}

// Pools lists the pools of the cluster, without those whose records can't be read, which [PoolRecords.AllPools] tells.
func (c PoolRecords) Pools(ctx context.Context) ([]Pool, error) {
	pools, _, err := c.AllPools(ctx)
	return pools, err
}

// AcquirePool makes this host a holder of the pool, which is made when it does not
// exist. It returns ErrOverlap when it overlaps another pool.
func (c PoolRecords) AcquirePool(ctx context.Context, cidr netip.Prefix) (Pool, error) {
	return c.holdPool(ctx, cidr, false, HostOwner(c.host), "")
}

// MakePool is AcquirePool for a subnet that this host chose by itself: it returns
// ErrOverlap also when the pool exists, lest two hosts that choose the same
// subnet at once share a network that neither of them meant.
func (c PoolRecords) MakePool(ctx context.Context, cidr netip.Prefix) (Pool, error) {
	return c.holdPool(ctx, cidr, true, HostOwner(c.host), "")
}

// holdPool makes holder one of the pool's, with manager if that is not empty.
func (c *core) holdPool(ctx context.Context, cidr netip.Prefix, fresh bool, holder Owner, manager string) (Pool, error) {
	var pool Pool
	err := c.change(ctx, func() ([]Op, error) {
		h, err := c.holding(ctx, cidr)
		if pool = h.Pool; err != nil {
			return nil, err
		}
		if h.version != 0 && fresh {
			return nil, fmt.Errorf("%w: %s is a subnet of the cluster already", ErrOverlap, cidr)
		}
		held, err := c.holdsAlready(ctx, h, holder)
		if err != nil || held && (manager == "" || h.Manager == manager) {
			return nil, err
		}
		var ops []Op
		if h.version == 0 {
			if ops, err = c.newPoolOps(ctx, cidr); err != nil {
				return nil, err
			}
		}
		if !held {
			h.hold(holder)
		}
		if manager != "" {
			h.Manager, h.changed = manager, true
		}
		h.reopen()
		pool = h.Pool
		return append(ops, h.ops()...), nil
	})
	return pool, err
}

// holdsAlready says whether the owner holds a pool; one that is not there has no holder.
func (c *core) holdsAlready(ctx context.Context, h holding, o Owner) (bool, error) {
	if h.version == 0 {
		return false, nil
	}
	return c.heldBy(ctx, h.poolRecord, o)
}

// newPoolOps checks that no pool overlaps cidr, and returns the operation that
// makes the check hold until the transaction.
func (c *core) newPoolOps(ctx context.Context, cidrs ...netip.Prefix) ([]Op, error) {
	there, revision, known, err := c.poolSet(ctx)
	if err != nil {
		return nil, err
	}
	err = overlap(there, cidrs)
	if err != nil && known { // a pool may have been removed by hand
		if there, err = c.listPools(ctx, revision); err == nil {
			err = overlap(there, cidrs)
		}
	}
	if err != nil {
		return nil, err
	}
	return []Op{c.nextSet(revision, slices.Concat(there, cidrs))}, nil
}

// overlap returns ErrOverlap if one of the cidrs overlaps another subnet.
func overlap(there, cidrs []netip.Prefix) error {
	for _, cidr := range cidrs {
		for _, other := range there {
			if other.Overlaps(cidr) && other != cidr {
				return fmt.Errorf("%w: %s overlaps %s, a subnet of the cluster: choose another --subnet",
					ErrOverlap, cidr, other)
			}
		}
	}
	return nil
}

// ReleasePool ends this host's hold. The pool and its claims go with the last
// holder, unless a network uses it.
func (c PoolRecords) ReleasePool(ctx context.Context, cidr netip.Prefix) error {
	return c.releasePool(ctx, cidr, HostOwner(c.host), func(holding) bool { return true })
}

// releasePool ends the owner's hold if it may, as the record is.
func (c *core) releasePool(ctx context.Context, cidr netip.Prefix, owner Owner, may func(holding) bool) error {
	used := false
	err := c.change(ctx, func() ([]Op, error) {
		h, err := c.holding(ctx, cidr)
		if used = h.version == 0 || h.Network != ""; err != nil || h.version == 0 {
			return nil, err
		}
		held, err := c.holdsNow(ctx, h, owner)
		if err != nil || !held || !may(h) {
			return nil, err
		}
		h.leave(owner)
		if owner == SwarmOwner() {
			h.Manager, h.changed = "", true
		}
		return h.ops(), nil
	})
	if err != nil || used {
		return err
	}
	return c.endPool(ctx, cidr, "")
}

// leavePools writes pools that are needed, and removes the unused ones with
// their claims. The guards must hold as well as the pools' versions.
func (c *core) leavePools(ctx context.Context, guards []Op, pools ...holding) ([]Op, error) {
	var ops []Op
	var unused []holding
	for _, p := range pools {
		if !p.unused {
			p.reopen()
			ops = append(ops, setPool(p.poolRecord, p.version))
		} else {
			unused = append(unused, p)
		}
	}
	if len(unused) == 0 {
		return ops, nil
	}
	revision, err := c.revisionOp(ctx, unused)
	if err != nil {
		return nil, err
	}
	ops = append(ops, revision...)
	for _, p := range unused {
		// What is left to this transaction must fit in with that of MaxPools pools.
		blocks, err := c.clearPool(ctx, guards, p, 2*MaxPools/len(unused))
		if err != nil {
			return nil, err
		}
		ops = append(ops, Op{Kind: OpDelete, Key: PoolKey(p.CIDR), Version: p.version})
		ops = append(ops, blocks...)
	}
	return ops, nil
}

// revisionOp changes the pools' revision, which goes with the last pool.
func (c *core) revisionOp(ctx context.Context, unused []holding) ([]Op, error) {
	there, revision, _, err := c.poolSet(ctx)
	if err != nil {
		return nil, err
	}
	left := slices.DeleteFunc(slices.Clone(there), func(cidr netip.Prefix) bool {
		return slices.ContainsFunc(unused, func(u holding) bool { return u.CIDR == cidr })
	})
	switch {
	case len(left) > 0:
		return []Op{c.nextSet(revision, left)}, nil
	case revision.Version == 0:
		return []Op{{Kind: OpCheck, Key: PoolsRevisionKey}}, nil
	}
	return []Op{{Kind: OpDelete, Key: PoolsRevisionKey, Version: revision.Version}}, nil
}

// clearPool removes the claims and asks of a pool that is removed, in transactions of
// their own but for the last few, whose operations it returns. A claim needs a holder, and a new
// holder of a pool that is Closing, or in the first layout of any, changes the pool's version or what the guards check: while these hold, no host has claims there.
func (c *core) clearPool(ctx context.Context, guards []Op, pool holding, last int) ([]Op, error) {
	blocks, err := c.kv.List(ctx, BlocksPrefix(pool.CIDR))
	if err != nil {
		return nil, err
	}
	asks, err := c.kv.List(ctx, asksOf(pool.CIDR))
	if err != nil {
		return nil, err
	}
	blocks = append(asks, blocks...)
	guards = append(slices.Clone(guards), Op{Kind: OpCheck, Key: PoolKey(pool.CIDR), Version: pool.version})
	for len(blocks) > last {
		n := min(len(blocks), (MaxOps-len(guards))/2) // OpDelete counts twice
		if err := c.kv.Apply(ctx, append(slices.Clone(guards), deleteOps(blocks[:n])...)...); err != nil {
			return nil, err
		}
		blocks = blocks[n:]
	}
	return deleteOps(blocks), nil
}

func deleteOps(entries []Entry) []Op {
	ops := make([]Op, len(entries))
	for i, e := range entries {
		ops[i] = Op{Kind: OpDelete, Key: e.Key, Version: e.Version}
	}
	return ops
}

func setPool(pool poolRecord, version uint64) Op {
	pool.Nonce = NewNonce()
	return Op{Kind: OpSet, Key: PoolKey(pool.CIDR), Value: Encode(pool), Version: version}
}
