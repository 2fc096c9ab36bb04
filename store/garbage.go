package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Garbage is a record, or all that a host has in the cluster, that nothing needs. Every change of ours leaves none behind; it comes of
// data that was restored, or changed by hand.
type Garbage struct {
	// Kind is one of a few words: name, vni, declaration, endpoints, index, claims, ask, pool, network, host.
	Kind string
	// Key is the record's; that of the host's record, which is not there, for a host.
	Key string
	// Text says why nothing needs it.
	Text    string
	version uint64
	remove  func(context.Context) error
}

// Same says whether both are the same finding: the record has not been written in between.
func (g Garbage) Same(other Garbage) bool {
	return g.Kind == other.Kind && g.Key == other.Key && g.version == other.version
}

// Remove removes it, unless something needs it by now or it was written since it was found: that is no error.
func (g Garbage) Remove(ctx context.Context) error {
	if err := g.remove(ctx); err != nil && !errors.Is(err, ErrConflict) {
		return fmt.Errorf("remove %s %s: %w", g.Kind, g.Key, err)
	}
	return nil
}

// Garbage finds what nothing needs at one moment. What it finds may be half of something that is just being made by
// other means than one transaction, so that a grace should pass before it is removed.
func (c *Cluster) Garbage(ctx context.Context) ([]Garbage, error) {
	entries, err := c.kv.List(ctx, Root)
	if err != nil {
		return nil, err
	}
	s := census(entries)
	var all []Garbage
	for _, e := range entries {
		if isPermanent(e.Key) {
			continue
		}
		if g, is := c.judge(s, e); is && !s.unsure(e) {
			g.Key, g.version = e.Key, e.Version
			all = append(all, g)
		}
	}
	for id, why := range s.referred {
		if s.hosts[id] || s.alive[id] || id == c.host {
			continue
		}
		all = append(all, Garbage{
			Kind: "host", Key: HostKey(id), Text: "the cluster does not know the host, but it has " + why,
			remove: func(ctx context.Context) error { return c.forgetUnknown(ctx, id) },
		})
	}
	slices.SortFunc(all, func(a, b Garbage) int { return strings.Compare(a.Key, b.Key) })
	return all, nil
}

// seen is what there is at one moment.
type seen struct {
	networks     map[string]Network
	versions     map[string]uint64 // of networks
	pools        map[string]Pool   // by the part of their keys
	hosts, alive map[string]bool
	referred     map[string]string // hosts that have something, and what
	// unreadable are records that this agent can't read. They are left alone, and so is what they may need.
	unreadable map[string]bool
}

func census(entries []Entry) seen {
	s := seen{
		map[string]Network{}, map[string]uint64{}, map[string]Pool{}, map[string]bool{}, map[string]bool{}, map[string]string{}, map[string]bool{},
	}
	for _, e := range entries {
		if isPermanent(e.Key) {
			continue
		}
		kind, rest, _ := strings.Cut(strings.TrimPrefix(e.Key, Root), "/")
		var err error
		switch kind {
		case "networks":
			var n Network
			if n, err = Decode[Network](e); err != nil {
				break
			}
			s.networks[rest], s.versions[rest] = n, e.Version
			for id := range n.Hosts {
				s.referred[id] = "network " + n.Title()
			}
		case "pools":
			var p Pool
			if p, err = Decode[Pool](e); err != nil {
				break
			}
			s.pools[rest] = p
			for _, holder := range p.Holders {
				s.refer(holder, "subnet "+p.CIDR.String())
			}
		case "blocks":
			var b Block
			if b, err = Decode[Block](e); err != nil {
				break
			}
			for addr, claim := range b.Claims {
				s.refer(claim.Owner, "address "+addr.String())
			}
		case "hosts", "alive":
			if id, alive := aliveHost(e.Key); alive {
				s.alive[id] = true
			} else {
				s.hosts[id] = true
			}
		}
		if err != nil {
			s.unreadable[e.Key] = true
		}
	}
	return s
}

// unsure says that the record, or one that may need it, can't be read.
func (s seen) unsure(e Entry) bool {
	kind, rest, _ := strings.Cut(strings.TrimPrefix(e.Key, Root), "/")
	first, _, _ := strings.Cut(rest, "/")
	needed := map[string]string{
		"names": NetworkKey(string(e.Value)), "names-hashed": NetworkKey(string(e.Value)), "vnis": NetworkKey(string(e.Value)), "declared": NetworkKey(rest),
		"endpoints": NetworkKey(first), "index": NetworkKey(first), "blocks": PoolsPrefix + first, "asks": PoolsPrefix + first,
		"pools": NetworkKey(s.pools[rest].Network),
	}[kind]
	return s.unreadable[e.Key] || s.unreadable[needed]
}

