package agent

import (
	"context"
	"errors"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/plugin"
	"github.com/socketplane/socketplane/plugin/netapi"
)

// underlayPause is between two looks for the host's address.
const underlayPause = time.Second

// awaitUnderlay returns when the host has an address for tunnels. Until then it answers Docker that it has none: a managed plugin that
// does not listen is given up after ten seconds, and networks may come up later than Docker does.
func awaitUnderlay(ctx context.Context, cfg config.Config, opts Options) error {
	missing := lookForAddress(ctx, cfg)
	if !errors.Is(missing, hostlink.ErrNoUnderlay) {
		return missing
	}
	opts.Logger.Error("networks have to wait: this host has no address for tunnels", "err", missing)
	a := &agent{cfg: cfg, opts: opts, log: opts.Logger}
	sockets, admin, err := a.listen()
	if err != nil {
		return err
	}
	if err := admin.Close(); err != nil { // the command line has nobody to ask yet
		return err
	}
	ctx, found := context.WithCancel(ctx)
	defer found()
	go func() {
		defer found()
		ticker := time.NewTicker(underlayPause)
		defer ticker.Stop()
		for errors.Is(lookForAddress(ctx, cfg), hostlink.ErrNoUnderlay) {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	none := absent{missing}
	return plugin.New(none, absentIPAM{none}, plugin.Options{Scope: string(cfg.Scope), Logger: opts.Logger}).Serve(ctx, sockets...)
}

// lookForAddress looks for the host's address once.
func lookForAddress(ctx context.Context, cfg config.Config) error {
	links, err := hostlink.New(hostlink.Options{})
	if err != nil {
		return err
	}
	_, err = links.Underlay(ctx, cfg.Advertise)
	return errors.Join(err, links.Close())
}

// absent answers everything with what is missing. It forgets nothing that it did not know: what Docker removes meanwhile the agent finds
// out when it runs.
type absent struct{ err error }

func (a absent) CreateNetwork(context.Context, *network.CreateNetworkRequest) error { return a.err }
func (a absent) DeleteNetwork(context.Context, *network.DeleteNetworkRequest) error { return a.err }
func (a absent) CreateEndpoint(context.Context, *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	return nil, a.err
}
func (a absent) DeleteEndpoint(context.Context, *network.DeleteEndpointRequest) error { return a.err }
func (a absent) EndpointInfo(context.Context, *network.InfoRequest) (*network.InfoResponse, error) {
	return nil, a.err
}
func (a absent) Join(context.Context, *network.JoinRequest) (*netapi.JoinResponse, error) {
	return nil, a.err
}
func (a absent) Leave(context.Context, *network.LeaveRequest) error { return a.err }

// absentIPAM is absent for addresses.
type absentIPAM struct{ absent }

func (a absentIPAM) RequestPool(context.Context, *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	return nil, a.err
}
func (a absentIPAM) ReleasePool(context.Context, *ipam.ReleasePoolRequest) error { return a.err }
func (a absentIPAM) RequestAddress(context.Context, *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	return nil, a.err
}
func (a absentIPAM) ReleaseAddress(context.Context, *ipam.ReleaseAddressRequest) error { return a.err }
