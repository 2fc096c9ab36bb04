package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/store"
)

// expectation is a copy of the cluster's network that Docker is about to make.
type expectation struct{ network, taken string }

// Expect announces that Docker is about to create a copy of the cluster's network with this id: until done is
// called, a network with exactly these subnets is bound to that network, or refused if the cluster has it no
// more. done takes the id of what Docker has created, if it has: a network with these subnets that a user creates at the same
// moment is no copy. Nothing of this is seen in the Docker network: Compose refuses networks with options that its file does not have.
func (d *Driver) Expect(id string, pools []netip.Prefix) (done func(ctx context.Context, created string)) {
	key, e := fmt.Sprint(pools), &expectation{network: id}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expected[key] = e
	return func(ctx context.Context, created string) {
		d.mu.Lock()
		taken := e.taken
		if d.expected[key] == e {
			delete(d.expected, key)
		}
		d.mu.Unlock()
		if taken != "" && taken != created {
			d.noCopy(ctx, taken)
		}
	}
}

// expects is the id of the cluster's network of which a copy with these subnets is expected, if any. The first network with
// these subnets has it: a second one is refused when it is bound.
func (d *Driver) expects(pools []netip.Prefix, dockerID string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.expected[fmt.Sprint(pools)]
	if e == nil {
		return ""
	}
	if e.taken == "" {
		e.taken = dockerID
	}
	return e.network
}

// noCopy notes that a network was made by a user.
func (d *Driver) noCopy(ctx context.Context, dockerID string) {
	n, err := d.bound(ctx, dockerID)
	if err != nil {
		return // it could not be made
	}
	defer n.lock.Release()
	next := n.rec
	next.Copied, next.Unnamed = false, d.named
	n.note(func() {
		if d.named && n.looked == nil {
			n.looked = make(chan struct{})
		}
	})
	ctx, cancel := undoing(ctx)
	defer cancel()
	if err := d.put(ctx, store.LocalBindingKey(dockerID), next); err != nil {
		d.log.Warn("a network that a user made is taken for a copy after a restart", "docker_id", dockerID, "err", err)
	}
	n.setRecord(next)
}

// Drop notes that the agent itself removes a Docker network: its removal then says nothing about what
// the user wants of the cluster's network. It returns ErrUnknown if the network is not bound here.
func (d *Driver) Drop(ctx context.Context, dockerID string) error {
	return d.setDropped(ctx, dockerID, true)
}

// Keep takes Drop back, because Docker would not remove the network.
func (d *Driver) Keep(ctx context.Context, dockerID string) error {
	return d.setDropped(ctx, dockerID, false)
}

func (d *Driver) setDropped(ctx context.Context, dockerID string, dropped bool) error {
	n, err := d.bound(ctx, dockerID)
	if err != nil {
		return err
	}
	defer n.lock.Release()
	next := n.rec
	next.Dropped = dropped
	if err := d.put(ctx, store.LocalBindingKey(dockerID), next); err != nil {
		return err
	}
	n.setRecord(next)
	return nil
}

// End is DeleteNetwork for a network that Docker removed without telling.
func (d *Driver) End(ctx context.Context, dockerID string) error {
	return d.DeleteNetwork(ctx, &network.DeleteNetworkRequest{NetworkID: dockerID})
}

// SetName notes the name that a network has in the cluster.
func (d *Driver) SetName(ctx context.Context, dockerID, name string) error {
	n, err := d.bound(ctx, dockerID)
	if err != nil {
		return err
	}
	defer n.lock.Release()
	n.look()
	if n.rec.Name == name && !n.rec.Unnamed {
		return nil
	}
	next := n.rec
	next.Name, next.Unnamed = name, false
	if err := d.put(ctx, store.LocalBindingKey(dockerID), next); err != nil {
		return err
	}
	n.setRecord(next)
	return nil
}

// Attached tells the endpoints of this host that are not being deleted: Docker's network id to endpoint ids.
func (d *Driver) Attached() map[string][]string {
	all := map[string][]string{}
	for _, n := range d.all() {
		n.mu.Lock()
		for id, e := range n.endpoints {
			if !e.Deleting && !n.gone && !n.rec.Removing {
				all[n.rec.DockerID] = append(all[n.rec.DockerID], id)
			}
		}
		n.mu.Unlock()
	}
	return all
}

// Described tells which joined endpoints of this host there are: endpoint id to who has it, as far as that is known.
func (d *Driver) Described() map[string]*store.Container {
	all := map[string]*store.Container{}
	for _, n := range d.all() {
		n.mu.Lock()
		for id, e := range n.endpoints {
			if e.Joined {
				all[id] = e.Container
			}
		}
		n.mu.Unlock()
	}
	return all
}

// Describe notes who has an endpoint, and tells the other hosts. An endpoint that is gone is no error.
func (d *Driver) Describe(ctx context.Context, dockerID, endpointID string, c store.Container) error {
	n, err := d.bound(ctx, dockerID)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	defer n.lock.Release()
	e, ok := n.endpoints[endpointID]
	if !ok || e.Deleting || (e.Container != nil && reflect.DeepEqual(*e.Container, c)) {
		return nil
	}
	next := *e
	next.Container = &c
	if err := d.put(ctx, e.key(), next); err != nil {
		return err
	}
	n.set(e, next)
	d.tellView(n, e)
	return d.change(ctx, n, dataplane.Change{}) // it may send from other link-local addresses, and is found by them
}

// EndEndpoint removes an endpoint that Docker has forgotten without telling, and gives its addresses back
// whoever chose them. An endpoint that is gone is no error.
func (d *Driver) EndEndpoint(ctx context.Context, dockerID, endpointID string) error {
	n, err := d.bound(ctx, dockerID)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	defer n.lock.Release()
	e, ok := n.endpoints[endpointID]
	if !ok || e.Deleting {
		return nil // what is being deleted, Sync finishes
	}
	n.note(func() {
		e.Reserved = nil
		for _, p := range e.Addrs {
			if pool, ok := n.poolOf(p.Addr()); ok {
				e.Reserved = append(e.Reserved, netip.PrefixFrom(p.Addr(), pool.Bits()))
			}
		}
	})
	return d.removeEndpoint(ctx, n, e)
}
