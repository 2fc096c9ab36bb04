package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Mention is the record at DeclaredKey.
type Mention struct {
	Schema int    `json:"schema"`
	Name   string `json:"name"`
	Nonce  string `json:"nonce"`
}

// Declare gives a network that this host has bound its name and declaration. Declared already
// with that name, it stays as it is. It returns ErrNameTaken if another network has the name,
// ErrMismatch if the network has another one, ErrNotFound if this host has it not or not any more.
func (c NetworkRecords) Declare(ctx context.Context, id, name string, d Declaration) (Network, error) {
	var n Network
	err := c.change(ctx, func() ([]Op, error) {
		s, err := c.standing(ctx, id)
		if n = s.Network; err != nil {
			return nil, err
		}
		switch {
		case s.own.DockerID == "" || n.State == Deleting:
			return nil, fmt.Errorf("%w: the cluster has no network %s on this host", ErrNotFound, name)
		case n.Name != "" && n.Name != name:
			return nil, fmt.Errorf("%w: subnet %s belongs to the cluster's network %s: remove %s on this host and create it with another --subnet",
				ErrMismatch, n.Pools[0], n.Name, name)
		case n.Declared != nil:
			return nil, nil
		}
		holder, err := c.kv.Get(ctx, NameKey(name))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		if holder.Version != 0 && string(holder.Value) != id {
			return nil, fmt.Errorf("%w: the cluster has another network %s", ErrNameTaken, name)
		}
		ops := append(s.stays(), Op{Kind: OpSet, Key: NameKey(name), Value: []byte(id), Version: holder.Version})
		s.Name, s.Declared, s.changed = name, &d, true
		n = s.Network
		return append(append(ops, declaredOp(n)), s.ops()...), nil
	})
	return n, err
}

// NewNetwork says what a network shall be that no host has yet.
type NewNetwork struct {
	Name     string
	Pools    []netip.Prefix
	MTU      int
	Internal bool
	Declaration
}

// Create declares a network before any host has it. It returns ErrNameTaken or ErrOverlap if another
// network has the name or a subnet.
func (c NetworkRecords) Create(ctx context.Context, want NewNetwork) (Network, error) {
	b := Binding{
		ID: NewNonce(), DockerID: "none yet", Name: want.Name, Pools: want.Pools, MTU: want.MTU, Internal: want.Internal,
		declared: &want.Declaration,
	}
	if err := b.check(); err != nil {
		return Network{}, err
	}
	b.DockerID = ""
	var n Network
	err := c.change(ctx, func() ([]Op, error) {
		holder, err := c.kv.Get(ctx, NameKey(b.Name))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		switch string(holder.Value) {
		case "":
		case b.ID: // an earlier try took effect
			n, err = c.Network(ctx, b.ID)
			return nil, err
		default:
			return nil, fmt.Errorf("%w: the cluster has a network %s already: use it, or choose another name", ErrNameTaken, b.Name)
		}
		m, err := c.mark(ctx)
		if err != nil {
			return nil, err
		}
		var pools []holding
		for _, cidr := range b.Pools {
			p, err := c.freePool(ctx, m, cidr)
			if err != nil {
				return nil, err
			}
			pools = append(pools, p)
		}
		var ops []Op
		n, ops, err = c.makeNetwork(ctx, m, b, pools)
		return ops, err
	})
	return n, err
}

// freePool reads a pool that a new network is to have. It returns ErrOverlap if a network uses it or somebody holds it.
func (c *core) freePool(ctx context.Context, m mark, cidr netip.Prefix) (holding, error) {
	p, err := c.holdingIn(ctx, m, cidr)
	if err != nil || p.version == 0 {
		return p, err
	}
	if p.Network != "" {
		former, _, err := find[networkRecord](ctx, c.kv, NetworkKey(p.Network))
		if err == nil && former.State == Deleting {
			err = c.errRemoving(ctx, former, cidr)
		}
		if err != nil {
			return p, err
		}
	}
	taken := fmt.Errorf("%w: %s is a subnet of the cluster already: choose another", ErrOverlap, cidr)
	if p.Network != "" {
		return p, taken
	}
	p, free, err := c.unheld(ctx, p)
	if err == nil && !free {
		err = taken
	}
	return p, err
}

