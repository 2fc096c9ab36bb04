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
func (c *Cluster) Declare(ctx context.Context, id, name string, d Declaration) (Network, error) {
	var n Network
	err := c.change(ctx, func() ([]Op, error) {
		var version uint64
		var err error
		if n, version, err = find[Network](ctx, c.kv, NetworkKey(id)); err != nil {
			return nil, err
		}
		switch {
		case n.Hosts[c.host] == "" || n.State == Deleting:
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
		n.Name, n.Declared = name, &d
		return []Op{
			{Kind: OpSet, Key: NameKey(name), Value: []byte(id), Version: holder.Version},
			declaredOp(n), setNetwork(n, version),
		}, nil
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
func (c *Cluster) Create(ctx context.Context, want NewNetwork) (Network, error) {
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
		var pools []versioned
		for _, cidr := range b.Pools {
			p, version, err := find[Pool](ctx, c.kv, PoolKey(cidr))
			if err != nil {
				return nil, err
			}
			if p.Network != "" {
				former, err := c.Network(ctx, p.Network)
				if err != nil && !errors.Is(err, ErrNotFound) {
					return nil, err
				}
				if former.State == Deleting {
					return nil, c.errRemoving(ctx, former, cidr)
				}
			}
			if version != 0 && (p.Network != "" || len(p.Holders) > 0) {
				return nil, fmt.Errorf("%w: %s is a subnet of the cluster already: choose another", ErrOverlap, cidr)
			}
			p.Schema, p.CIDR = Schema, cidr
			pools = append(pools, versioned{p, version})
		}
		var ops []Op
		n, ops, err = c.makeNetwork(ctx, b, pools)
		return ops, err
	})
	return n, err
}

// Remove begins to remove a network from all hosts; a network that no host has is gone at once. It returns
// ErrHasEndpoints, naming the hosts, while there are endpoints on it.
func (c *Cluster) Remove(ctx context.Context, id string) error {
	return c.change(ctx, func() ([]Op, error) {
		n, version, err := find[Network](ctx, c.kv, NetworkKey(id))
		if err != nil || version == 0 || (n.State == Deleting && len(n.Hosts) > 0) {
			return nil, err
		}
		if len(n.Hosts) == 0 {
			return c.removeOps(ctx, n, version)
		}
		users, err := c.Users(ctx, id)
		if err != nil {
			return nil, err
		}
		if len(users) > 0 {
			for i, u := range users {
				users[i] = c.hostName(ctx, u)
			}
			return nil, fmt.Errorf("%w: network %s is used by containers on %s: remove or disconnect these first",
				ErrHasEndpoints, n.Title(), strings.Join(users, ", "))
		}
		return append(deletingOps(&n), setNetwork(n, version)), nil
	})
}

// Attach ends what Release noted: this host is to have the network again.
func (c *Cluster) Attach(ctx context.Context, id string) error {
	return c.change(ctx, func() ([]Op, error) {
		n, version, err := find[Network](ctx, c.kv, NetworkKey(id))
		if err != nil {
			return nil, err
		}
		if version == 0 || n.State == Deleting {
			return nil, fmt.Errorf("%w: the network is being removed from all hosts: create it again", ErrNotFound)
		}
		if !slices.Contains(n.Away, c.host) {
			return nil, nil
		}
		n.Away = without(n.Away, c.host)
		return []Op{setNetwork(n, version), declaredOp(n)}, nil
	})
}

// Users lists the hosts that have published endpoints on a network, sorted.
func (c *Cluster) Users(ctx context.Context, id string) ([]string, error) {
	entries, err := c.kv.List(ctx, IndexPrefix(id))
	users := make([]string, len(entries))
	for i, e := range entries {
		users[i] = Last(e.Key)
	}
	return users, err
}

// AllEndpoints reads all hosts' endpoints on a network.
func (c *Cluster) AllEndpoints(ctx context.Context, id string) ([]Endpoints, error) {
	var all []Endpoints
	err := list(ctx, c.kv, EndpointsPrefix(id), func(_ Entry, e Endpoints) { all = append(all, e) })
	return all, err
}

// WatchDeclared is KV.Watch for the networks that hosts should have: id to name.
func (c *Cluster) WatchDeclared(ctx context.Context, since uint64) (map[string]string, uint64, error) {
	entries, index, err := c.kv.Watch(ctx, DeclaredPrefix, since)
	if err != nil {
		return nil, 0, err
	}
	names, _ := mentions(entries) // DeclaredNames says what is wrong
	return names, index, nil
}

// DeclaredNames tells the networks that hosts should have: id to name. Records that can't be read are left out; the error
// that names them comes with the others.
func (c *Cluster) DeclaredNames(ctx context.Context) (map[string]string, error) {
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

// deletingOps turns n to Deleting and frees its name; the caller writes n.
func deletingOps(n *Network) []Op {
	ops := []Op{{Kind: OpRemove, Key: DeclaredKey(n.ID)}}
	if n.Name != "" && n.State == Active {
		ops = append(ops, Op{Kind: OpRemove, Key: NameKey(n.Name)})
	}
	n.State, n.Away = Deleting, nil
	return ops
}

// without is a list without one value, in memory of its own.
func without[T comparable](list []T, value T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool { return v == value })
}
