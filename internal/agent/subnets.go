package agent

import (
	"context"
	"errors"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/internal/subnets"
	"github.com/socketplane/socketplane/plugin"
	"github.com/socketplane/socketplane/plugin/netapi"
)

// resolvConf is where Docker reads name servers, too.
const resolvConf = "/etc/resolv.conf"

// buildSubnets makes what keeps the cluster's subnets and those of this host apart.
func (a *agent) buildSubnets() {
	opts := subnets.Options{
		Publish: func(ctx context.Context) error { return a.publishHost(ctx, false) }, Stirred: a.underlay.Subscribe,
		MTU: func() int { return a.where().MTU }, ResolvConf: resolvConf, Logger: a.log,
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
