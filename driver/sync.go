package driver

import (
	"context"
	"errors"
	"strings"

	"github.com/socketplane/socketplane/store"
)

// restore reads what the host's own store remembers.
func (d *Driver) restore(ctx context.Context) error {
	here := map[string]bool{}
	err := each(ctx, d.local, store.LocalBindings, func(b binding) {
		n := d.newSegment(b)
		d.networks[b.DockerID] = n
		here[b.Network] = true
		if b.Cut != "" {
			d.cut[b.DockerID] = b.Pools
		}
	})
	if err != nil {
		return err
	}
	err = each(ctx, d.local, store.LocalRemovals, func(r Removal) { d.removals[r.DockerID] = r })
	if err != nil {
		return err
	}
	var orphans []string // of networks that are not here: what a crash in the middle of their removal has left
	err = each(ctx, d.local, store.LocalEndpoints, func(e endpoint) {
		d.lastPort = max(d.lastPort, e.Port)
		n, ok := d.networks[e.DockerID]
		if !ok {
			orphans = append(orphans, e.key())
			return
		}
		d.ports[e.Port] = true
		n.add(&e)
	})
	if err != nil {
		return err
	}
	for _, n := range d.networks {
		d.view.SetNetwork(n.seen())
		for _, e := range n.endpoints {
			d.tellView(n, e)
		}
	}
	err = d.view.Keep(ctx, func(network string) bool { return here[network] })
	if err != nil || len(orphans) == 0 {
		return err
	}
	d.log.Info("removing records of networks that are not on this host", "records", len(orphans), "first", strings.TrimPrefix(orphans[0], store.Root))
	return d.drop(ctx, orphans...)
}

// Used says whether this host's Docker has networks of ours, as the host's own store tells. One that Docker has removed and the cluster could not
// be told of is none: nothing on this host needs it.
func Used(ctx context.Context, local store.KV) (used bool, err error) {
	err = each(ctx, local, store.LocalBindings, func(b binding) { used = used || !b.Removing })
	return used, err
}

// each decodes all records under a prefix of the host's own store.
func each[T any](ctx context.Context, kv store.KV, prefix string, do func(T)) error {
	entries, err := kv.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, e := range entries {
		record, err := store.Decode[T](e)
		if err != nil {
			return err
		}
		do(record)
	}
	return nil
}

// Replay gives the data plane every network that the host's own store remembers, as it was last
// known. The agent calls it once, before the data plane removes what nobody wants.
func (d *Driver) Replay(ctx context.Context) {
	for _, n := range d.all() {
		d.reapply(ctx, n)
	}
}

// reapply gives the data plane the network as it is now.
func (d *Driver) reapply(ctx context.Context, n *segment) {
	if err := n.take(ctx); err != nil {
		d.log.Warn("network is not applied", "network", n.title(), "err", err)
		return
	}
	defer n.lock.Release()
	if n.gone || n.rec.Removing {
		return
	}
	if err := d.apply(ctx, n); err != nil {
		d.log.Warn("network is applied as soon as the data plane is back", "network", n.rec.title(), "err", err)
	}
}

// Sync finishes what handlers could not, and undoes bindings of this host that its
// journal does not know (a crash in CreateNetwork). It can be called at any time.
func (d *Driver) Sync(ctx context.Context) error {
	var errs []error
	for _, n := range d.all() {
		errs = append(errs, d.syncNetwork(ctx, n))
	}
	return errors.Join(append(errs, d.syncBindings(ctx))...)
}

func (d *Driver) syncNetwork(ctx context.Context, n *segment) error {
	if err := n.take(ctx); err != nil {
		return err
	}
	defer n.lock.Release()
	if n.gone {
		return nil
	}
	var errs []error
	for _, e := range n.index.deleting {
		errs = append(errs, d.removeEndpoint(ctx, n, e))
	}
	switch {
	case n.rec.Removing:
		errs = append(errs, d.finishRemoval(ctx, n))
	case n.idle():
		errs = append(errs, d.forgetPeers(ctx, n))
	}
	return errors.Join(errs...)
}

func (d *Driver) syncBindings(ctx context.Context) error {
	d.mu.Lock()
	leaked := d.leaked
	d.leaked = false
	d.mu.Unlock()
	err := d.endUnknown(ctx)
	d.noteLeak(leaked && err != nil)
	return err
}

