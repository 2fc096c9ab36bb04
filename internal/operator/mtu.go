package operator

import (
	"context"
	"fmt"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/store"
)

// MTUTroubles says where containers or networks have another MTU than all hosts can carry, a line each, for all networks.
func (o *Operator) MTUTroubles(ctx context.Context) ([]string, error) {
	networks, err := o.deps.Cluster.Networks(ctx)
	if err != nil {
		return nil, err
	}
	members, err := o.deps.Cluster.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, n := range networks {
		c, err := o.count(ctx, n, members, false)
		if err != nil {
			return nil, err
		}
		for _, line := range mtuNotes(n, c) {
			all = append(all, fmt.Sprintf("network %s: %s", n.Title(), line))
		}
	}
	return all, nil
}

// mtuNotes says where hosts can't carry the network's own MTU, and which containers have another one than new ones get.
func mtuNotes(n store.Network, c *census) []string {
	notes := slices.Clone(c.otherMTU)
	if n.MTU != 0 {
		for _, h := range c.hosts {
			if carries := dataplane.ContainerMTU(h.MTU, h.VTEP); h.MTU > 0 && carries < n.MTU {
				notes = append(notes, fmt.Sprintf("its MTU is %d, but host %s can carry %d at most", n.MTU, h.Name, carries))
			}
		}
	}
	slices.Sort(notes)
	return notes
}
