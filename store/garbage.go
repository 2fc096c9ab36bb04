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
	// Kind is one of a few words: name, vni, declaration, endpoints, index, parts, labels, heads, shards, claims, ask, pool, network, binding, holder, use,
	// host.
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
		if isPermanent(e.Key) && (!strings.HasPrefix(e.Key, ShardsPrefix) || e.Key == ShardsPrefix+permanent) {
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
	networks     map[string]networkRecord
	versions     map[string]uint64     // of networks and pools, by their keys
	bound        map[string]Bindings   // by network
	keys         map[string]uint64     // of what lies below BoundPrefix, by key
	pools        map[string]poolRecord // by the part of their keys
	holders      map[string]bool       // pools that have a holder, by the part of their keys
	layout       uint64                // the version of its record
	first        bool                  // it is the first layout
	hosts, alive map[string]bool
	referred     map[string]string // hosts that have something, and what
	// unreadable are records that this agent can't read. They are left alone, and so is what they may need.
	unreadable map[string]bool
}

func census(entries []Entry) seen {
	s := seen{
		networks: map[string]networkRecord{}, versions: map[string]uint64{}, bound: map[string]Bindings{}, keys: map[string]uint64{},
		pools: map[string]poolRecord{}, holders: map[string]bool{}, first: true,
		hosts: map[string]bool{}, alive: map[string]bool{}, referred: map[string]string{}, unreadable: map[string]bool{},
	}
	for _, e := range entries { // what lies beside a network's or pool's record needs that
		if kind, rest, _ := strings.Cut(strings.TrimPrefix(e.Key, Root), "/"); !isPermanent(e.Key) && !s.main(kind, rest, e) {
			s.unreadable[e.Key] = true
		}
	}
	for _, e := range entries {
		if kind, rest, _ := strings.Cut(strings.TrimPrefix(e.Key, Root), "/"); !isPermanent(e.Key) && !s.beside(kind, rest, e) {
			s.unreadable[e.Key] = true
		}
	}
	for id, all := range s.bound {
		for host := range all {
			s.referred[host] = "network " + s.networks[id].Title()
		}
	}
	return s
}

// main notes a record of a network, a pool, a host, or of the layout. It says whether it can be read.
func (s *seen) main(kind, rest string, e Entry) bool {
	switch kind {
	case "layout":
		l, err := Decode[Layout](e)
		s.layout, s.first = e.Version, err == nil && l.Layout <= FirstLayout
		return err == nil
	case "networks":
		n, err := Decode[networkRecord](e)
		if err != nil {
			return false
		}
		s.networks[rest], s.versions[e.Key], s.bound[rest] = n, e.Version, Bindings{}
		if !apart(n.Schema) {
			s.bound[rest] = n.bindings()
		}
	case "pools":
		p, err := Decode[poolRecord](e)
		if err != nil {
			return false
		}
		s.pools[rest], s.versions[e.Key] = p, e.Version
		if !apart(p.Schema) {
			for _, holder := range p.Holders {
				s.holders[rest] = true
				s.refer(holder, "subnet "+p.CIDR.String())
			}
		}
	case "hosts", "alive":
		if id, alive := aliveHost(e.Key); alive {
			s.alive[id] = true
		} else {
			s.hosts[id] = true
		}
	}
	return true
}

// beside notes what lies beside the record of a network or a pool. It says whether it can be read.
func (s *seen) beside(kind, rest string, e Entry) bool {
	first, last, _ := strings.Cut(rest, "/")
	switch kind {
	case "bound":
		s.keys[e.Key] = e.Version
		b, err := Decode[boundRecord](e)
		n, is := s.networks[first]
		switch {
		case !is || !apart(n.Schema):
		case err != nil:
			s.bound[first][last] = Bound{DockerID: "of a record that can't be read"}
		default:
			s.bound[first].add(n.Network, last, b)
		}
		return err == nil
	case "holders":
		p, is := s.pools[first]
		o, err := ParseOwner(last)
		if is && apart(p.Schema) {
			s.holders[first] = true
			s.refer(o, "subnet "+p.CIDR.String())
		}
		return err == nil
	case "blocks":
		b, err := Decode[Block](e)
		for addr, claim := range b.Claims {
			s.refer(claim.Owner, "address "+addr.String())
		}
		return err == nil
	}
	return true
}

