package store

import (
	"context"
	"fmt"
)

// Unbind ends the network on this host, and removes its endpoints' records. A network that is not
// declared, or that is being deleted, goes with its last host, together with its name and
// VNI, and with those pools that have no holder any more. It can be repeated.
func (c NetworkRecords) Unbind(ctx context.Context, id, dockerID string) error {
	err := c.change(ctx, func() ([]Op, error) {
		s, err := c.standing(ctx, id)
		if err != nil || s.version == 0 || s.own.DockerID == "" || s.own.DockerID != dockerID {
			return nil, err
		}
		s.put(Bound{})
		return c.leaveOps(ctx, id, s.ops())
	})
	if err == nil {
		_, err = c.endNetwork(ctx, id, goesWithLast)
	}
	return err
}

// goesWithLast says that a network ends when no host has it.
func goesWithLast(n Network) bool { return n.Declared == nil || n.State == Deleting }

// anyway is for a network that ends as soon as no host has it, because a user wants that.
func anyway(Network) bool { return true }

// Release is Unbind because this host's user removed the network: it goes from all hosts if
// no host has endpoints on it, else this host is noted as away.
func (c NetworkRecords) Release(ctx context.Context, id, dockerID string) error {
	if err := c.Unbind(ctx, id, dockerID); err != nil {
		return err
	}
	return c.Discard(ctx, id)
}

// Discard does the second half of Release after Unbind: this host's user removed the network. It changes nothing if
// this host has the network again. It can be repeated.
func (c NetworkRecords) Discard(ctx context.Context, id string) error {
	for {
		alone, err := c.wish(ctx, id)
		if err != nil {
			return err
		}
		if !alone {
			_, err = c.endNetwork(ctx, id, func(n Network) bool { return n.State == Deleting })
			return err
		}
		if gone, err := c.endNetwork(ctx, id, anyway); gone || err != nil {
			return err
		} // else a host has joined in between
	}
}

// wish notes that this host's user wants the network removed: it is Deleting if no other host has endpoints on it, else this host is away. alone says that
// no host has it, and that nothing was noted.
func (c *core) wish(ctx context.Context, id string) (alone bool, err error) {
	err = c.change(ctx, func() ([]Op, error) {
		alone = false
		s, err := c.standing(ctx, id)
		if err != nil || s.version == 0 || s.State == Deleting || s.Declared == nil || s.own.DockerID != "" {
			return nil, err
		}
		all, err := c.readBindings(ctx, s.networkRecord)
		if err != nil {
			return nil, err
		}
		if alone = len(all.Present()) == 0; alone {
			return nil, nil
		}
		users, err := c.endpoints().Users(ctx, id)
		if err != nil {
			return nil, err
		}
		if users = without(users, c.host); len(users) == 0 {
			return append(s.delete(), s.ops()...), nil
		}
		if s.own.Away {
			return nil, nil
		}
		s.put(Bound{Away: true})
		return s.ops(), nil
	})
	return alone, err
}

// removeOps removes a network that no host has, its keys, and those of its pools that have no holder.
func (c *core) removeOps(ctx context.Context, s standing) ([]Op, error) {
	n := s.Network
	if err := c.clearShards(ctx, n.ID, s.version); err != nil {
		return nil, err
	}
	ops := []Op{
		s.check, {Kind: OpDelete, Key: NetworkKey(n.ID), Version: s.version},
		{Kind: OpRemove, Key: VNIKey(n.VNI)}, {Kind: OpRemove, Key: PermanentKey(ShardsOf(n.ID))},
	}
	if n.State != Deleting { // else name and declaration are another network's, or gone
		if n.Name != "" {
			ops = append(ops, Op{Kind: OpRemove, Key: NameKey(n.Name)})
		}
		if n.Declared != nil {
			ops = append(ops, Op{Kind: OpRemove, Key: DeclaredKey(n.ID)})
		}
	}
	var pools []holding
	for _, cidr := range n.Pools {
		p, err := c.holding(ctx, cidr)
		if err != nil {
			return nil, err
		}
		if p.version == 0 || p.Network != n.ID {
			continue
		}
		if p, p.unused, err = c.unheld(ctx, p); err != nil {
			return nil, err
		}
		if p.check.Version != s.check.Version {
			return nil, fmt.Errorf("%w: the layout of the cluster's records", ErrConflict)
		}
		p.Network = ""
		pools = append(pools, p)
	}
	poolOps, err := c.leavePools(ctx, []Op{{Kind: OpCheck, Key: NetworkKey(n.ID), Version: s.version}}, pools...)
	return append(ops, poolOps...), err
}

// clearShards removes the shards of a network on which no host has endpoints any more. In the transaction that removes the network there is no room for them.
func (c *core) clearShards(ctx context.Context, id string, version uint64) error {
	shards, err := c.kv.List(ctx, ShardsOf(id))
	if err != nil || len(shards) == 0 {
		return err
	}
	ops := []Op{{Kind: OpCheck, Key: NetworkKey(id), Version: version}}
	for _, e := range shards {
		ops = append(ops, Op{Kind: OpRemove, Key: e.Key})
	}
	return c.kv.Apply(ctx, ops...)
}
