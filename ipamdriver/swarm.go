package ipamdriver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// swarmMark begins the ids of pools that Swarm's manager has asked for. The manager chooses all addresses of its network, of
// whatever host, and its workers then ask for these again in the local space. So what the manager has belongs to a holder of its own,
// [store.SwarmOwner], in the cluster alone: the next manager, on another host, goes on with it.
const swarmMark = "swarm:"

// swarm is the cluster as Swarm's manager changes it.
func (d *Driver) swarm() *store.Cluster { return d.cluster.ForSwarm() }

// ofSwarm says whether Docker's requests are Swarm's, as far as one that comes in this address space can tell.
func (d *Driver) ofSwarm(space string) bool {
	return d.opts.SwarmSpace != "" && space == d.opts.SwarmSpace
}

// swarmPool holds the subnet that was asked for, or one that is free. A manager that has started anew asks again.
func (d *Driver) swarmPool(ctx context.Context, pool ipalloc.Pool, v6 bool) (ipalloc.Pool, error) {
	if pool.CIDR.IsValid() {
		return pool, d.manage(ctx, pool.CIDR, false)
	}
	taken, err := d.takenSubnets(ctx)
	if err != nil {
		return pool, err
	}
	for cidr := range d.free(taken, v6) {
		err := d.manage(ctx, cidr, true)
		if errors.Is(err, store.ErrOverlap) {
			continue // somebody was faster
		}
		return ipalloc.Pool{CIDR: cidr, Range: cidr}, err
	}
	return pool, d.errNoSubnet(taken.used, v6)
}

// manage holds a pool. What was to be given back of it before is void once the cluster has heard that it is wanted again, not earlier: a request that
// fails is no use of the pool.
func (d *Driver) manage(ctx context.Context, cidr netip.Prefix, fresh bool) error {
	unlock, err := d.managed.lock(ctx, cidr)
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.cluster.ManagePool(ctx, cidr, d.cluster.Host(), fresh); err != nil {
		return err
	}
	return d.forgetReturn(ctx, swarmReturn{Pool: cidr})
}

// swarmAddress answers the manager. An address that it names it may have already: it tells again what its networks had.
func (d *Driver) swarmAddress(ctx context.Context, pool ipalloc.Pool, want netip.Addr) (netip.Addr, error) {
	unlock, err := d.managed.lock(ctx, pool.CIDR)
	if err != nil {
		return want, err
	}
	defer unlock()
	if want.IsValid() {
		err = d.share(ctx, pool.CIDR, want, func() error { return d.swarm().Keep(ctx, pool.CIDR, want) })
	} else {
		want, err = d.freeForSwarm(ctx, pool)
	}
	if err != nil {
		return want, err
	}
	return want, d.forgetReturn(ctx, swarmReturn{Pool: pool.CIDR, Addr: want})
}

// freeForSwarm claims an address that nobody has. Blocks are tried from where one was found last, so that the next address costs the same however many there are.
func (d *Driver) freeForSwarm(ctx context.Context, pool ipalloc.Pool) (netip.Addr, error) {
	cursor := d.cursorOf(pool)
	for at, block := range cursor.blocks(pool) {
		_, taken, err := d.swarm().ChangeBlocks(ctx, pool.CIDR, []netip.Prefix{block}, nil,
			func(block netip.Prefix, claims map[netip.Addr]store.Claim) (take, _ []netip.Addr) {
				addr, ok := pool.Free(block, func(a netip.Addr) bool { _, is := claims[a]; return is })
				if !ok {
					return nil, nil
				}
				return []netip.Addr{addr}, nil
			})
		if err != nil {
			return netip.Addr{}, err
		}
		if len(taken) == 1 {
			cursor.found(at)
			return taken[0], nil
		}
		cursor.full(block)
	}
	return netip.Addr{}, fmt.Errorf("%w in %s: every one is claimed", ErrExhausted, pool)
}

// releaseSwarm gives an address of the manager's back. Gateway and auxiliary addresses stay the network's.
func (d *Driver) releaseSwarm(ctx context.Context, id, text string) error {
	pool, err := parsePoolID(id)
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return fmt.Errorf("%w: %q is not an IP address", ErrBadRequest, text)
	}
	d.cursorOf(pool).released(store.BlockOf(pool.CIDR, addr))
	return d.returnSwarm(ctx, swarmReturn{Schema: store.Schema, Pool: pool.CIDR, Addr: addr})
}

// releaseSwarmPool ends the manager's hold.
func (d *Driver) releaseSwarmPool(ctx context.Context, id string) error {
	pool, err := parsePoolID(id)
	if err != nil {
		return err
	}
	return d.returnSwarm(ctx, swarmReturn{Schema: store.Schema, Pool: pool.CIDR})
}
