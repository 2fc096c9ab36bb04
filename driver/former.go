package driver

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/socketplane/socketplane/store"
)

const (
	// formerLimit is how long the creation of a network waits for the end of a former one with its subnets.
	formerLimit = 2 * time.Second
	formerEvery = 50 * time.Millisecond
)

// awaitFormer waits, for a bounded time, while a network with these subnets is being removed: because of this host's Docker, for which the
// mirror has not decided yet why, or from all hosts. `docker network rm` and `docker network create` in one go, as Compose does when the
// options of a network change, would otherwise join the former network, and be refused or get its options. Only the mirrors' loops are
// waited for, and what does not end in time is left to Bind.
func (d *Driver) awaitFormer(ctx context.Context, pools []netip.Prefix) {
	ctx, cancel := context.WithTimeout(ctx, formerLimit)
	defer cancel()
	tick := time.NewTicker(formerEvery)
	defer tick.Stop()
	for d.beingRemoved(ctx, pools) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// beingRemoved says whether the network that has one of these subnets is on its way out. An error is for Bind to report.
func (d *Driver) beingRemoved(ctx context.Context, pools []netip.Prefix) bool {
	for _, cidr := range pools {
		p, err := d.cluster.Pool(ctx, cidr)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false
		}
		if p.Network == "" {
			continue
		}
		if slices.ContainsFunc(d.Removals(), func(r Removal) bool { return r.Network == p.Network }) {
			return true
		}
		if n, err := d.cluster.Network(ctx, p.Network); err == nil && n.State == store.Deleting {
			return true
		}
	}
	return false
}
