package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/socketplane/socketplane/store"
)

// Docker tells a plugin no names, so a network is first bound to the cluster's network with its subnets. Two projects may
// have chosen one subnet at the same moment; when the names become known, one of the two has it. The other's Docker
// network is cut off: it stays in Docker, but has no part in the cluster's network any more.

// ErrCutOff says that a Docker network has no part in the cluster's network with its subnets.
var ErrCutOff = errors.New("network is cut off")

// nameLimit is how long a container waits until the name of a network that has just been made is known. The mirror
// usually knows it some ten milliseconds after `docker network create`.
const nameLimit = time.Second

// CutOff takes a Docker network of this host off the cluster's network that it was bound to: its containers are detached, new ones
// are refused with why, and its removal changes nothing in the cluster. It can be repeated, and returns ErrUnknown if
// the network is not here.
func (d *Driver) CutOff(ctx context.Context, dockerID, why string) error {
	n, err := d.bound(ctx, dockerID)
	if err != nil {
		return err
	}
	defer n.lock.Release()
	if n.rec.Cut != why {
		next := n.rec
		next.Cut, next.Unnamed = why, false
		if err := d.put(ctx, store.LocalBindingKey(dockerID), next); err != nil {
			return err
		}
		n.setRecord(next)
		n.isCut = false
		d.mu.Lock()
		d.cut[dockerID] = next.Pools
		d.mu.Unlock()
	}
	n.look()
	if n.isCut {
		return nil
	}
	n.unfollow()
	for id := range n.endpoints {
		d.view.DropEndpoint(n.rec.Network, id)
	}
	errs := []error{d.apply(ctx, n), d.cluster.Unbind(ctx, n.rec.Network, dockerID), n.stream.Forget(ctx)}
	for _, e := range n.endpoints {
		errs = append(errs, d.unreserve(ctx, n, e))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	n.isCut = true
	d.log.Warn("a docker network is cut off from the cluster's", "docker_id", dockerID, "network", n.rec.Network, "cause", why)
	return nil
}

// unreserve gives back the addresses that were claimed for an endpoint, which stays: its Docker chose them in a subnet that is
// another network's.
func (d *Driver) unreserve(ctx context.Context, n *segment, e *endpoint) error {
	for _, p := range e.Reserved {
		if err := d.addrs.Release(ctx, p.Masked(), p.Addr(), e.MAC.String()); err != nil {
			return err
		}
	}
	if len(e.Reserved) == 0 {
		return nil
	}
	next := *e
	next.Reserved = nil
	if err := d.put(ctx, e.key(), next); err != nil {
		return err
	}
	n.set(e, next)
	return nil
}

// whole is nil unless the network, whose lock is held, is cut off.
func (n *segment) whole() error {
	if n.rec.Cut == "" {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrCutOff, n.rec.Cut)
}

// cutOffWith is the Docker network of this host that was cut off and has one of these subnets, if any: the cluster's network with them
// can't be here beside it.
func (d *Driver) cutOffWith(want spec) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, pools := range d.cut {
		if id == want.DockerID {
			continue
		}
		for _, p := range want.Pools {
			if slices.ContainsFunc(pools, func(c netip.Prefix) bool { return c.Contains(p.Addr()) }) {
				return id
			}
		}
	}
	return ""
}

// Looked notes that the network's name was looked at: containers need not wait for it any more, also after a restart. A network that is not
// here is no error.
func (d *Driver) Looked(ctx context.Context, dockerID string) error {
	n, err := d.bound(ctx, dockerID)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	defer n.lock.Release()
	n.look()
	if !n.rec.Unnamed {
		return nil
	}
	next := n.rec
	next.Unnamed = false
	if err := d.put(ctx, store.LocalBindingKey(dockerID), next); err != nil {
		return err
	}
	n.setRecord(next)
	return nil
}

// look lets those go on who wait for the network's name; its lock is held.
func (n *segment) look() {
	n.note(func() {
		if n.looked != nil {
			close(n.looked)
			n.looked = nil
		}
	})
}

// awaitName waits for the name of a network that was made here a moment ago: it may belong to another network than the one with
// its subnets, and no container may talk to that one's.
func (d *Driver) awaitName(ctx context.Context, dockerID string) {
	n, ok := d.find(dockerID)
	if !ok {
		return
	}
	n.mu.Lock()
	looked := n.looked
	n.mu.Unlock()
	if looked == nil {
		return
	}
	select {
	case <-looked:
	case <-ctx.Done():
	case <-time.After(nameLimit):
	}
}
