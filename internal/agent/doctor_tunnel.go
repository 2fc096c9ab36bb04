package agent

import (
	"context"
	"errors"
	"time"

	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/notrack"
)

// tunnelChecks look at what tunnels need of the host, beside their address.
func (a *agent) tunnelChecks() []doctor.Check {
	return []doctor.Check{
		a.lookedPort().Check(),
		doctor.Tracking(a.cfg.TrackTunnels, a.lookedRules),
		doctor.OwnLinks(a.lookedStrays, func() (string, time.Time) {
			drift := a.plane.Status().Drift
			return drift.Stray, drift.StraysAt
		}),
		doctor.ContainerMTU(a.driver.MTU, a.MTUTroubles),
	}
}

func (a *agent) lookedPort() doctor.TunnelPort {
	p := doctor.TunnelPort{Port: a.cfg.VXLANPort, Tunnel: func() string { return string(a.plane.Status().Tunnel) }}
	p.Others = func(ctx context.Context) ([]doctor.VXLANUser, error) {
		others, err := a.links.OtherVXLANs(ctx, a.cfg.VXLANPort)
		var users []doctor.VXLANUser
		for _, o := range others {
			users = append(users, doctor.VXLANUser{Name: o.Name, Exclusive: o.Exclusive})
		}
		return users, err
	}
	if a.docker != nil {
		p.Swarm = func(ctx context.Context) (doctor.Swarm, error) {
			s, err := a.docker.Swarm(ctx)
			return doctor.Swarm{Active: s.Active, Port: s.DataPathPort}, err
		}
	}
	return p
}

func (a *agent) lookedRules() (there, cant bool, err error) {
	there, err = notrack.Right(a.where().Addr, a.cfg.VXLANPort)
	return there, errors.Is(err, notrack.ErrUnsupported), err
}

func (a *agent) lookedStrays(ctx context.Context) ([]string, error) {
	strays, err := a.links.Strays(ctx, true, a.sw.Bridge())
	var found []string
	for _, s := range strays {
		found = append(found, s.What+" on "+s.Link)
	}
	return found, err
}
