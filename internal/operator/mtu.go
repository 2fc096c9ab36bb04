package operator

import (
	"cmp"
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
		endpoints, err := o.deps.Cluster.AllEndpoints(ctx, n.ID)
		if err != nil {
			return nil, err
		}
		for _, line := range mtuNotes(n, members.Hosts, endpoints, o.deps.MTU()) {
			all = append(all, fmt.Sprintf("network %s: %s", n.Title(), line))
		}
	}
	return all, nil
}

// mtuNotes says where hosts can't carry the network's own MTU, and which containers have another one than new ones get. least is what
// every host can carry.
func mtuNotes(n store.Network, hosts map[string]store.Host, endpoints []store.Endpoints, least int) []string {
	var notes []string
	want := least
	if n.MTU != 0 {
		want = n.MTU
		for _, h := range hosts {
			if carries := dataplane.ContainerMTU(h.MTU, h.VTEP); h.MTU > 0 && carries < n.MTU {
				notes = append(notes, fmt.Sprintf("its MTU is %d, but host %s can carry %d at most", n.MTU, h.Name, carries))
			}
		}
	}
	for _, of := range endpoints {
		for _, e := range of.Endpoints {
			if e.MTU == 0 || e.MTU == want {
				continue
			}
			name := "endpoint " + e.ID[:min(len(e.ID), 12)]
			if e.Container != nil {
				name = "container " + e.Container.Name
			}
			notes = append(notes, fmt.Sprintf("%s on host %s has MTU %d, new containers get %d: docker restart it", name, cmp.Or(hosts[of.Host].Name, of.Host), e.MTU, want))
		}
	}
	slices.Sort(notes)
	return notes
}
