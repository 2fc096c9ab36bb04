package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/store"
)

// Networks gives each of the cluster's networks. It lists networks and bindings once, reads each network's endpoints, one network after the other, and no claims of
// addresses. No endpoints are kept.
func (o *Operator) Networks(ctx context.Context, each func(adminapi.NetworkDetail) error) error {
	networks, unread, err := o.deps.Cluster.BoundNetworks(ctx)
	if err != nil {
		return err
	}
	members, err := o.deps.Cluster.Hosts(ctx)
	if err != nil {
		return err
	}
	for key, why := range unread {
		if id, is := strings.CutPrefix(key, store.NetworksPrefix); is { // doctor tells of bindings
			networks = append(networks, store.BoundNetwork{Network: store.Network{ID: id, State: unreadable, Nonce: why.Error()}})
		}
	}
	slices.SortFunc(networks, func(a, b store.BoundNetwork) int { return byName(a.Network, b.Network) })
	troubles := o.troubles()
	for _, n := range networks {
		d := adminapi.NetworkDetail{ID: n.ID, State: string(unreadable), Trouble: n.Nonce}
		if n.State != unreadable {
			c, err := o.count(ctx, n.Network, members, false)
			if err != nil {
				return err
			}
			d = o.shown(n, members, c, troubles)
		}
		if err := each(d); err != nil {
			return err
		}
	}
	return nil
}

// unreadable is the state of a network whose record this agent can't read.
const unreadable store.State = "unreadable"

