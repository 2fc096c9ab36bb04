package driver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
)

// peersLimit is how long a container waits for the network's peers to be read: as long as its kernel would wait
// before it repeats a question for a neighbour that no host could answer.
const peersLimit = time.Second

// Run tells the data plane what the view learns of other hosts, until ctx ends.
func (d *Driver) Run(ctx context.Context) error {
	var forwarding sync.WaitGroup
	d.mu.Lock()
	d.forward = func(n *segment) {
		forwardCtx, stop := context.WithCancel(ctx)
		n.stop = stop
		forwarding.Go(func() {
			defer stop()
			d.forwardPeers(forwardCtx, n)
		})
	}
	d.mu.Unlock()
	for _, n := range d.all() {
		if n.take(ctx) != nil {
			break // ctx has ended
		}
		if len(n.endpoints) > 0 && !n.gone {
			d.follow(n)
		}
		n.lock.Release()
	}
	for ctx.Err() == nil {
		select {
		case <-d.view.Carries(): // new containers get another MTU
			d.Refit(ctx)
		case <-ctx.Done():
		}
	}
	d.mu.Lock()
	d.forward = nil // none begins any more
	d.mu.Unlock()
	forwarding.Wait()
	return context.Cause(ctx)
}

// follow begins to watch the network's peers, once; its lock is held.
func (d *Driver) follow(n *segment) {
	if n.rec.Cut != "" {
		return
	}
	n.stream.Follow()
	d.mu.Lock()
	defer d.mu.Unlock()
	if n.stop == nil && d.forward != nil {
		d.forward(n)
	}
}

func (n *segment) unfollow() {
	n.stream.Unfollow()
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

// forwardPeers tells the data plane what is new of a network's peers, until ctx ends.
func (d *Driver) forwardPeers(ctx context.Context, n *segment) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.stream.News():
		}
		if n.take(ctx) != nil {
			return // ctx has ended
		}
		if !n.gone && !n.rec.Removing && ctx.Err() == nil {
			if err := d.change(ctx, n, dataplane.Change{}); err != nil {
				d.log.Warn("peers are applied as soon as the data plane is back", "network", n.rec.title(), "err", err)
			}
		}
		n.lock.Release()
	}
}

// awaitPeers waits until the peers of a network whose watch has just begun were read once: what a container asks at
// once would find nobody, and be asked again a second later. The other hosts must have been read, too: their MTU is the
// container's. Without the store the last known peers and hosts must do.
func (d *Driver) awaitPeers(ctx context.Context, dockerID string) {
	n, ok := d.find(dockerID)
	if !ok {
		return
	}
	limit := time.NewTimer(peersLimit)
	defer limit.Stop()
	for _, read := range []<-chan struct{}{d.view.HostsRead(), n.stream.Known()} {
		if read == nil {
			continue
		}
		select {
		case <-read:
		case <-ctx.Done():
			return
		case <-limit.C:
			return
		}
	}
}

// forgetPeers ends the watch of a network that has no endpoint left here; its lock is held.
func (d *Driver) forgetPeers(ctx context.Context, n *segment) error {
	n.unfollow()
	return errors.Join(d.change(ctx, n, dataplane.Change{}), n.stream.Forget(ctx))
}

// idle says that copies of peers are left though no endpoint here needs them; the network's lock is held.
func (n *segment) idle() bool { return len(n.endpoints) == 0 && n.stream.Stale() }

// tellView tells the view of an endpoint of this host as it is now; the network's lock is held.
func (d *Driver) tellView(n *segment, e *endpoint) {
	if e.Deleting || n.rec.Cut != "" {
		d.view.DropEndpoint(n.rec.Network, e.ID)
		return
	}
	d.view.SetEndpoint(n.rec.Network, e.published(), e.Joined)
}

// change gives the data plane what is new in a network, whose lock is held: c, and what the view has to tell. Its cost is that of the change, unless the
// data plane may not know all that it was told: then it is given the whole.
func (d *Driver) change(ctx context.Context, n *segment, c dataplane.Change) error {
	if n.unsure || n.rec.Cut != "" {
		return d.apply(ctx, n)
	}
	c.Network = n.rec.Network
	delta := n.stream.Take()
	c.Peers = delta.Peers
	for _, id := range delta.Local {
		e := n.endpoints[id]
		if e != nil && !e.Deleting && !slices.ContainsFunc(c.Local, func(l dataplane.Endpoint) bool { return l.ID == id }) {
			c.Local = append(c.Local, n.planeEndpoint(e))
		}
	}
	if len(c.Local)+len(c.LocalGone)+len(c.Peers) == 0 {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, planeLimit)
	defer cancel()
	err := d.dp.Apply(bounded, c)
	if errors.Is(err, dataplane.ErrUnknownNetwork) {
		return d.apply(ctx, n)
	}
	n.unsure = err != nil
	return err
}

// planeEndpoint is an endpoint as the data plane sees it, with the link-local addresses that it owns; the network's lock is held.
func (n *segment) planeEndpoint(e *endpoint) dataplane.Endpoint {
	local := e.plane()
	local.Addrs = append(local.Addrs, n.stream.LinkLocal(e.ID)...)
	return local
}
