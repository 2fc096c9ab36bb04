package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// networkOps writes the network's record and keys; n gets its VNI here. One that gives way is on its way out from the beginning,
// so that Docker's network goes: its name and pools belong to another.
func (c *Cluster) networkOps(ctx context.Context, n *Network, g cargo) ([]Op, error) {
	*n = g.network
	n.Away = nil
	n.Hosts = map[string]string{}
	if id := g.network.Hosts[c.host]; id != "" {
		n.Hosts[c.host] = id
	}
	if g.unused {
		n.State, n.Name, n.Declared = Deleting, "", nil
	}
	if there, err := c.kv.Get(ctx, NetworkKey(n.ID)); err == nil && there.Version != 0 {
		*n, err = Decode[Network](there)
		return nil, err // an earlier try took effect
	} else if !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	_, err := c.kv.Get(ctx, VNIKey(n.VNI))
	switch {
	case err == nil:
		n.VNI = vniFirst + rand.Uint32N(vniEnd-vniFirst)
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	ops := []Op{{Kind: OpSet, Key: VNIKey(n.VNI), Value: []byte(n.ID)}, setNetwork(*n, 0)}
	if n.Name != "" {
		holder, err := c.kv.Get(ctx, NameKey(n.Name))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		if holder.Version != 0 && string(holder.Value) != n.ID {
			return nil, fmt.Errorf("%w: the cluster has another network %s", ErrCollides, n.Name)
		}
		ops = append(ops, Op{Kind: OpSet, Key: NameKey(n.Name), Value: []byte(n.ID), Version: holder.Version})
	}
	if n.Declared != nil {
		ops = append(ops, declaredOp(*n))
	}
	return ops, nil
}

// poolOps writes the pools of g, and their first claims.
func (c *Cluster) poolOps(ctx context.Context, g cargo) ([]Op, error) {
	var ops []Op
	var fresh []netip.Prefix
	for _, p := range g.pools {
		there, version, err := find[Pool](ctx, c.kv, PoolKey(p.CIDR))
		if err != nil {
			return nil, err
		}
		if version != 0 && there.Network != "" && there.Network == p.Network {
			continue // an earlier try took effect
		}
		if version != 0 && !c.free(there) {
			return nil, fmt.Errorf("%w: %s is a subnet of the cluster already", ErrCollides, p.CIDR)
		}
		if version == 0 {
			fresh = append(fresh, p.CIDR)
		}
		p.Holders = slices.DeleteFunc(slices.Clone(p.Holders), func(o Owner) bool {
			id, host := o.Host()
			return host && id != c.host
		})
		ops = append(ops, setPool(p, version))
	}
	if len(fresh) > 0 {
		check, err := c.newPoolOps(ctx, fresh...)
		if errors.Is(err, ErrOverlap) {
			return nil, fmt.Errorf("%w: %w", ErrCollides, err)
		}
		if err != nil {
			return nil, err
		}
		ops = append(ops, check...)
	}
	if len(ops) == 0 {
		return nil, nil
	}
	claims, err := c.firstClaims(ctx, g)
	return append(ops, claims...), err
}

// firstClaims writes up to MaxBlocks blocks, those with containers' addresses before those with spare ones.
func (c *Cluster) firstClaims(ctx context.Context, g cargo) ([]Op, error) {
	urgent := map[netip.Addr]bool{}
	for _, e := range g.endpoints {
		for _, a := range e.Addrs {
			urgent[a] = true
		}
	}
	type piece struct {
		pool, block netip.Prefix
		claims      map[netip.Addr]Claim
		urgent      int
	}
	var pieces []*piece
	for _, p := range g.pools {
		byBlock := map[netip.Prefix]*piece{}
		for addr, claim := range g.claims[p.CIDR] {
			block := BlockOf(p.CIDR, addr)
			at := byBlock[block]
			if at == nil {
				at = &piece{pool: p.CIDR, block: block, claims: map[netip.Addr]Claim{}}
				byBlock[block] = at
				pieces = append(pieces, at)
			}
			at.claims[addr] = claim
			if urgent[addr] || claim.Owner != c.owner {
				at.urgent++
			}
		}
	}
	slices.SortFunc(pieces, func(a, b *piece) int {
		return cmp.Or(cmp.Compare(b.urgent, a.urgent), a.pool.Addr().Compare(b.pool.Addr()), a.block.Addr().Compare(b.block.Addr()))
	})
	var ops []Op
	for _, at := range pieces[:min(len(pieces), MaxBlocks)] {
		key := BlockKey(at.pool, at.block)
		there, version, err := find[Block](ctx, c.kv, key)
		if err != nil {
			return nil, err
		}
		maps.Copy(at.claims, there.Claims)
		ops = append(ops, Op{Kind: OpSet, Key: key, Value: Encode(Block{Schema: Schema, Claims: at.claims}), Version: version})
	}
	return ops, nil
}