// Remove begins to remove a network from all hosts; a network that no host has is gone at once. It returns
// ErrHasEndpoints, naming the hosts, while there are endpoints on it.
func (c NetworkRecords) Remove(ctx context.Context, id string) error {
	if gone, err := c.endNetwork(ctx, id, anyway); gone || err != nil {
		return err
	}
	err := c.change(ctx, func() ([]Op, error) {
		s, err := c.standing(ctx, id)
		if err != nil || s.version == 0 || s.State == Deleting {
			return nil, err
		}
		users, err := c.endpoints().Users(ctx, id)
		if err != nil {
			return nil, err
		}
		if len(users) > 0 {
			for i, u := range users {
				users[i] = c.hostName(ctx, u)
			}
			return nil, fmt.Errorf("%w: network %s is used by containers on %s: remove or disconnect these first",
				ErrHasEndpoints, s.Title(), strings.Join(users, ", "))
		}
		return append(s.delete(), s.ops()...), nil
	})
	if err == nil {
		_, err = c.endNetwork(ctx, id, func(n Network) bool { return n.State == Deleting })
	}
	return err
}

// Attach ends what Release noted: this host is to have the network again.
func (c NetworkRecords) Attach(ctx context.Context, id string) error {
	return c.change(ctx, func() ([]Op, error) {
		s, err := c.standing(ctx, id)
		if err != nil {
			return nil, err
		}
		if s.version == 0 || s.State == Deleting {
			return nil, fmt.Errorf("%w: the network is being removed from all hosts: create it again", ErrNotFound)
		}
		if !s.own.Away {
			return nil, nil
		}
		s.put(Bound{})
		return append(s.ops(), declaredOp(s.Network)), nil
	})
}

// WatchDeclared is KV.Watch for the networks that hosts should have: id to name.
func (c NetworkRecords) WatchDeclared(ctx context.Context, since uint64) (map[string]string, uint64, error) {
	entries, index, err := c.kv.Watch(ctx, DeclaredPrefix, since)
	if err != nil {
		return nil, 0, err
	}
	names, _ := mentions(entries) // DeclaredNames says what is wrong
	return names, index, nil
}

// DeclaredNames tells the networks that hosts should have: id to name. Records that can't be read are left out; the error
// that names them comes with the others.
func (c NetworkRecords) DeclaredNames(ctx context.Context) (map[string]string, error) {
	entries, err := c.kv.List(ctx, DeclaredPrefix)
	if err != nil {
		return nil, err
	}
	return mentions(entries)
}

func mentions(entries []Entry) (map[string]string, error) {
	names := make(map[string]string, len(entries))
	var errs []error
	for _, e := range dropPermanent(entries) {
		m, err := Decode[Mention](e)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		names[Last(e.Key)] = m.Name
	}
	return names, errors.Join(errs...)
}

func declaredOp(n Network) Op {
	return Op{Kind: OpPut, Key: DeclaredKey(n.ID), Value: Encode(Mention{Schema: Schema, Name: n.Name, Nonce: NewNonce()})}
}

// delete turns the network to Deleting and frees its name; ops writes it.
func (s *standing) delete() []Op {
	ops := []Op{{Kind: OpRemove, Key: DeclaredKey(s.ID)}}
	if s.Name != "" && s.State != Deleting {
		ops = append(ops, Op{Kind: OpRemove, Key: NameKey(s.Name)})
	}
	s.State, s.Away, s.changed = Deleting, nil, true
	return ops
}

// without is a list without one value, in memory of its own.
func without[T comparable](list []T, value T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool { return v == value })
}
