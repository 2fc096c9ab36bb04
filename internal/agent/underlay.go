package agent

import (
	"context"
	"errors"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/notrack"
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

// untrackEvery is how often the rules that keep conntrack away from the tunnels are looked at: a firewall that is loaded again
// may remove them.
const untrackEvery = time.Minute

// keepTunnels keeps the kernel's connection tracking away from the tunnels' packets, until ctx ends, and tells when Docker's swarm
// uses their port. The rules stay, as the tunnels do.
func (a *agent) keepTunnels(ctx context.Context) error {
	changed := a.underlay.Subscribe(ctx)
	ticker := time.NewTicker(untrackEvery)
	defer ticker.Stop()
	said, told := "", ""
	for {
		err := a.untrack()
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != said && err != nil {
			a.log.Warn("conntrack has entries for the tunnels' packets; containers talk all the same", "err", err)
		}
		said = text
		if taken := a.portTaken(ctx); taken != told {
			if told = taken; taken != "" {
				a.log.Error(taken)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-changed:
		}
	}
}

// portTaken says that another program or Docker's swarm uses the tunnels' port and can't share it; empty if nobody is known to.
func (a *agent) portTaken(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, portAnswer)
	defer cancel()
	f := a.TunnelPort().Check().Look(ctx)
	if f.State != adminapi.CheckBad {
		return ""
	}
	return f.Saw + ": " + f.Follows + ": " + f.Cure
}

// portAnswer bounds what Docker is asked about its swarm.
const portAnswer = 5 * time.Second

func (a *agent) untrack() error {
	if a.cfg.TrackTunnels {
		if err := notrack.Remove(); !errors.Is(err, notrack.ErrUnsupported) {
			return err
		}
		return nil
	}
	u := a.where()
	if !u.Addr.IsValid() {
		return nil
	}
	return notrack.Ensure(u.Addr, a.cfg.VXLANPort)
}
