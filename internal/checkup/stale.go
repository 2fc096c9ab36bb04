package checkup

import (
	"context"
	"fmt"

	"github.com/socketplane/socketplane/internal/janitor"
	"github.com/socketplane/socketplane/store"
)

// stale says what waits to be removed.
func (c *Checkup) stale(ctx context.Context) ([]string, error) {
	var found []string
	if c.parts.Pending(ctx) {
		found = append(found, "something that was removed waits for the store or the switch")
	}
	networks, unread, err := c.parts.Cluster.BoundNetworks(ctx)
	if err != nil {
		return nil, err
	}
	_, unreadPools, err := c.parts.Cluster.AllPools(ctx)
	if err != nil {
		return nil, err
	}
	for _, u := range []store.Unreadable{unread, unreadPools} {
		for _, why := range u {
			found = append(found, why.Error())
		}
	}
	members, err := c.parts.Cluster.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	left, err := janitor.Leftovers(ctx, c.parts.Cluster, members, c.parts.Config.HostExpiry, c.parts.Config.GarbageGrace)
	if err != nil {
		return nil, err
	}
	found = append(found, left...)
	for _, n := range networks {
		if n.State == store.Deleting {
			found = append(found, fmt.Sprintf("network %s is removed, but %d hosts still have it", n.Title(), len(n.Bindings.Present())))
		}
	}
	return found, nil
}
