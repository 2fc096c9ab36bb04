package plugin

import (
	"context"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/plugin/netapi"
)

// Settled returns n, whose methods that need a switch call wait first: Docker, which starts its containers the moment that
// it can, would be refused while an agent begins, and does not try again. All others are answered at once. wait
// returns at the latest when its context ends.
func Settled(n NetworkDriver, wait func(context.Context)) NetworkDriver { return settled{n, wait} }

type settled struct {
	NetworkDriver
	wait func(context.Context)
}

func (s settled) CreateNetwork(ctx context.Context, r *network.CreateNetworkRequest) error {
	s.wait(ctx)
	return s.NetworkDriver.CreateNetwork(ctx, r)
}

func (s settled) CreateEndpoint(ctx context.Context, r *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	s.wait(ctx)
	return s.NetworkDriver.CreateEndpoint(ctx, r)
}

func (s settled) Join(ctx context.Context, r *network.JoinRequest) (*netapi.JoinResponse, error) {
	s.wait(ctx)
	return s.NetworkDriver.Join(ctx, r)
}