// refer notes what an owner has, if it is a host.
func (s seen) refer(owner Owner, what string) {
	if id, is := owner.Host(); is {
		s.referred[id] = what
	}
}

// judge says whether nothing needs a record. Kinds that it does not know are somebody's.
func (c *Cluster) judge(s seen, e Entry) (Garbage, bool) {
	kind, rest, _ := strings.Cut(strings.TrimPrefix(e.Key, Root), "/")
	first, last, _ := strings.Cut(rest, "/")
	switch kind {
	case "names", "names-hashed":
		n, is := s.networks[string(e.Value)]
		return c.ofNetwork("name", "no network has this name", string(e.Value), s, e), !is || NameKey(n.Name) != e.Key
	case "vnis":
		n, is := s.networks[string(e.Value)]
		return c.ofNetwork("vni", "no network has this VNI", string(e.Value), s, e), !is || fmt.Sprint(n.VNI) != rest
	case "declared":
		_, is := s.networks[rest]
		return c.ofNetwork("declaration", "its network is gone", rest, s, e), !is
	case "endpoints", "index":
		return c.ofNetwork(kind, "the host does not have this network", first, s, e), s.networks[first].Hosts[last] == ""
	case "blocks", "asks":
		_, is := s.pools[first]
		what := map[string]string{"blocks": "claims", "asks": "ask"}[kind]
		return c.guarded(what, "its subnet is gone", e, Op{Kind: OpCheck, Key: PoolsPrefix + first}), !is
	case "use":
		return c.guarded("use", "the cluster does not know the host", e, Op{Kind: OpCheck, Key: HostKey(rest)}), !s.hosts[rest]
	case "pools":
		p := s.pools[rest]
		_, is := s.networks[p.Network]
		return Garbage{Kind: "pool", Text: "no network and no host has this subnet",
			remove: func(ctx context.Context) error { return c.dropPool(ctx, p, e.Version) }}, !is && len(p.Holders) == 0
	case "networks":
		n := s.networks[rest]
		return Garbage{Kind: "network", Text: "no host has it, and none is to have it",
				remove: func(ctx context.Context) error { return c.dropNetwork(ctx, n, e.Version) }},
			len(n.Hosts) == 0 && (n.Declared == nil || n.State == Deleting)
	}
	return Garbage{}, false
}

// ofNetwork is a record of a network that is not there, or is not as the record has it, as long as the network stays so.
func (c *Cluster) ofNetwork(kind, text, id string, s seen, e Entry) Garbage {
	if ValidKey(NetworkKey(id)) != nil { // not even an id
		return c.guarded(kind, text, e)
	}
	return c.guarded(kind, text, e, Op{Kind: OpCheck, Key: NetworkKey(id), Version: s.versions[id]})
}

// guarded is a record that goes if it is as it was, and the checks hold.
func (c *Cluster) guarded(kind, text string, e Entry, checks ...Op) Garbage {
	return Garbage{Kind: kind, Text: text, remove: func(ctx context.Context) error {
		return c.kv.Apply(ctx, append(checks, Op{Kind: OpDelete, Key: e.Key, Version: e.Version})...)
	}}
}

// dropPool removes a pool that nobody has, with its claims.
func (c *Cluster) dropPool(ctx context.Context, p Pool, version uint64) error {
	var guards []Op
	if p.Network != "" {
		guards = append(guards, Op{Kind: OpCheck, Key: NetworkKey(p.Network)})
	}
	p.Network = ""
	ops, err := c.leavePools(ctx, guards, versioned{p, version})
	if err != nil {
		return err
	}
	return c.kv.Apply(ctx, append(guards, ops...)...)
}

// dropNetwork removes a network that nobody has.
func (c *Cluster) dropNetwork(ctx context.Context, n Network, version uint64) error {
	ops, err := c.removeOps(ctx, n, version)
	if err != nil {
		return err
	}
	return c.kv.Apply(ctx, ops...)
}

// forgetUnknown ends all that a host has of which there is no record.
func (c *Cluster) forgetUnknown(ctx context.Context, id string) error {
	members, err := c.Hosts(ctx)
	if err != nil {
		return err
	}
	if members.Known(id) || members.Alive[id] {
		return nil
	}
	return c.forgetHost(ctx, id)
}
