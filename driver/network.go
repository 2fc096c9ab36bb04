package driver

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/internal/lock"
	"github.com/socketplane/socketplane/store"
)

// CreateNetwork binds a Docker network to the cluster's network with the same subnets
// or the given name, which is made if there is none.
func (d *Driver) CreateNetwork(ctx context.Context, r *network.CreateNetworkRequest) error {
	want, err := parseCreate(r, d.space)
	if err != nil {
		return err
	}
	mark, err := d.admit(ctx)
	if err != nil {
		return err
	}
	if err := d.dp.Ready(); err != nil {
		return err
	}
	if err := d.begin(ctx, r.NetworkID); err != nil {
		return err
	}
	defer d.end(r.NetworkID)
	if n, ok := d.find(r.NetworkID); ok && !n.removing() {
		return nil // a repetition
	}
	if other := d.cutOffWith(want); other != "" {
		return fmt.Errorf("%w: this host's docker network %.12s has that subnet, and was cut off from the cluster's: 'docker network rm %.12s' first",
			store.ErrInUse, other, other)
	}
	if want.ID = d.expects(want.Pools, r.NetworkID); want.ID == "" {
		d.awaitFormer(ctx, want.Pools)
	}
	got, err := d.cluster.Bind(ctx, want.Binding)
	if err != nil {
		d.noteLeak(errors.Is(err, store.ErrUnavailable)) // it may have taken effect
		return err
	}
	b := binding{
		Schema: store.Schema, DockerID: r.NetworkID, Network: got.ID, Name: got.Name, VNI: got.VNI,
		Pools: got.Pools, MTU: got.MTU, Internal: got.Internal, IfPrefix: want.ifPrefix, OwnIPAM: want.ownIPAM, Copied: want.ID != "", Engine: mark,
		Asked: want.Name != "", Unnamed: d.named && want.ID == "" && want.Name == "",
	}
	err = d.claimShared(ctx, want)
	if err == nil {
		err = d.put(ctx, store.LocalBindingKey(b.DockerID), b)
	}
	if err != nil {
		// Docker will not call DeleteNetwork. What can't be undone now, Sync undoes.
		ctx, cancel := undoing(ctx)
		defer cancel()
		undone := errors.Join(d.drop(ctx, store.LocalBindingKey(b.DockerID)), d.cluster.Unbind(ctx, got.ID, r.NetworkID))
		d.noteLeak(undone != nil)
		return errors.Join(err, undone)
	}
	n := d.newSegment(b)
	d.mu.Lock()
	d.view.SetNetwork(n.seen()) // before others find it and change it
	d.networks[b.DockerID] = n
	d.mu.Unlock()
	d.cancelRemovals(ctx, b.Network)
	d.log.Info("network is here", "network", b.title(), "docker_id", b.DockerID, "vni", b.VNI, "pools", b.Pools)
	return nil
}

// begin waits until nobody else makes or ends the network's binding, and notes that the caller does.
func (d *Driver) begin(ctx context.Context, dockerID string) error {
	for {
		d.mu.Lock()
		other := d.binding[dockerID]
		if other == nil {
			d.binding[dockerID] = make(chan struct{})
			d.mu.Unlock()
			return nil
		}
		d.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return fmt.Errorf("%w: network %.12s is being created or ended by another request: %w", ErrBadRequest, dockerID, ctx.Err())
		}
	}
}

func (d *Driver) end(dockerID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.binding[dockerID])
	delete(d.binding, dockerID)
}

// noteLeak makes Sync look soon for bindings that the journal does not know.
func (d *Driver) noteLeak(leaked bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leaked = d.leaked || leaked
}

// claimShared claims gateway and auxiliary addresses that Docker's own IPAM chose.
func (d *Driver) claimShared(ctx context.Context, want spec) error {
	if want.ownIPAM {
		return nil
	}
	for _, pool := range want.Pools {
		if gw, ok := want.gateways[pool]; ok && pool.Contains(gw) && !ipalloc.Pair(pool) {
			if err := d.cluster.SetGateway(ctx, pool, gw); err != nil {
				return err
			}
		}
		for _, aux := range want.shared[pool] {
			if !pool.Contains(aux) {
				continue
			}
			if err := d.addrs.ReserveShared(ctx, pool, aux); err != nil {
				return err
			}
		}
	}
	return nil
}

// DeleteNetwork ends a network on this host, and only there: whether it goes from the others too is decided after Docker
// was asked why it removed it (Removals). It succeeds when the intention is
// journalled: Docker never repeats it, so Sync finishes what can't be done now.
func (d *Driver) DeleteNetwork(ctx context.Context, r *network.DeleteNetworkRequest) error {
	n, ok := d.find(r.NetworkID)
	if !ok {
		return nil
	}
	if err := n.take(ctx); err != nil {
		return err
	}
	defer n.lock.Release()
	if n.gone {
		return nil
	}
	n.note(func() { n.rec.Removing = true })
	if err := d.putRemoval(ctx, n.rec); err != nil {
		return err
	}
	if err := d.finishRemoval(ctx, n); err != nil {
		d.log.Warn("network stays known to the cluster until the store answers", "network", n.rec.title(), "err", err)
	}
	return nil
}

// finishRemoval removes everything of a network that is being removed; the
// network's lock is held. It can be repeated.
func (d *Driver) finishRemoval(ctx context.Context, n *segment) error {
	n.unfollow()
	var errs []error
	for _, e := range n.endpoints {
		errs = append(errs, d.removeEndpoint(ctx, n, e))
	}
	errs = append(errs, d.dp.RemoveNetwork(ctx, n.rec.Network))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := d.cluster.Unbind(ctx, n.rec.Network, n.rec.DockerID); err != nil {
		return err
	}
	// The binding goes last: while it is there, this is repeated.
	if err := n.stream.Forget(ctx); err != nil {
		return err
	}
	if err := d.drop(ctx, store.LocalBindingKey(n.rec.DockerID)); err != nil {
		return err
	}
	n.note(func() { n.gone = true })
	n.stream.End()
	d.mu.Lock()
	delete(d.networks, n.rec.DockerID)
	delete(d.cut, n.rec.DockerID)
	d.view.DropNetwork(n.rec.DockerID)
	d.mu.Unlock()
	d.log.Info("network is gone from this host", "network", n.rec.title(), "docker_id", n.rec.DockerID)
	return nil
}

// bound returns the network with its lock held, or an error: ErrUnknown, or ErrBusy.
func (d *Driver) bound(ctx context.Context, dockerID string) (*segment, error) {
	n, ok := d.find(dockerID)
	if ok {
		if err := n.take(ctx); err != nil {
			return nil, err
		}
		if !n.gone && !n.rec.Removing {
			return n, nil
		}
		n.lock.Release()
	}
	return nil, fmt.Errorf("%w network %.12s: SocketPlane on this host has no record of it (was its state directory removed?): "+
		"'docker network rm' it and create it again", ErrUnknown, dockerID)
}

func (n *segment) removing() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rec.Removing
}

func (d *Driver) newSegment(b binding) *segment {
	n := &segment{
		network: b.Network, view: d.view, lock: lock.New(), rec: b, endpoints: map[string]*endpoint{}, index: newIndex(), stream: d.view.Stream(b.Network),
	}
	if d.named && b.Unnamed { // also after a restart
		n.looked = make(chan struct{})
	}
	return n
}

func (b binding) title() string {
	if b.Name != "" {
		return b.Name
	}
	return b.Network
}
