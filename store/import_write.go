package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// networkOps writes the network's record and keys; n gets its VNI here. One that gives way is on its way out from the beginning,
// so that Docker's network goes: its name and pools belong to another.
func (c *Cluster) networkOps(ctx context.Context, n *Network, g cargo) ([]Op, error) {
	there, version, err := find[Network](ctx, c.kv, NetworkKey(g.network.ID))
	if err != nil || version != 0 {
		*n = there
		return nil, err // an earlier try took effect
	}
	*n = g.network
	if n.State = Active; g.unused {
		n.State, n.Name, n.Declared = Deleting, "", nil
	}
	_, err = c.kv.Get(ctx, VNIKey(n.VNI))
	switch {
	case err == nil:
		n.VNI = drawVNI()
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	m, err := c.mark(ctx)
	if err != nil {
		return nil, err
	}
	s := c.newStanding(m, *n)
	if g.docker != "" {
		s.put(Bound{DockerID: g.docker})
	}
	ops := append(s.ops(), Op{Kind: OpSet, Key: VNIKey(n.VNI), Value: []byte(n.ID)})
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
		h, err := c.holding(ctx, p.CIDR)
		if err != nil {
			return nil, err
		}
		if h.version != 0 && h.Network != "" && h.Network == p.Network {
			continue // an earlier try took effect
		}
		if h.version == 0 {
			fresh = append(fresh, p.CIDR)
		} else if free, err := c.free(ctx, h.poolRecord); err != nil {
			return nil, err
		} else if !free {
			return nil, fmt.Errorf("%w: %s is a subnet of the cluster already", ErrCollides, p.CIDR)
		}
		ops = append(ops, h.become(p, c.host)...)
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

// become gives the pool what p has. Of the holders that it may have when it is free, this host and Swarm, it keeps p's.
func (h holding) become(p cargoPool, host string) []Op {
	h.Network, h.Gateway, h.Manager, h.State, h.changed = p.Network, p.Gateway, p.Manager, Active, true
	for _, o := range []Owner{HostOwner(host), SwarmOwner()} {
		if slices.Contains(p.holders, o) {
			h.hold(o)
		} else {
			h.leave(o)
		}
	}
	return h.ops()
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
