package checkup

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/probe"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
	"github.com/socketplane/socketplane/store"
)

// askConsul asks the Consul at an address who leads it.
func askConsul(ctx context.Context, address string) error {
	err := probe.Consul(ctx, address)
	if errors.Is(err, probe.ErrNoLeader) {
		return fmt.Errorf("%w: %w", store.ErrNoLeader, err)
	}
	return err
}

// stations asks a link's segment who has an address of this host, as a machine does before it takes one: with no sender's address (RFC 5227).
func stations(ctx context.Context, dev string, own netip.Addr) ([]string, error) {
	macs, err := probe.Neighbours(ctx, dev, netip.IPv4Unspecified(), own)
	if errors.Is(err, probe.ErrNoAnswer) {
		return nil, nil
	}
	return macs, err
}

func (c *Checkup) lookedWay(peers func(context.Context) ([]doctor.Peer, error)) doctor.Way {
	return doctor.Way{
		Links: doctor.HostLinks, Underlay: c.lookedUnderlay, VXLANPort: c.parts.Config.VXLANPort, Hosts: peers,
		Tunnel: func(ctx context.Context, to netip.Addr, size int) (doctor.Answer, error) {
			n, from, err := c.parts.Plane.Probe(ctx, to, size)
			switch {
			case errors.Is(err, ovs.ErrNoTunnel):
				err = doctor.ErrNoTunnel
			case errors.Is(err, ovs.ErrNoAnswer):
				err = doctor.ErrNoAnswer
			}
			return doctor.Answer{Size: n, Host: from.String()}, err
		},
		Echo: probe.Echo, Refused: probe.Refused, Route: c.parts.Links.NextHop,
		Neighbours: func(ctx context.Context, dev string, to netip.Addr) ([]string, error) {
			macs, err := probe.Neighbours(ctx, dev, c.where().Addr, to)
			if errors.Is(err, probe.ErrNoAnswer) {
				err = doctor.ErrNoAnswer
			}
			return macs, err
		},
		Bridge: c.bridgeState,
		HostOf: func(id string) string { return pipeline.ProbeMAC(id).String() },
	}
}

func (c *Checkup) lookedClocks(peers func(context.Context) ([]doctor.Peer, error)) doctor.Check {
	way := c.lookedWay(peers)
	return doctor.Clocks(doctor.ClockDeps{
		Hosts: peers, Synced: probe.Synced,
		Ask: func(ctx context.Context, to netip.Addr) (time.Duration, error) {
			ahead, err := probe.Clock(ctx, to)
			if errors.Is(err, probe.ErrNoAnswer) {
				err = doctor.ErrNoAnswer
			}
			return ahead, err
		},
		Reached: func(ctx context.Context, to netip.Addr) bool { return way.Reached(ctx, to) },
	})
}
