package checkup

import (
	"context"
	"errors"
	"time"

	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/notrack"
)

// tunnelChecks look at what tunnels need of the host, beside their address.
func (c *Checkup) tunnelChecks() []doctor.Check {
	return []doctor.Check{
		c.TunnelPort().Check(),
		doctor.Tracking(c.parts.Config.TrackTunnels, c.lookedRules),
		doctor.OwnLinks(c.lookedStrays, func() (string, time.Time) {
			drift := c.parts.Plane.Status().Drift
			return drift.Stray, drift.StraysAt
		}),
		doctor.ContainerMTU(c.parts.Driver.MTU, c.parts.MTUTroubles),
	}
}

// TunnelPort looks who else uses the tunnels' port.
func (c *Checkup) TunnelPort() doctor.TunnelPort {
	p := doctor.TunnelPort{Port: c.parts.Config.VXLANPort, Tunnel: func() string { return string(c.parts.Plane.Status().Tunnel) }}
	p.Others = func(ctx context.Context) ([]doctor.VXLANUser, error) {
		others, err := c.parts.Links.OtherVXLANs(ctx, c.parts.Config.VXLANPort)
		var users []doctor.VXLANUser
		for _, o := range others {
			users = append(users, doctor.VXLANUser{Name: o.Name, Exclusive: o.Exclusive})
		}
		return users, err
	}
	if c.parts.Docker != nil {
		p.Swarm = func(ctx context.Context) (doctor.Swarm, error) {
			s, err := c.parts.Docker.Swarm(ctx)
			return doctor.Swarm{Active: s.Active, Port: s.DataPathPort}, err
		}
	}
	return p
}

func (c *Checkup) lookedRules() (there, cant bool, err error) {
	there, err = notrack.Right(c.where().Addr, c.parts.Config.VXLANPort)
	return there, errors.Is(err, notrack.ErrUnsupported), err
}

func (c *Checkup) lookedStrays(ctx context.Context) ([]string, error) {
	strays, err := c.parts.Links.Strays(ctx, true, c.parts.Switch.Bridge())
	var found []string
	for _, s := range strays {
		found = append(found, s.What+" on "+s.Link)
	}
	return found, err
}