// endUnknown ends bindings of this host that are neither known here nor being made, and compares the others. The
// cluster is asked first: what is made meanwhile is known when it is looked for. Of other hosts nothing is read.
func (d *Driver) endUnknown(ctx context.Context) error {
	networks, unread, err := d.cluster.OwnNetworks(ctx)
	if err != nil {
		return err
	}
	d.noteUnread(unread.Err())
	errs := []error{d.rejoin(ctx, networks)}
	for _, n := range networks {
		switch id := n.DockerID; {
		case id == "":
		case !d.known(id):
			errs = append(errs, d.endUnfinished(ctx, n.Network, id))
		default:
			errs = append(errs, d.renumber(ctx, id, n.Network))
		}
	}
	return errors.Join(errs...)
}

// noteUnread says once which networks' records can't be read: their bindings are not compared.
func (d *Driver) noteUnread(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unread.Note(err)
}

// endUnfinished ends the binding of a network that is not known here. Docker's user may be trying to make it again at
// this moment, and would be told that it is there.
func (d *Driver) endUnfinished(ctx context.Context, n store.Network, dockerID string) error {
	if err := d.begin(ctx, dockerID); err != nil {
		return err
	}
	defer d.end(dockerID)
	if _, ok := d.find(dockerID); ok {
		return nil
	}
	d.log.Info("ending a network of this host that was never finished", "network", n.Title(), "docker_id", dockerID)
	return d.cluster.Unbind(ctx, n.ID, dockerID)
}

// renumber gives a network the VNI that the cluster has for it. It was another one before the host's networks were taken along to this
// cluster, or before the network was removed and made again while this host was off. If it was made again under another name, it
// is not the network that this host has: that one keeps its VNI, and so a segment of its own, until the mirror cuts it off.
func (d *Driver) renumber(ctx context.Context, dockerID string, now store.Network) error {
	n, err := d.bound(ctx, dockerID)
	if errors.Is(err, ErrUnknown) {
		return nil // being made or removed
	}
	if err != nil {
		return err
	}
	defer n.lock.Release()
	if n.rec.VNI == now.VNI || d.another(n.rec, now) {
		return nil
	}
	next := n.rec
	next.VNI = now.VNI
	if err := d.put(ctx, store.LocalBindingKey(dockerID), next); err != nil {
		return err
	}
	d.log.Info("network has another VNI in this cluster", "network", n.rec.title(), "vni", now.VNI, "former", n.rec.VNI)
	n.setRecord(next)
	return d.apply(ctx, n)
}

// another says that the cluster's record is that of a network which was made with the subnets of the one that is here, after that one was
// removed. Where the agent does not know Docker's names, networks are the same if their subnets are.
func (d *Driver) another(here binding, now store.Network) bool {
	return d.named && !here.Asked && here.Name != "" && here.Name != now.Name
}

// rejoin binds networks that are here, and of which the cluster does not know that they are: this host was taken for gone, and
// is back.
func (d *Driver) rejoin(ctx context.Context, networks []store.OwnNetwork) error {
	var errs []error
	for _, n := range networks {
		if n.DockerID != "" || n.State == store.Deleting || n.Away {
			continue
		}
		for _, here := range d.all() {
			if here.network == n.ID {
				errs = append(errs, d.rejoinOne(ctx, here, n.Network))
			}
		}
	}
	return errors.Join(errs...)
}

func (d *Driver) rejoinOne(ctx context.Context, n *segment, now store.Network) error {
	if err := n.take(ctx); err != nil {
		return err
	}
	defer n.lock.Release()
	if n.gone || n.rec.Removing || n.rec.Cut != "" || d.another(n.rec, now) {
		return nil
	}
	b := store.Binding{ID: n.network, DockerID: n.rec.DockerID, Pools: n.rec.Pools, Internal: n.rec.Internal}
	if _, err := d.cluster.Bind(ctx, b); err != nil {
		return err
	}
	d.log.Warn("the cluster had forgotten that this host has a network; it is told again", "network", n.rec.title())
	d.view.Publish(n.network)
	return nil
}

func (d *Driver) known(dockerID string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.networks[dockerID] != nil || d.binding[dockerID] != nil
}

// Pending says whether Sync has something to finish.
func (d *Driver) Pending() bool {
	d.mu.Lock()
	leaked := d.leaked
	d.mu.Unlock()
	if leaked {
		return true
	}
	for _, n := range d.all() {
		n.mu.Lock()
		pending := !n.gone && (n.rec.Removing || n.idle())
		for _, e := range n.endpoints {
			pending = pending || e.Deleting
		}
		n.mu.Unlock()
		if pending {
			return true
		}
	}
	return false
}
