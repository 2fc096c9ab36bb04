package operator

import (
	"cmp"
	"context"
	"slices"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/store"
)

// Endpoints gives each endpoint of the cluster, or of one network. One network's are in memory at a time.
func (o *Operator) Endpoints(ctx context.Context, network string, each func(adminapi.Endpoint) error) error {
	networks, err := o.listed(ctx, network)
	if err != nil || len(networks) == 0 {
		return err
	}
	members, err := o.deps.Cluster.Hosts(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(networks, func(a, b store.Network) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	for _, n := range networks {
		hosts, err := o.deps.Cluster.AllEndpoints(ctx, n.ID)
		if err != nil {
			return err
		}
		labels, err := o.deps.Cluster.AllLabels(ctx, n.ID)
		if err != nil {
			return err
		}
		for _, e := range endpointsOf(n, hosts, members.Hosts, labels) {
			if err := each(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// listed are the networks with this name or id, all networks if it is empty.
func (o *Operator) listed(ctx context.Context, network string) ([]store.Network, error) {
	if network == "" {
		return o.deps.Cluster.Networks(ctx)
	}
	called, is, err := o.exactly(ctx, network)
	if err != nil {
		return nil, err
	}
	var found []store.Network
	if called != nil {
		found = append(found, *called)
	}
	if is != nil && (called == nil || is.ID != called.ID) {
		found = append(found, *is)
	}
	if len(found) > 0 {
		return found, nil
	}
	all, err := o.deps.Cluster.Networks(ctx) // one that is being removed still has its name
	return slices.DeleteFunc(all, func(n store.Network) bool { return n.Name != network }), err
}

// endpointsOf are a network's endpoints, sorted by container and id. labels are those that are apart, by endpoint.
func endpointsOf(n store.Network, hosts []store.Endpoints, known map[string]store.Host, labels map[string]map[string]string) []adminapi.Endpoint {
	var all []adminapi.Endpoint
	for _, h := range hosts {
		for _, e := range h.Endpoints {
			out := adminapi.Endpoint{
				ID: e.ID, Network: n.Name, NetworkID: n.ID, Host: known[h.Host].Name, HostID: h.Host, MAC: e.MAC, Addrs: e.Addrs,
			}
			if c := e.Container; c != nil {
				out.Container, out.ContainerID, out.Aliases, out.Labels = c.Name, c.ID, c.Aliases, c.Labels
				if out.Labels == nil {
					out.Labels = labels[e.ID]
				}
			}
			all = append(all, out)
		}
	}
	slices.SortFunc(all, func(a, b adminapi.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.ID, b.ID))
	})
	return all
}
