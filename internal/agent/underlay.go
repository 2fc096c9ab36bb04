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

// followUnderlay tells the parts that need it where this host's tunnels end, whenever that changes, until ctx ends. last is what
// they were made with.
func (a *agent) followUnderlay(ctx context.Context, last underlay.Underlay) {
	changed := a.underlay.Subscribe(ctx)
	for {
		if u := a.where(); u != last && u.Addr.IsValid() {
			a.plane.SetUnderlay(u)
			a.driver.Refit(ctx)
			moved := u
			moved.MTU = last.MTU
			if moved != last && a.storage.managed != nil {
				a.storage.managed.Move(u.Addr, u.Dev)
			}
			last = u
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
