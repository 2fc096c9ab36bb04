package store

import (
	"context"
	"fmt"
	"strings"
)

// PutHost writes this host's own record.
func (c *Cluster) PutHost(ctx context.Context, h Host) error {
	h.Schema, h.ID, h.Layout = Schema, c.host, NewestLayout
	return c.kv.Apply(ctx, Op{Kind: OpPut, Key: HostKey(c.host), Value: Encode(h)})
}

// Membership is what the cluster knows of its hosts.
type Membership struct {
	Hosts map[string]Host
	// Alive are the hosts whose agents hold their session. A watch of the hosts' records knows those only that announce themselves beside their records,
	// in the first layout.
	Alive map[string]bool
	// Unreadable are hosts with a record that this agent can't read, as a newer one wrote it or somebody has changed it, and why. One such record keeps
	// nobody from the others.
	Unreadable map[string]error
}

// Known says whether the host has a record, readable or not.
func (m Membership) Known(id string) bool {
	_, is := m.Hosts[id]
	return is || m.Unreadable[id] != nil
}

// Hosts lists the hosts of the cluster.
func (c *Cluster) Hosts(ctx context.Context) (Membership, error) {
	entries, err := c.kv.List(ctx, HostsPrefix)
	if err != nil {
		return Membership{}, err
	}
	alive, err := c.kv.List(ctx, AlivePrefix)
	if err != nil {
		return Membership{}, err
	}
	return membership(append(entries, alive...)), nil
}

// WatchHosts is KV.Watch for the hosts' records; WatchAlive tells who is alive.
func (c *Cluster) WatchHosts(ctx context.Context, since uint64) (Membership, uint64, error) {
	entries, index, err := c.kv.Watch(ctx, HostsPrefix, since)
	if err != nil {
		return Membership{}, 0, err
	}
	return membership(entries), index, nil
}

func membership(entries []Entry) Membership {
	m := Membership{Hosts: map[string]Host{}, Alive: map[string]bool{}, Unreadable: map[string]error{}}
	for _, e := range entries {
		if isPermanent(e.Key) {
			continue
		}
		id, alive := aliveHost(e.Key)
		if alive {
			m.Alive[id] = true
			continue
		}
		h, err := Decode[Host](e)
		if err == nil && h.ID != id {
			err = fmt.Errorf("%w: record %s says that it is of host %q", ErrInvalid, e.Key, h.ID)
		}
		if err != nil {
			m.Unreadable[id] = err
			continue
		}
		m.Hosts[id] = h
	}
	return m
}

// PutEndpoints publishes all of this host's endpoints on a network, with the
// index that the others watch; none removes both. It returns ErrNotFound unless this host has
// bound the network: nothing of the host may outlive that.
func (c *Cluster) PutEndpoints(ctx context.Context, network string, endpoints []Endpoint) error {
	key, index := EndpointsKey(network, c.host), IndexKey(network, c.host)
	if len(endpoints) == 0 {
		return c.kv.Apply(ctx, Op{Kind: OpRemove, Key: key}, Op{Kind: OpRemove, Key: index})
	}
	e := Endpoints{Schema: Schema, Network: network, Host: c.host, Revision: NewNonce(), Endpoints: endpoints}
	return c.change(ctx, func() ([]Op, error) {
		bound, err := c.boundOps(ctx, network)
		if err != nil {
			return nil, err
		}
		return append(bound,
			Op{Kind: OpPut, Key: key, Value: Encode(e)},
			Op{Kind: OpPut, Key: index, Value: Encode(Index{Schema: Schema, Revision: e.Revision})},
		), nil
	})
}

// Endpoints reads one host's endpoints on a network; none is no error.
func (c *Cluster) Endpoints(ctx context.Context, network, host string) (Endpoints, error) {
	e, _, err := find[Endpoints](ctx, c.kv, EndpointsKey(network, host))
	return e, err
}

// EndpointsAt is Endpoints not older than a version of the host's index, which is written with them. A leader that stood still and was deposed
// meanwhile answers single reads from what it knew, for a moment, and nobody would look again.
func (c *Cluster) EndpointsAt(ctx context.Context, network, host string, index uint64) (Endpoints, error) {
	key := EndpointsKey(network, host)
	e, version, err := find[Endpoints](ctx, c.kv, key)
	if err != nil || version >= index {
		return e, err
	}
	e = Endpoints{}
	err = list(ctx, c.kv, key, func(at Entry, r Endpoints) { // lists are never old
		if at.Key == key {
			e = r
		}
	})
	return e, err
}

// WatchIndex is KV.Watch for a network's index: the version of each host's endpoints.
func (c *Cluster) WatchIndex(ctx context.Context, network string, since uint64) (map[string]uint64, uint64, error) {
	entries, index, err := c.kv.Watch(ctx, IndexPrefix(network), since)
	if err != nil {
		return nil, 0, err
	}
	versions := make(map[string]uint64, len(entries))
	for _, e := range entries {
		versions[Last(e.Key)] = e.Version
	}
	return versions, index, nil
}

// WatchIndexes is KV.Watch for the indexes of all networks: by network, the version of each host's endpoints.
func (c *Cluster) WatchIndexes(ctx context.Context, since uint64) (map[string]map[string]uint64, uint64, error) {
	entries, index, err := c.kv.Watch(ctx, IndexesPrefix, since)
	if err != nil {
		return nil, 0, err
	}
	all := map[string]map[string]uint64{}
	for _, e := range entries {
		network, host, _ := strings.Cut(strings.TrimPrefix(e.Key, IndexesPrefix), "/")
		if all[network] == nil {
			all[network] = map[string]uint64{}
		}
		all[network][host] = e.Version
	}
	return all, index, nil
}
