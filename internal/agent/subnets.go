package agent

import (
	"context"
	"errors"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/internal/mirror"
	"github.com/socketplane/socketplane/internal/subnets"
	"github.com/socketplane/socketplane/plugin"
	"github.com/socketplane/socketplane/plugin/netapi"
)

// resolvConf is where Docker reads name servers, too.
const resolvConf = "/etc/resolv.conf"

// buildSubnets makes what keeps the cluster's subnets and those of this host apart.
func (a *agent) buildSubnets() {
	opts := subnets.Options{
		Hosts: a.roster, Driver: mirror.DriverName, Local: a.local, Publish: a.presence.Publish, Stirred: a.underlay.Subscribe,
		MTU: a.outwardMTU, ResolvConf: resolvConf, Logger: a.log,
		Changed: func() {
			if a.mirror != nil {
				a.mirror.Wake() // a copy may be possible now
			}
		},
	}
	if a.docker != nil { // else it would be an interface with nil in it
		opts.Docker = a.docker
	}
	a.subnets = subnets.New(a.cluster, a.links, opts)
	a.presence.SetSubnets(a.subnets)
}

// outward is the link by which packets of containers to the outside leave this host, and its MTU: that of the default route, else that of
// the tunnels. dev is empty if there is neither.
func (a *agent) outward(ctx context.Context) (dev string, mtu int, err error) {
	if dev, mtu, err = a.links.Outward(ctx); err != nil || dev != "" {
		return dev, mtu, err
	}
	at := a.where()
	return at.Dev, at.MTU, nil
}

// outwardMTU is what docker_gwbridge gets.
func (a *agent) outwardMTU(ctx context.Context) int {
	_, mtu, err := a.outward(ctx)
	if err != nil {
		a.log.Warn("the default route can't be read, so docker_gwbridge gets the MTU of the tunnels' link", "err", err)
		return a.where().MTU
	}
	return mtu
}

// joining is a network driver that calls before each Join.
type joining struct {
	plugin.NetworkDriver
	before func(context.Context)
}

// Join attaches an endpoint.
func (j joining) Join(ctx context.Context, r *network.JoinRequest) (*netapi.JoinResponse, error) {
	j.before(ctx)
	return j.NetworkDriver.Join(ctx, r)
}

// passPatience is how long after its start the agent is not ready because subnets are not yet kept apart: without the store they never are.
const passPatience = 5 * time.Second

var errNotPassed = errors.New("the subnets of the other hosts are being read")

// subnetsReady is nil when a network can be created without running into a subnet of another host, or when that can't be had now.
func (a *agent) subnetsReady() error {
	if a.subnets.Passed() || time.Since(a.started) > passPatience {
		return nil
	}
	return errNotPassed
}
