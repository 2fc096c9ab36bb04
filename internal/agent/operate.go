package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/store"
)

var _ adminapi.Operator = (*agent)(nil)

// spoken keeps an error's text and gives it the kind that crosses the admin socket.
func spoken(err error) error {
	var kind error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotFound):
		kind = adminapi.ErrNotFound
	case errors.Is(err, store.ErrNameTaken), errors.Is(err, store.ErrOverlap), errors.Is(err, store.ErrHasEndpoints),
		errors.Is(err, store.ErrMismatch), errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrInUse), errors.Is(err, store.ErrTaken), errors.Is(err, store.ErrAmbiguous):
		kind = adminapi.ErrConflict
	case errors.Is(err, store.ErrInvalid):
		kind = adminapi.ErrInvalid
	default:
		return err
	}
	return &kindError{err, kind}
}

type kindError struct{ err, kind error }

func (e *kindError) Error() string {
	text := e.err.Error()
	// "network has containers: network web is used by …": the second half says it all.
	if _, rest, ok := strings.Cut(text, ": "); ok {
		return rest
	}
	return text
}
func (e *kindError) Unwrap() []error { return []error{e.err, e.kind} }

// Networks lists the cluster's networks.
func (a *agent) Networks(ctx context.Context) ([]adminapi.NetworkDetail, error) {
	networks, unread, err := a.cluster.AllNetworks(ctx)
	if err != nil {
		return nil, err
	}
	members, err := a.cluster.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	troubles := map[string]string{}
	if a.mirror != nil {
		for _, t := range a.mirror.Troubles() {
			if t.Network != "" {
				troubles[t.Network] = t.Text
			}
		}
	}
	var all []adminapi.NetworkDetail
	for _, n := range networks {
		endpoints, err := a.cluster.AllEndpoints(ctx, n.ID)
		if err != nil {
			return nil, err
		}
		d := detail(n, members, endpoints)
		d.Trouble = troubles[n.ID]
		d.ContainerMTU, d.MTUNotes = cmp.Or(n.MTU, a.driver.MTU()), mtuNotes(n, members.Hosts, endpoints, a.driver.MTU())
		if a.mirror != nil {
			d.Note = a.mirror.Note(n.ID)
		}
		if d.Addresses, err = a.addressUse(ctx, n, members, endpoints); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	for key, why := range unread {
		all = append(all, adminapi.NetworkDetail{ID: store.Last(key), State: "unreadable", Trouble: why.Error()})
	}
	slices.SortFunc(all, func(a, b adminapi.NetworkDetail) int {
		return cmp.Or(cmp.Compare(strconv.FormatBool(a.Name == ""), strconv.FormatBool(b.Name == "")),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// addressUse tells which hosts have how much of a network's pools.
func (a *agent) addressUse(ctx context.Context, n store.Network, members store.Membership, endpoints []store.Endpoints) ([]adminapi.AddressUse, error) {
	var all []adminapi.AddressUse
	for _, pool := range n.Pools {
		use, err := a.ipam.Use(ctx, pool, endpoints)
		if err != nil {
			return nil, err
		}
		var ofPool []adminapi.AddressUse
		for _, u := range use {
			host, _ := u.Owner.Host()
			ofPool = append(ofPool, adminapi.AddressUse{
				Pool: pool, Host: u.Owner.String(), Name: members.Hosts[host].Name, HandedOut: u.HandedOut, Static: u.Static,
				Resting: u.Resting, Spare: u.Spare, Here: u.Owner == a.cluster.Owner(),
			})
		}
		slices.SortStableFunc(ofPool, func(a, b adminapi.AddressUse) int { return cmp.Compare(a.Name, b.Name) })
		all = append(all, ofPool...)
	}
	return all, nil
}

// detail is a network as the command line shows it.
func detail(n store.Network, members store.Membership, endpoints []store.Endpoints) adminapi.NetworkDetail {
	d := adminapi.NetworkDetail{
		ID: n.ID, Name: n.Name, VNI: n.VNI, Pools: n.Pools, MTU: n.MTU, Internal: n.Internal,
		Shared: n.Declared != nil, State: cmp.Or(string(n.State), "active"), Hosts: []adminapi.NetworkHost{},
	}
	for _, p := range n.Pools {
		d.IPv6 = d.IPv6 || p.Addr().Is6()
	}
	if n.Declared != nil {
		d.Options, d.Labels = n.Declared.Options, n.Declared.Labels
	}
	count := map[string]int{}
	for _, e := range endpoints {
		count[e.Host] = len(e.Endpoints)
		d.Endpoints += len(e.Endpoints)
	}
	for id := range n.Hosts {
		if _, known := members.Hosts[id]; !known {
			members.Hosts[id] = store.Host{ID: id}
		}
	}
	for id, h := range members.Hosts {
		state := "absent"
		switch {
		case n.Hosts[id] != "":
			state = "present"
		case slices.Contains(n.Away, id):
			state = "away"
		}
		d.Hosts = append(d.Hosts, adminapi.NetworkHost{
			ID: id, Name: h.Name, State: state, DockerID: n.Hosts[id], Endpoints: count[id], Alive: members.Alive[id],
		})
	}
	slices.SortFunc(d.Hosts, func(a, b adminapi.NetworkHost) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return d
}

// tries is how often a subnet is chosen when other hosts are faster.
const tries = 8

// CreateNetwork declares a network; the mirrors of all hosts bring it there.
func (a *agent) CreateNetwork(ctx context.Context, r adminapi.NetworkRequest) (adminapi.NetworkDetail, error) {
	if a.mirror == nil || !a.cfg.Mirror {
		return adminapi.NetworkDetail{}, fmt.Errorf("%w: this host's agent makes no networks in Docker (--mirror=false or --docker-host none): "+
			"use 'docker network create -d socketplane' on every host", adminapi.ErrConflict)
	}
	if err := checkRequest(&r); err != nil {
		return adminapi.NetworkDetail{}, fmt.Errorf("%w: %w", adminapi.ErrInvalid, err)
	}
	chosen := len(r.Subnets) == 0
	for try := 1; ; try++ {
		want, err := a.wanted(ctx, r)
		if err != nil {
			return adminapi.NetworkDetail{}, err
		}
		n, err := a.cluster.Create(ctx, want)
		if errors.Is(err, store.ErrOverlap) && chosen && try < tries {
			continue
		}
		if err != nil {
			return adminapi.NetworkDetail{}, spoken(err)
		}
		a.mirror.Wake()
		a.log.Info("network is created for all hosts", "network", n.Name, "pools", n.Pools)
		members, err := a.cluster.Hosts(ctx)
		return detail(n, members, nil), err
	}
}

// find returns a network by id, name, or the beginning of one network's id. The whole id comes first, as the command line gives
// that, and Docker takes another network's id for a name.
func (a *agent) find(ctx context.Context, name string) (store.Network, error) {
	all, err := a.cluster.Networks(ctx)
	if err != nil {
		return store.Network{}, err
	}
	var begun []store.Network
	for _, n := range all {
		if n.ID == name {
			return n, nil
		}
		if name != "" && strings.HasPrefix(n.ID, name) {
			begun = append(begun, n)
		}
	}
	n, err := a.cluster.NetworkNamed(ctx, name)
	switch {
	case err == nil || !errors.Is(err, store.ErrNotFound):
		return n, err
	case len(begun) == 1:
		return begun[0], nil
	}
	return n, fmt.Errorf("%w: the cluster has no network %s: see 'socketplane network ls'", store.ErrNotFound, name)
}

// RemoveNetwork begins to remove a network from all hosts.
func (a *agent) RemoveNetwork(ctx context.Context, name string) error {
	n, err := a.find(ctx, name)
	if err != nil {
		return spoken(err)
	}
	if n.Declared == nil && len(n.Hosts) > 0 {
		return fmt.Errorf("%w: network %s is not shared: 'docker network rm' it on the hosts that have it", adminapi.ErrConflict, n.Title())
	}
	if err := a.cluster.Remove(ctx, n.ID); err != nil {
		return spoken(err)
	}
	if a.mirror != nil {
		a.mirror.Wake()
	}
	return nil
}

// AttachNetwork makes this host have a network again that its user removed here.
func (a *agent) AttachNetwork(ctx context.Context, name string) error {
	if a.mirror == nil || !a.cfg.Mirror {
		return fmt.Errorf("%w: this host's agent makes no networks in Docker (--mirror=false or --docker-host none): "+
			"use 'docker network create -d socketplane' with the network's subnet", adminapi.ErrConflict)
	}
	n, err := a.find(ctx, name)
	if err == nil {
		err = a.cluster.Attach(ctx, n.ID)
	}
	if err != nil {
		return spoken(err)
	}
	a.mirror.Wake()
	return nil
}

// RemoveHost forgets a host that will not come back.
func (a *agent) RemoveHost(ctx context.Context, name string) error {
	hosts, err := a.cluster.Hosts(ctx)
	if err != nil {
		return err
	}
	if a.storage.managed != nil {
		return spoken(a.removeMember(ctx, hosts, name))
	}
	h, err := hosts.FindHost(name)
	if err == nil {
		err = a.cluster.RemoveHost(ctx, h.ID)
	}
	return spoken(err)
}

// Endpoints lists all endpoints of the cluster.
func (a *agent) Endpoints(ctx context.Context) ([]adminapi.Endpoint, error) {
	networks, err := a.cluster.Networks(ctx)
	if err != nil {
		return nil, err
	}
	members, err := a.cluster.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	var all []adminapi.Endpoint
	for _, n := range networks {
		hosts, err := a.cluster.AllEndpoints(ctx, n.ID)
		if err != nil {
			return nil, err
		}
		for _, h := range hosts {
			for _, e := range h.Endpoints {
				out := adminapi.Endpoint{
					ID: e.ID, Network: n.Name, NetworkID: n.ID, Host: members.Hosts[h.Host].Name, HostID: h.Host, MAC: e.MAC, Addrs: e.Addrs,
				}
				if c := e.Container; c != nil {
					out.Container, out.ContainerID, out.Aliases, out.Labels = c.Name, c.ID, c.Aliases, c.Labels
				}
				all = append(all, out)
			}
		}
	}
	slices.SortFunc(all, func(a, b adminapi.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Container, b.Container), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}
