package store

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// blockBits: 64 addresses, so that a record stays small and neighbours share it.
const (
	blockBits = 6
	blockSize = 1 << blockBits
)

// BlockOf returns the block of up to 64 addresses of the pool in which addr lies.
func BlockOf(pool netip.Prefix, addr netip.Addr) netip.Prefix {
	bits := max(pool.Bits(), addr.BitLen()-blockBits)
	block, err := addr.Prefix(bits)
	if err != nil { // bits is within the address's length by construction
		panic(err)
	}
	return block
}

// Blocks returns the claims of all blocks of a pool that have any, by block key.
func (c ClaimRecords) Blocks(ctx context.Context, pool netip.Prefix) (map[string]Block, error) {
	blocks := map[string]Block{}
	err := list(ctx, c.kv, BlocksPrefix(pool), func(e Entry, b Block) { blocks[e.Key] = b })
	return blocks, err
}

// Claim makes addr of the pool the property of owner, or returns ErrTaken naming who has it. Claiming again what
// the owner has is an error only for a host: two of its containers must not share an address either.
func (c ClaimRecords) Claim(ctx context.Context, pool netip.Prefix, addr netip.Addr, owner Owner) error {
	_, host := owner.Host()
	return c.claim(ctx, pool, addr, owner, !host)
}

// Keep claims an address for [Cluster.Owner], which knows that it has handed it out:
// that it has the claim already is no error.
func (c ClaimRecords) Keep(ctx context.Context, pool netip.Prefix, addr netip.Addr) error {
	return c.claim(ctx, pool, addr, c.owner, true)
}

func (c *core) claim(ctx context.Context, pool netip.Prefix, addr netip.Addr, owner Owner, again bool) error {
	claim := Claim{Owner: owner, Nonce: NewNonce()}
	return c.change(ctx, func() ([]Op, error) { return c.claimOps(ctx, pool, addr, claim, again) })
}

// claimOps returns no operations if the owner has the address already, which again allows.
func (c *core) claimOps(ctx context.Context, pool netip.Prefix, addr netip.Addr, claim Claim, again bool) ([]Op, error) {
	key := BlockKey(pool, BlockOf(pool, addr))
	block, version, err := find[Block](ctx, c.kv, key)
	if err != nil {
		return nil, err
	}
	if has, taken := block.Claims[addr]; taken {
		if has.Nonce == claim.Nonce || (again && has.Owner == claim.Owner) {
			return nil, nil // ours already: an earlier try took effect
		}
		return nil, fmt.Errorf("%w: %s of %s belongs to %s", ErrTaken, addr, pool, c.hosts().OwnerName(ctx, has.Owner))
	}
	// The pool must be there, so that no claim outlives it.
	_, poolVersion, err := find[Pool](ctx, c.kv, PoolKey(pool))
	if err != nil {
		return nil, err
	}
	if poolVersion == 0 {
		return nil, fmt.Errorf("%w: subnet %s is not known to the cluster", ErrNotFound, pool)
	}
	block.Schema = Schema
	block.Claims = maps.Clone(block.Claims)
	if block.Claims == nil {
		block.Claims = map[netip.Addr]Claim{}
	}
	block.Claims[addr] = claim
	return []Op{
		{Kind: OpCheck, Key: PoolKey(pool), Version: poolVersion},
		{Kind: OpSet, Key: key, Value: Encode(block), Version: version},
	}, nil
}

// Unclaim gives addresses of the pool back that owner has; others are left alone.
func (c ClaimRecords) Unclaim(ctx context.Context, pool netip.Prefix, owner Owner, addrs ...netip.Addr) error {
	byBlock := map[string][]netip.Addr{}
	for _, a := range addrs {
		key := BlockKey(pool, BlockOf(pool, a))
		byBlock[key] = append(byBlock[key], a)
	}
	for _, key := range slices.Sorted(maps.Keys(byBlock)) {
		err := c.change(ctx, func() ([]Op, error) {
			block, version, err := find[Block](ctx, c.kv, key)
			if err != nil || version == 0 {
				return nil, err
			}
			before := len(block.Claims)
			for _, a := range byBlock[key] {
				if block.Claims[a].Owner == owner {
					delete(block.Claims, a)
				}
			}
			switch len(block.Claims) {
			case before:
				return nil, nil
			case 0:
				return []Op{{Kind: OpDelete, Key: key, Version: version}}, nil
			}
			return []Op{{Kind: OpSet, Key: key, Value: Encode(block), Version: version}}, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// OwnerName tells a person who the owner of a claim is.
func (c HostRecords) OwnerName(ctx context.Context, owner Owner) string {
	switch owner {
	case NetworkOwner():
		return "the network itself (gateway or auxiliary address)"
	case SwarmOwner():
		return "a task of Swarm"
	}
	if id, is := owner.Host(); is {
		return "host " + c.hostName(ctx, id)
	}
	return fmt.Sprintf("%q", owner)
}

// hostName is a host's name, or its id if its record can't be had.
func (c *core) hostName(ctx context.Context, id string) string {
	if h, version, err := find[Host](ctx, c.kv, HostKey(id)); err == nil && version != 0 {
		return h.Name
	}
	return id
}

// SetGateway makes addr the pool's gateway on all hosts, claimed by the
// network. It returns ErrMismatch if the pool has another gateway.
func (c PoolRecords) SetGateway(ctx context.Context, pool netip.Prefix, addr netip.Addr) error {
	return c.change(ctx, func() ([]Op, error) {
		h, err := c.holding(ctx, pool)
		if err != nil {
			return nil, err
		}
		if h.version == 0 {
			return nil, fmt.Errorf("%w: subnet %s is not known to the cluster", ErrNotFound, pool)
		}
		if h.Gateway.IsValid() && h.Gateway != addr {
			return nil, c.errGateway(ctx, h.Pool, addr)
		}
		ops, err := c.claimOps(ctx, pool, addr, Claim{Owner: NetworkOwner(), Nonce: NewNonce()}, true)
		if err != nil || (len(ops) == 0 && h.Gateway == addr) {
			return nil, err
		}
		h.Gateway, h.changed = addr, true
		// The pool's own write replaces the check that the claim brings.
		ops = slices.DeleteFunc(ops, func(o Op) bool { return o.Kind == OpCheck })
		return append(ops, h.ops()...), nil
	})
}

// errGateway says that the pool has another gateway than addr.
func (c *core) errGateway(ctx context.Context, p Pool, addr netip.Addr) error {
	if p.Network != "" {
		if n, _, err := find[networkRecord](ctx, c.kv, NetworkKey(p.Network)); err == nil && n.State == Deleting {
			return c.errRemoving(ctx, n, p.CIDR)
		}
	}
	return fmt.Errorf("%w: subnet %s has the gateway %s on the other hosts, not %s: use --gateway %s, "+
		"or repeat the command in a moment if that network was removed just now", ErrMismatch, p.CIDR, p.Gateway, addr, p.Gateway)
}
