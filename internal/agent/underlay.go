package agent

import (
	"context"

	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/presence"
	"github.com/socketplane/socketplane/internal/underlay"
)

// where is the underlay in use; its Addr is invalid while the host has had no address.
func (a *agent) where() underlay.Underlay {
	u, _ := a.underlay.Current()
	return u
}

// buildPresence makes what tells the cluster of this host. Subnets are given to it when they are there.
func (a *agent) buildPresence() {
	deps := presence.Deps{
		Cluster: a.cluster, Local: a.local, Name: a.cfg.Name, Version: a.opts.Version.Version, VXLANPort: a.cfg.VXLANPort, Started: a.started,
		Where: a.where, Changed: a.underlay.Subscribe, Layout: a.roster.Layout, Alone: a.storage.kind == config.StoreBolt, Forgotten: func() { a.resync.Store(true) }, Logger: a.log,
	}
	if a.storage.managed != nil {
		deps.Admitted = a.storage.managed.Claim
	}
	a.presence = presence.New(deps)
}

// followUnderlay tells the parts that need it where this host's tunnels end, whenever that changes, until ctx ends. last is what
// they were made with.
func (a *agent) followUnderlay(ctx context.Context, last underlay.Underlay) {
	changed := a.underlay.Subscribe(ctx)
	for {
		a.redial()
		if u := a.where(); u != last && u.Addr.IsValid() {
			a.plane.SetUnderlay(u)
			moved := u
			moved.MTU = last.MTU
			if moved != last && a.storage.managed != nil {
				a.storage.managed.Move(u.Addr, u.Dev)
			}
			last = u
			a.driver.Refit(ctx) // the containers' MTU may be another one
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// redial gives up the store's connections from addresses that this host has lost: it waits for answers that never come, else.
func (a *agent) redial() {
	if a.storage.redial == nil {
		return
	}
	n, err := a.storage.redial()
	if err != nil {
		a.log.Warn("connections to the store from former addresses can't be found", "err", err)
	} else if n > 0 {
		a.log.Info("connections to the store are made again, as this host has lost the address that they came from", "connections", n)
	}
}
