package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// RemoveHost removes everything of a host that will not come back: its endpoints, networks, pools and claims, and last
// its record. It returns ErrNotFound if there is none, and ErrConflict while the host's agent is alive. It can be repeated.
func (c HostRecords) RemoveHost(ctx context.Context, id string) error {
	members, err := c.Hosts(ctx)
	if err != nil {
		return err
	}
	switch {
	case !members.Known(id):
		return fmt.Errorf("%w: the cluster has no host %s", ErrNotFound, id)
	case members.Alive[id]:
		return fmt.Errorf("%w: the agent of host %s is up: stop it there first", ErrConflict, cmp.Or(members.Hosts[id].Name, id))
	}
	if err := c.forgetHost(ctx, id); err != nil {
		return err
	}
	return c.change(ctx, func() ([]Op, error) {
		ops, err := c.hostOps(ctx, id, nil)
		return append(ops, Op{Kind: OpRemove, Key: HostKey(id)}, Op{Kind: OpRemove, Key: GoneKey(id)}), err
	})
}

// forgetHost removes everything of a host but its record.
func (c *core) forgetHost(ctx context.Context, id string) error {
	gone := NewCluster(c.kv, id)
	networks, unread, err := gone.OwnNetworks(ctx)
	if err != nil {
		return err
	}
	for _, n := range networks {
		if n.DockerID != "" {
			err = gone.Unbind(ctx, n.ID, n.DockerID)
		} else if n.Away {
			err = gone.forgetAway(ctx, n.ID)
		}
		if err != nil {
			return err
		}
	}
	pools, unreadPools, err := c.pools().AllPools(ctx)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if err := gone.leavePool(ctx, p.CIDR); err != nil {
			return err
		}
	}
	// What the host has in these is not known: an agent that can read them must remove the host.
	if err := errors.Join(unread.Err(), unreadPools.Err()); err != nil {
		return fmt.Errorf("what host %s has in some records is not known: %w", id, err)
	}
	return c.kv.Apply(ctx, Op{Kind: OpRemove, Key: UseKey(id)})
}

// forgetAway ends that this host let go of a network.
func (c *core) forgetAway(ctx context.Context, id string) error {
	return c.change(ctx, func() ([]Op, error) {
		s, err := c.standing(ctx, id)
		if err != nil || s.version == 0 || !s.own.Away {
			return nil, err
		}
		s.put(Bound{})
		return s.ops(), nil
	})
}

// leavePool gives back all that the host has of a pool.
func (c *core) leavePool(ctx context.Context, pool netip.Prefix) error {
	blocks, err := c.claims().Blocks(ctx, pool)
	if err != nil {
		return err
	}
	var addrs []netip.Addr
	for _, b := range blocks {
		for addr, claim := range b.Claims {
			if claim.Owner == HostOwner(c.host) {
				addrs = append(addrs, addr)
			}
		}
	}
	if err := c.claims().Unclaim(ctx, pool, HostOwner(c.host), addrs...); err != nil {
		return err
	}
	return c.pools().ReleasePool(ctx, pool)
}
