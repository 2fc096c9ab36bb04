package store

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
)

// ManagePool makes Swarm a holder of the pool, as the manager on the given host asked for it; fresh is for a subnet that nobody named (MakePool).
// What a manager of before still has to give back of it is void from then on: its successor tells again what its networks have.
func (c PoolRecords) ManagePool(ctx context.Context, cidr netip.Prefix, manager string, fresh bool) error {
	_, err := c.holdPool(ctx, cidr, fresh, SwarmOwner(), manager)
	return err
}

// LeaveManaged ends Swarm's hold of the pool, unless another host's manager has asked for it since.
func (c PoolRecords) LeaveManaged(ctx context.Context, cidr netip.Prefix, manager string) error {
	return c.releasePool(ctx, cidr, SwarmOwner(), func(h holding) bool { return h.managedBy(manager) })
}

// UnclaimManaged gives an address of Swarm's back, unless another host's manager has asked for its pool since.
func (c ClaimRecords) UnclaimManaged(ctx context.Context, cidr netip.Prefix, manager string, addr netip.Addr) error {
	return c.change(ctx, func() ([]Op, error) {
		h, err := c.holding(ctx, cidr)
		if err != nil || h.version == 0 || !h.managedBy(manager) {
			return nil, err
		}
		if held, err := c.holdsNow(ctx, h, SwarmOwner()); err != nil || !held { // Swarm's holder comes and goes with Manager, in the record
			return nil, err
		}
		key := BlockKey(cidr, BlockOf(cidr, addr))
		block, version, err := find[Block](ctx, c.kv, key)
		if err != nil || block.Claims[addr].Owner != SwarmOwner() {
			return nil, err
		}
		block.Claims = maps.Clone(block.Claims)
		delete(block.Claims, addr)
		change := Op{Kind: OpDelete, Key: key, Version: version}
		if len(block.Claims) > 0 {
			change = Op{Kind: OpSet, Key: key, Value: Encode(block), Version: version}
		}
		return []Op{{Kind: OpCheck, Key: PoolKey(cidr), Version: h.version}, change}, nil
	})
}

// managedBy says whether Swarm, if it holds the pool, does so by this host's manager, or by one of an agent that does not say.
func (p Pool) managedBy(manager string) bool { return p.Manager == manager || p.Manager == "" }

// LocalSwarmKey is the key of what Swarm's manager on this host still has to give back: an address of a pool, or with none the pool itself, which
// comes after its addresses in the order of keys.
func LocalSwarmKey(pool netip.Prefix, addr netip.Addr) string {
	what := "pool"
	if addr.IsValid() {
		what = addr.String()
	}
	return fmt.Sprintf("%s%s/%s", LocalSwarm, cidrPart(pool), what)
}
