package ipamdriver

import (
	"context"
	"net/netip"
)

// Propose names a subnet that overlaps no pool of the cluster and no connected route of any host. Nothing holds it:
// somebody else may take it first.
func (d *Driver) Propose(ctx context.Context, v6 bool) (netip.Prefix, error) {
	taken, err := d.takenSubnets(ctx)
	if err != nil {
		return netip.Prefix{}, err
	}
	for cidr := range d.free(taken, v6) {
		return cidr, nil
	}
	return netip.Prefix{}, d.errNoSubnet(taken.used, v6)
}
