package agent

import (
	"context"

	"github.com/socketplane/socketplane/internal/underlay"
)

// where is the underlay in use; its Addr is invalid while the host has had no address.
func (a *agent) where() underlay.Underlay {
	u, _ := a.underlay.Current()
	return u
}

// followUnderlay tells the parts that need it where this host's tunnels end, whenever that changes, until ctx ends.
func (a *agent) followUnderlay(ctx context.Context) error {
	changed := a.underlay.Subscribe(ctx)
	for {
		if u := a.where(); u.Addr.IsValid() {
			a.plane.SetUnderlay(u)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
