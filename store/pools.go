package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Pool returns the record of a pool, or ErrNotFound.
func (c *Cluster) Pool(ctx context.Context, cidr netip.Prefix) (Pool, error) {
	p, version, err := find[Pool](ctx, c.kv, PoolKey(cidr))
	if err == nil && version == 0 {
		err = fmt.Errorf("%w: subnet %s is not known to the cluster", ErrNotFound, cidr)
	}
	return p, err
}

// Pools lists all pools of the cluster.
func (c *Cluster) Pools(ctx context.Context) ([]Pool, error) {
	var pools []Pool
	err := list(ctx, c.kv, PoolsPrefix, func(_ Entry, p Pool) { pools = append(pools, p) })
	return pools, err
}

// AcquirePool makes this host a holder of the pool, which is made when it does not
// exist. It returns ErrOverlap when it overlaps another pool.
func (c *Cluster) AcquirePool(ctx context.Context, cidr netip.Prefix) (Pool, error) {
	var pool Pool
	err := c.change(ctx, func() ([]Op, error) {
		var version uint64
		var err error
		if pool, version, err = find[Pool](ctx, c.kv, PoolKey(cidr)); err != nil {
			return nil, err
		}
		if version != 0 && slices.Contains(pool.Hosts, c.host) {
			return nil, nil
		}
		var ops []Op
		if version == 0 {
			if ops, err = c.newPoolOps(ctx, cidr); err != nil {
				return nil, err
			}
			pool = Pool{Schema: Schema, CIDR: cidr}
		}
		pool.Hosts = append(pool.Hosts, c.host)
		return append(ops, setPool(pool, version)), nil
	})
	return pool, err
}

// newPoolOps checks that no pool overlaps cidr, and returns the operation that
// makes the check hold until the transaction.
func (c *Cluster) newPoolOps(ctx context.Context, cidrs ...netip.Prefix) ([]Op, error) {
	revision, err := c.kv.Get(ctx, PoolsRevisionKey)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	pools, err := c.Pools(ctx)
	if err != nil {
		return nil, err
	}
	for _, cidr := range cidrs {
		for _, p := range pools {
			if p.CIDR.Overlaps(cidr) && p.CIDR != cidr {
				return nil, fmt.Errorf("%w: %s overlaps %s, a subnet of the cluster: choose another --subnet",
					ErrOverlap, cidr, p.CIDR)
			}
		}
	}
	return []Op{{Kind: OpSet, Key: PoolsRevisionKey, Value: []byte(NewNonce()), Version: revision.Version}}, nil
}

// ReleasePool ends this host's hold. The pool and its claims go with the last
// holder, unless a network uses it.
func (c *Cluster) ReleasePool(ctx context.Context, cidr netip.Prefix) error {
	return c.change(ctx, func() ([]Op, error) {
		pool, version, err := find[Pool](ctx, c.kv, PoolKey(cidr))
		if err != nil || version == 0 || !slices.Contains(pool.Hosts, c.host) {
			return nil, err
		}
		pool.Hosts = slices.DeleteFunc(pool.Hosts, func(h string) bool { return h == c.host })
		return c.poolOps(ctx, pool, version)
	})
}

// poolOps writes the pool, or removes it with its claims if nobody needs it.
func (c *Cluster) poolOps(ctx context.Context, pool Pool, version uint64) ([]Op, error) {
	if len(pool.Hosts) > 0 || pool.Network != "" {
		return []Op{setPool(pool, version)}, nil
	}
	blocks, err := c.kv.List(ctx, BlocksPrefix(pool.CIDR))
	if err != nil {
		return nil, err
	}
	// A claim needs a holder, and a new holder changes the pool's version: while
	// that stands, the claims below are nobody's. Most go in transactions of their own.
	const last = 16 // operations left to the caller's transaction
	for len(blocks) > last {
		n := min(len(blocks), MaxOps-1)
		ops := []Op{{Kind: OpCheck, Key: PoolKey(pool.CIDR), Version: version}}
		for _, b := range blocks[:n] {
			ops = append(ops, Op{Kind: OpDelete, Key: b.Key, Version: b.Version})
		}
		if err := c.kv.Apply(ctx, ops...); err != nil {
			return nil, err
		}
		blocks = blocks[n:]
	}
	ops := []Op{{Kind: OpDelete, Key: PoolKey(pool.CIDR), Version: version}}
	for _, b := range blocks {
		ops = append(ops, Op{Kind: OpDelete, Key: b.Key, Version: b.Version})
	}
	return ops, nil
}

func setPool(pool Pool, version uint64) Op {
	pool.Nonce = NewNonce()
	return Op{Kind: OpSet, Key: PoolKey(pool.CIDR), Value: Encode(pool), Version: version}
}