// byName sorts networks by name, those without last by id.
func byName(a, b store.Network) int {
	return cmp.Or(cmp.Compare(strconv.FormatBool(a.Name == ""), strconv.FormatBool(b.Name == "")), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
}

// Network is one network with its addresses. It reads that network's records and the hosts.
func (o *Operator) Network(ctx context.Context, name string) (adminapi.NetworkDetail, error) {
	n, err := o.find(ctx, name)
	if err != nil {
		return adminapi.NetworkDetail{}, Spoken(err)
	}
	members, err := o.deps.Cluster.Hosts(ctx)
	if err != nil {
		return adminapi.NetworkDetail{}, err
	}
	c, err := o.count(ctx, n, members, true)
	if err != nil {
		return adminapi.NetworkDetail{}, err
	}
	return o.detail(ctx, n, members, c)
}

// Inspect is Network that gives each of its endpoints, too, and reads them once for both.
func (o *Operator) Inspect(ctx context.Context, name string, each func(adminapi.Endpoint) error) (adminapi.NetworkDetail, error) {
	n, err := o.find(ctx, name)
	if err != nil {
		return adminapi.NetworkDetail{}, Spoken(err)
	}
	members, err := o.deps.Cluster.Hosts(ctx)
	if err != nil {
		return adminapi.NetworkDetail{}, err
	}
	c := newCensus(n, members.Hosts, o.deps.MTU(), true)
	err = o.eachHost(ctx, n, members, true, func(of store.Endpoints) error {
		c.add(of)
		return giveEndpoints(n, of, members.Hosts[of.Host], each)
	})
	if err != nil {
		return adminapi.NetworkDetail{}, err
	}
	return o.detail(ctx, n, members, c)
}

// detail is the answer about one network, with its addresses.
func (o *Operator) detail(ctx context.Context, n store.Network, members store.Membership, c *census) (adminapi.NetworkDetail, error) {
	bindings, err := o.deps.Cluster.BoundTo(ctx, n.ID)
	if err != nil {
		return adminapi.NetworkDetail{}, Spoken(err)
	}
	d := o.shown(store.BoundNetwork{Network: n, Bindings: bindings}, members, c, o.troubles())
	d.Addresses, err = o.addressUse(ctx, n, members, c.addrs)
	return d, err
}

// count takes all endpoints of a network.
func (o *Operator) count(ctx context.Context, n store.Network, members store.Membership, addrs bool) (*census, error) {
	c := newCensus(n, members.Hosts, o.deps.MTU(), addrs)
	return c, o.eachHost(ctx, n, members, false, func(of store.Endpoints) error { c.add(of); return nil })
}

// eachHost gives each host's endpoints on a network.
func (o *Operator) eachHost(ctx context.Context, n store.Network, members store.Membership, labels bool, each func(store.Endpoints) error) error {
	return o.deps.Cluster.EachHost(ctx, n.ID, store.Walk{Hosts: len(members.Hosts), Labels: labels}, each)
}

// troubles are what is in the way of networks on this host, by the cluster's id.
func (o *Operator) troubles() map[string]string {
	troubles := map[string]string{}
	if o.deps.Mirror == nil {
		return troubles
	}
	for _, t := range o.deps.Mirror.Troubles() {
		if t.Network != "" {
			troubles[t.Network] = t.Text
		}
	}
	return troubles
}

// shown is a network as the command line shows it, without its addresses.
func (o *Operator) shown(n store.BoundNetwork, members store.Membership, c *census, troubles map[string]string) adminapi.NetworkDetail {
	d := detail(n, members, c)
	d.Trouble = troubles[n.ID]
	d.ContainerMTU, d.MTUNotes = cmp.Or(n.MTU, o.deps.MTU()), mtuNotes(n.Network, c)
	if o.deps.Mirror != nil {
		d.Note = o.deps.Mirror.Note(n.ID)
	}
	return d
}

// addressUse tells which hosts have how much of a network's pools.
func (o *Operator) addressUse(ctx context.Context, n store.Network, members store.Membership, published map[string][]netip.Addr) ([]adminapi.AddressUse, error) {
	var all []adminapi.AddressUse
	for _, pool := range n.Pools {
		use, err := o.deps.Addresses.Use(ctx, pool, published)
		if err != nil {
			return nil, err
		}
		var ofPool []adminapi.AddressUse
		for _, u := range use {
			host, _ := u.Owner.Host()
			ofPool = append(ofPool, adminapi.AddressUse{
				Pool: pool, Host: u.Owner.String(), Name: members.Hosts[host].Name, HandedOut: u.HandedOut, Static: u.Static,
				Resting: u.Resting, Spare: u.Spare, Here: u.Owner == o.deps.Cluster.Owner(),
			})
		}
		slices.SortStableFunc(ofPool, func(a, b adminapi.AddressUse) int { return cmp.Compare(a.Name, b.Name) })
		all = append(all, ofPool...)
	}
	return all, nil
}

// detail is what the records say of a network.
func detail(n store.BoundNetwork, members store.Membership, c *census) adminapi.NetworkDetail {
	d := adminapi.NetworkDetail{
		ID: n.ID, Name: n.Name, VNI: n.VNI, Pools: n.Pools, MTU: n.MTU, Internal: n.Internal,
		Shared: n.Declared != nil, State: shownState(n.State), Hosts: []adminapi.NetworkHost{},
	}
	for _, p := range n.Pools {
		d.IPv6 = d.IPv6 || p.Addr().Is6()
	}
	if n.Declared != nil {
		d.Options, d.Labels = n.Declared.Options, n.Declared.Labels
	}
	for _, n := range c.each {
		d.Endpoints += n
	}
	host := func(id, name string) {
		state, bound := "absent", n.Bindings[id]
		switch {
		case bound.DockerID != "":
			state = "present"
		case bound.Away:
			state = "away"
		}
		d.Hosts = append(d.Hosts, adminapi.NetworkHost{
			ID: id, Name: name, State: state, DockerID: bound.DockerID, Endpoints: c.each[id], Alive: members.Alive[id],
		})
	}
	for id, h := range members.Hosts {
		host(id, h.Name)
	}
	for _, id := range n.Bindings.Present() {
		if _, known := members.Hosts[id]; !known {
			host(id, "")
		}
	}
	slices.SortFunc(d.Hosts, func(a, b adminapi.NetworkHost) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return d
}

// shownState is a network's state for people: that a host looks whether any still has it concerns none of them.
func shownState(s store.State) string {
	if s == store.Active || s == store.Closing {
		return "active"
	}
	return string(s)
}

// exactly gives the networks that have the text as their name or their whole id, by one key each.
func (o *Operator) exactly(ctx context.Context, text string) (called, is *store.Network, err error) {
	one := func(n store.Network, err error) (*store.Network, error) {
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil
		}
		return &n, err
	}
	if called, err = one(o.deps.Cluster.NetworkNamed(ctx, text)); err != nil {
		return nil, nil, err
	}
	if store.ValidKey(store.NetworkKey(text)) != nil { // it can be no id
		return called, nil, nil
	}
	is, err = one(o.deps.Cluster.Network(ctx, text))
	return called, is, err
}

// find returns the network that a user means by a text: a name, an id, or the beginning of one network's id. Docker takes another network's id for a name;
// then the text means two networks, and a command must not choose. Only if no network has it exactly, all are listed.
func (o *Operator) find(ctx context.Context, text string) (store.Network, error) {
	none := fmt.Errorf("%w: the cluster has no network %s: see 'socketplane network ls'", store.ErrNotFound, text)
	if text == "" {
		return store.Network{}, none
	}
	called, is, err := o.exactly(ctx, text)
	switch {
	case err != nil:
		return store.Network{}, err
	case called != nil && is != nil && called.ID != is.ID:
		return store.Network{}, fmt.Errorf("%w: %s is the name of one network (id %s) and the id of another (%s): give the id of the first, "+
			"or the name or the beginning of the id of the second", store.ErrAmbiguous, text, called.ID, is.Title())
	case called != nil:
		return *called, nil
	case is != nil:
		return *is, nil
	}
	all, _, err := o.deps.Cluster.AllNetworks(ctx)
	if err != nil {
		return store.Network{}, err
	}
	var begun []store.Network
	for _, n := range all {
		if n.Name == text { // it is being removed, and its name is free for another already
			return n, nil
		}
		if strings.HasPrefix(n.ID, text) {
			begun = append(begun, n)
		}
	}
	if len(begun) == 1 {
		return begun[0], nil
	}
	return store.Network{}, none
}

// given is find where a whole id comes first: the command line gives that.
func (o *Operator) given(ctx context.Context, text string) (store.Network, error) {
	if _, is, err := o.exactly(ctx, text); err != nil || is != nil {
		if err != nil {
			return store.Network{}, err
		}
		return *is, nil
	}
	return o.find(ctx, text)
}
