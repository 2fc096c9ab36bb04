package driver

import (
	"context"

	"github.com/socketplane/socketplane/internal/netopt"
)

// MTU is what new containers get on a network without one of its own: what every host of the cluster can carry, as far as the
// hosts have told. It follows when a host's underlay changes; containers that run keep what they have.
func (d *Driver) MTU() int {
	mtu := d.dp.MTU()
	if carried := d.view.Carried(); carried > 0 {
		mtu = min(mtu, carried)
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
