package checkup

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/store"
)

// peers are the other hosts of the cluster, sorted by name. Where no container uses a network, there may be no tunnel yet, and so no socket at the port.
func (c *Checkup) peers(ctx context.Context, members func(context.Context) (store.Membership, error)) ([]doctor.Peer, error) {
	all, err := members(ctx)
	if err != nil {
		return nil, err
	}
	if _, there := all.Hosts[c.parts.Cluster.Host()]; !there {
		return nil, errors.New("the store does not show this host's own record, and perhaps not those of others")
	}
	users, needs := map[string]bool{}, map[string]int{}
	networks, err := c.parts.Cluster.Networks(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range networks {
		hosts, err := c.parts.Cluster.Users(ctx, n.ID)
		if err != nil {
			return nil, err
		}
		var mine store.Endpoints
		if slices.Contains(hosts, c.parts.Cluster.Host()) {
			if mine, err = c.parts.Cluster.Endpoints(ctx, n.ID, c.parts.Cluster.Host()); err != nil {
				return nil, err
			}
		}
		for _, id := range hosts {
			users[id], needs[id] = true, max(needs[id], largest(n, mine))
		}
	}
	overhead := -dataplane.ContainerMTU(0, c.where().Addr)
	var peers []doctor.Peer
	for id, h := range all.Hosts {
		if id != c.parts.Cluster.Host() {
			peers = append(peers, doctor.Peer{ID: id, Name: h.Name, VTEP: h.VTEP, Alive: all.Alive[id], Version: h.Version, VXLANPort: h.VXLANPort,
				Used: users[id], Needs: max(c.parts.Driver.MTU(), needs[id]) + overhead})
		}
	}
	slices.SortFunc(peers, func(a, b doctor.Peer) int { return strings.Compare(a.Name+" "+a.ID, b.Name+" "+b.ID) })
	return peers, nil
}

// largest is the largest packet, in bytes, that this host's containers send on a network; 0 if none is attached to it. A container keeps the MTU
// with which it joined.
func largest(n store.Network, mine store.Endpoints) int {
	size := 0
	for _, e := range mine.Endpoints {
		size = max(size, n.MTU, e.MTU)
	}
	return size
}