// unsure says that the record, or one that may need it, can't be read.
func (s seen) unsure(e Entry) bool {
	kind, rest, _ := strings.Cut(strings.TrimPrefix(e.Key, Root), "/")
	first, _, _ := strings.Cut(rest, "/")
	needed := map[string]string{
		"names": NetworkKey(string(e.Value)), "names-hashed": NetworkKey(string(e.Value)), "vnis": NetworkKey(string(e.Value)), "declared": NetworkKey(rest),
		"endpoints": NetworkKey(first), "index": NetworkKey(first), "bound": NetworkKey(first),
		"parts": NetworkKey(first), "labels": NetworkKey(first), "heads": NetworkKey(first), "shards": NetworkKey(first),
		"blocks": PoolsPrefix + first, "asks": PoolsPrefix + first, "holders": PoolsPrefix + first,
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

// judge says whether nothing needs a record. Kinds that it does not know are left alone.
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
		return c.ofNetwork(kind, notBound, first, s, e, s.unbound(first, last)...), s.without(first, last)
	case "parts", "labels":
		host, _, _ := strings.Cut(last, "/")
		return c.ofNetwork(kind, notBound, first, s, e, s.unbound(first, host)...), s.without(first, host)
	case "heads":
		host := Last(rest)
		return c.ofHead(first, host, s, e), s.without(first, host) || HeadKey(first, host) != e.Key
	case "shards":
		_, is := s.networks[first]
		return c.ofNetwork(kind, "its network is gone", first, s, e), !is
	case "bound":
		return c.judgeBound(s, first, last, e)
	case "holders":
		return c.judgeHolder(s, first, e)
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
			remove: func(ctx context.Context) error { return c.dropPool(ctx, p.Pool, e.Version) }}, !is && !s.holders[rest]
	case "networks":
		n := s.networks[rest]
		return Garbage{Kind: "network", Text: "no host has it, and none is to have it",
				remove: func(ctx context.Context) error { return c.dropNetwork(ctx, n.ID, e.Version) }},
			len(s.bound[rest].Present()) == 0 && unwanted(n.Network)
	}
	return Garbage{}, false
}

// notBound is why a host's endpoints on a network are garbage.
const notBound = "the host does not have this network"

// without says that a host does not have a network, as far as its records can be read.
func (s seen) without(network, host string) bool {
	return s.bound[network][host].DockerID == "" && !s.unreadable[BoundKey(network, host)]
}

// unwanted says that a network that no host has is to be gone: also one whose removal a host began.
func unwanted(n Network) bool { return n.Declared == nil || n.State != Active }

// unbound are the operations by which a transaction fails if the host has the network by now.
func (s seen) unbound(network, host string) []Op {
	if n, is := s.networks[network]; !is || !apart(n.Schema) {
		return nil
	}
	key := BoundKey(network, host)
	return []Op{{Kind: OpCheck, Key: key, Version: s.keys[key]}}
}

// stray says whether what lies beside a record of this schema, if there is one, means nothing: a conversion of the record has left it. In the second layout it may be one that
// is under way.
func (s seen) stray(is bool, schema int) bool { return !is || !apart(schema) && s.first }

// judgeBound is judge for what lies below BoundPrefix.
func (c *Cluster) judgeBound(s seen, network, host string, e Entry) (Garbage, bool) {
	n, is := s.networks[network]
	g := c.ofNetwork("binding", "no network has it", network, s, e, Op{Kind: OpCheck, Key: LayoutKey, Version: s.layout})
	void := is && apart(n.Schema) && s.bound[network][host] == Bound{}
	return g, s.stray(is, n.Schema) || void
}

// judgeHolder is judge for what lies below HoldersPrefix.
func (c *Cluster) judgeHolder(s seen, pool string, e Entry) (Garbage, bool) {
	p, is := s.pools[pool]
	key := PoolsPrefix + pool
	checks := []Op{{Kind: OpCheck, Key: LayoutKey, Version: s.layout}, {Kind: OpCheck, Key: key, Version: s.versions[key]}}
	return c.guarded("holder", "no subnet has it", e, checks...), s.stray(is, p.Schema)
}

// ofNetwork is a record of a network that is not there, or is not as the record has it, as long as the network stays so.
func (c *Cluster) ofNetwork(kind, text, id string, s seen, e Entry, checks ...Op) Garbage {
	if ValidKey(NetworkKey(id)) != nil { // not even an id
		return c.guarded(kind, text, e, checks...)
	}
	return c.guarded(kind, text, e, append(checks, Op{Kind: OpCheck, Key: NetworkKey(id), Version: s.versions[NetworkKey(id)]})...)
}

// ofHead is a head of a host that does not have the network. Those who watch the network hear that it goes.
func (c *Cluster) ofHead(network, host string, s seen, e Entry) Garbage {
	checks := s.unbound(network, host)
	if s.versions[NetworkKey(network)] != 0 && ValidKey(HeadKey(network, host)) == nil {
		checks = append(checks, shardOp(network, host))
	}
	return c.ofNetwork("heads", notBound, network, s, e, checks...)
}

// guarded is a record that goes if it is as it was, and the checks hold.
func (c *Cluster) guarded(kind, text string, e Entry, checks ...Op) Garbage {
	return Garbage{Kind: kind, Text: text, remove: func(ctx context.Context) error {
		return c.kv.Apply(ctx, append(checks, Op{Kind: OpDelete, Key: e.Key, Version: e.Version})...)
	}}
}

// dropPool removes a pool without network and holder, with its claims, if its record has not changed.
func (c *Cluster) dropPool(ctx context.Context, p Pool, version uint64) error {
	e, err := c.kv.Get(ctx, PoolKey(p.CIDR))
	if errors.Is(err, ErrNotFound) || err == nil && e.Version != version {
		return nil
	}
	if err != nil {
		return err
	}
	return c.endPool(ctx, p.CIDR, p.Network)
}

// dropNetwork removes a network that no host has, if its record has not changed.
func (c *Cluster) dropNetwork(ctx context.Context, id string, version uint64) error {
	e, err := c.kv.Get(ctx, NetworkKey(id))
	if errors.Is(err, ErrNotFound) || err == nil && e.Version != version {
		return nil
	}
	if err == nil {
		_, err = c.endNetwork(ctx, id, unwanted)
	}
	return err
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
