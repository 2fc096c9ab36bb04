package store

import "context"

// PutHost writes this host's own record.
func (c HostRecords) PutHost(ctx context.Context, h Host) error {
	h.Schema, h.ID, h.Layout = Schema, c.host, NewestLayout
	value := Encode(h)
	return c.change(ctx, func() ([]Op, error) {
		ops, err := c.hostOps(ctx, c.host, value)
		return append(ops, Op{Kind: OpPut, Key: HostKey(c.host), Value: value}), err
	})
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
func (c HostRecords) Hosts(ctx context.Context) (Membership, error) {
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

// WatchHosts is KV.Watch for the hosts' records, for the first layout: each answer has all of them. In the second, WatchHostShards tells which have changed.
func (c HostRecords) WatchHosts(ctx context.Context, since uint64) (Membership, uint64, error) {
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
		m.Add(id, seenHost(e))
	}
	return m
}

// Add notes a host's record.
func (m Membership) Add(id string, h SeenHost) {
	if h.Err != nil {
		m.Unreadable[id] = h.Err
		return
	}
	m.Hosts[id] = h.Host
}
