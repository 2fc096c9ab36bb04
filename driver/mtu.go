package driver

import (
	"context"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/netopt"
	"github.com/socketplane/socketplane/store"
)

// MTU is what new containers get on a network without one of its own: what every host of the cluster can carry, as far as the
// hosts have told. It follows when a host's underlay changes; containers that run keep what they have. Hosts whose address is of the
// other IP family count, too, though no tunnel leads there: all hosts agree on one MTU, and while a cluster moves from IPv4 to IPv6, host
// by host, new containers already have what is right in the end.
func (d *Driver) MTU() int {
	mtu := d.dp.MTU()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.hosts {
		if h.MTU > 0 {
			mtu = min(mtu, dataplane.ContainerMTU(h.MTU, h.VTEP))
		}
	}
	return max(mtu, netopt.MinMTU)
}

// mtu is what new containers get on a network.
func (d *Driver) mtu(n *segment) int {
	if n.rec.MTU != 0 {
		return n.rec.MTU
	}
	return d.MTU()
}

// Refit gives the data plane all networks again, because what depends on this host's underlay has changed.
func (d *Driver) Refit(ctx context.Context) {
	for _, n := range d.all() {
		d.reapply(ctx, n)
	}
}

// hostsRead is closed when the other hosts' records have been read; nil when they were before, or nobody reads them.
func (d *Driver) hostsRead() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.read
}

// sameTunnels says whether the host is reached in the same way as before, with the same MTU.
func sameTunnels(a, b store.Host) bool { return a.VTEP == b.VTEP && a.MTU == b.MTU }
