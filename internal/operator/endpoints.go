package operator

import (
	"cmp"
	"context"
	"slices"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/store"
)

// Endpoints gives each endpoint of the cluster, or of one network. Some hosts' are in memory at a time.
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
		err := o.eachHost(ctx, n, members, true, func(of store.Endpoints) error {
			return giveEndpoints(n, of, members.Hosts[of.Host], each)
		})
		if err != nil {
			return err
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

// giveEndpoints gives a host's endpoints on a network, sorted by container and id.
func giveEndpoints(n store.Network, of store.Endpoints, host store.Host, each func(adminapi.Endpoint) error) error {
	name := func(e store.Endpoint) string {
		if e.Container == nil {
			return ""
		}
		return e.Container.Name
	}
	slices.SortFunc(of.Endpoints, func(a, b store.Endpoint) int { return cmp.Or(cmp.Compare(name(a), name(b)), cmp.Compare(a.ID, b.ID)) })
	for _, e := range of.Endpoints {
		out := adminapi.Endpoint{
			ID: e.ID, Network: n.Name, NetworkID: n.ID, Host: host.Name, HostID: of.Host, MAC: e.MAC, Addrs: e.Addrs,
		}
		if c := e.Container; c != nil {
			out.Container, out.ContainerID, out.Aliases, out.Labels = c.Name, c.ID, c.Aliases, c.Labels
		}
		if err := each(out); err != nil {
			return err
		}
	}
	return nil
}
