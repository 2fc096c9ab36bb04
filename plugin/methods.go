package plugin

import (
	"context"
	"errors"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
)

// method answers one path. Those without a request don't look at the body (Docker sends none), and don't count
// among the concurrent handlers: they only report constants, and dockerd needs them to start.
type method struct {
	request bool
	call    func(ctx context.Context, body []byte) (any, error)
}

// constant answers without looking at the request.
func constant(answer any) method {
	return method{call: func(context.Context, []byte) (any, error) { return answer, nil }}
}

// handler decodes and checks a request before it calls.
func handler[Req any](check func(*Req) error, call func(context.Context, *Req) (any, error)) method {
	return method{request: true, call: func(ctx context.Context, body []byte) (any, error) {
		req := new(Req)
		if err := decode(body, req); err != nil {
			return nil, err
		}
		if err := check(req); err != nil {
			return nil, err
		}
		return call(ctx, req)
	}}
}

// act is for methods that answer nothing but success.
func act[Req any](f func(context.Context, *Req) error) func(context.Context, *Req) (any, error) {
	return func(ctx context.Context, req *Req) (any, error) { return empty{}, f(ctx, req) }
}

// accept is for methods in which there is nothing to do for us.
func accept[Req any](context.Context, *Req) (any, error) { return empty{}, nil }

// optional is for methods whose answer may be missing: Docker reads an empty object as "nothing to change".
func optional[Req, Resp any](f func(context.Context, *Req) (*Resp, error)) func(context.Context, *Req) (any, error) {
	return func(ctx context.Context, req *Req) (any, error) {
		resp, err := f(ctx, req)
		if resp == nil {
			return empty{}, err
		}
		return resp, err
	}
}

// required is for methods whose missing answer Docker would only report as an address that can't be parsed.
func required[Req, Resp any](f func(context.Context, *Req) (*Resp, error)) func(context.Context, *Req) (any, error) {
	return func(ctx context.Context, req *Req) (any, error) {
		resp, err := f(ctx, req)
		if resp == nil && err == nil {
			return nil, errors.New("the address driver answered nothing; this is a defect of SocketPlane")
		}
		return resp, err
	}
}

func methods(n NetworkDriver, i IPAMDriver, scope string) map[string]method {
	all := map[string]method{
		"Plugin.Activate": constant(activateResponse{Implements: []string{"NetworkDriver", "IpamDriver"}}),
	}
	addNetwork(all, n, scope)
	addExternal(all)
	addIPAM(all, i)
	return all
}

// optInternal is the option of --internal (libnetwork/netlabel).
const optInternal = "com.docker.network.internal"

func addNetwork(all map[string]method, n NetworkDriver, scope string) {
	all["NetworkDriver.GetCapabilities"] = constant(networkCapabilities{
		Scope: scope,
		// Containers of one network reach each other across hosts, also where networks are local to Docker.
		ConnectivityScope: network.GlobalScope,
		GwAllocChecker:    true,
	})
	// The gateway stays reserved although Join answers none: `docker network inspect` shows it, --gateway keeps
	// its meaning, and no container gets the address that users take for the router's. An internal network has no router, so none is reserved.
	all["NetworkDriver.GwAllocCheck"] = handler(func(*gwAllocCheckRequest) error { return nil },
		func(_ context.Context, r *gwAllocCheckRequest) (any, error) {
			internal, _ := r.Options[optInternal].(bool)
			return gwAllocCheckResponse{SkipIPv4: internal, SkipIPv6: internal}, nil
		})
	all["NetworkDriver.CreateNetwork"] = handler(checkCreateNetwork, act(n.CreateNetwork))
	all["NetworkDriver.DeleteNetwork"] = handler(func(r *network.DeleteNetworkRequest) error {
		return checkID("NetworkID", r.NetworkID)
	}, act(n.DeleteNetwork))
	all["NetworkDriver.CreateEndpoint"] = handler(func(r *network.CreateEndpointRequest) error {
		if r.Interface == nil {
			r.Interface = &network.EndpointInterface{}
		}
		return checkEndpoint(r.NetworkID, r.EndpointID)
	}, optional(n.CreateEndpoint))
	all["NetworkDriver.DeleteEndpoint"] = handler(func(r *network.DeleteEndpointRequest) error {
		return checkEndpoint(r.NetworkID, r.EndpointID)
	}, act(n.DeleteEndpoint))
	all["NetworkDriver.EndpointOperInfo"] = handler(func(r *network.InfoRequest) error {
		return checkEndpoint(r.NetworkID, r.EndpointID)
	}, optional(n.EndpointInfo))
	all["NetworkDriver.Join"] = handler(func(r *network.JoinRequest) error {
		return checkEndpoint(r.NetworkID, r.EndpointID)
	}, optional(n.Join))
	all["NetworkDriver.Leave"] = handler(func(r *network.LeaveRequest) error {
		return checkEndpoint(r.NetworkID, r.EndpointID)
	}, act(n.Leave))
}

// addExternal adds the network methods that need no driver: Swarm's allocation (a manager's answer replaces the
// user's options on the workers, hence the echo), discovery (the store tells us of hosts), and external
// connectivity (docker_gwbridge provides it).
func addExternal(all map[string]method) {
	all["NetworkDriver.AllocateNetwork"] = handler(func(r *network.AllocateNetworkRequest) error {
		return checkID("NetworkID", r.NetworkID)
	}, func(_ context.Context, r *network.AllocateNetworkRequest) (any, error) {
		return network.AllocateNetworkResponse{Options: r.Options}, nil
	})
	all["NetworkDriver.FreeNetwork"] = handler(func(r *network.FreeNetworkRequest) error {
		return checkID("NetworkID", r.NetworkID)
	}, accept[network.FreeNetworkRequest])
	noCheck := func(*network.DiscoveryNotification) error { return nil }
	all["NetworkDriver.DiscoverNew"] = handler(noCheck, accept[network.DiscoveryNotification])
	all["NetworkDriver.DiscoverDelete"] = handler(noCheck, accept[network.DiscoveryNotification])
	all["NetworkDriver.ProgramExternalConnectivity"] = handler(func(r *network.ProgramExternalConnectivityRequest) error {
		return checkEndpoint(r.NetworkID, r.EndpointID)
	}, accept[network.ProgramExternalConnectivityRequest])
	all["NetworkDriver.RevokeExternalConnectivity"] = handler(func(r *network.RevokeExternalConnectivityRequest) error {
		return checkEndpoint(r.NetworkID, r.EndpointID)
	}, accept[network.RevokeExternalConnectivityRequest])
}

func addIPAM(all map[string]method, i IPAMDriver) {
	// With the MAC a container's request can be told from an auxiliary address's, which has none. Nothing is to be
	// replayed: pools and addresses are kept by the driver.
	all["IpamDriver.GetCapabilities"] = constant(ipamCapabilities{RequiresMACAddress: true})
	all["IpamDriver.GetDefaultAddressSpaces"] = constant(ipam.AddressSpacesResponse{
		LocalDefaultAddressSpace:  LocalAddressSpace,
		GlobalDefaultAddressSpace: GlobalAddressSpace,
	})
	all["IpamDriver.RequestPool"] = handler(func(*ipam.RequestPoolRequest) error { return nil }, required(i.RequestPool))
	all["IpamDriver.ReleasePool"] = handler(func(r *ipam.ReleasePoolRequest) error {
		return checkToken("PoolID", r.PoolID)
	}, act(i.ReleasePool))
	all["IpamDriver.RequestAddress"] = handler(func(r *ipam.RequestAddressRequest) error {
		return checkToken("PoolID", r.PoolID)
	}, required(i.RequestAddress))
	all["IpamDriver.ReleaseAddress"] = handler(func(r *ipam.ReleaseAddressRequest) error {
		return checkToken("PoolID", r.PoolID)
	}, act(i.ReleaseAddress))
}

func checkEndpoint(networkID, endpointID string) error {
	if err := checkID("NetworkID", networkID); err != nil {
		return err
	}
	return checkID("EndpointID", endpointID)
}

func checkCreateNetwork(r *network.CreateNetworkRequest) error {
	for _, data := range append(r.IPv4Data[:len(r.IPv4Data):len(r.IPv4Data)], r.IPv6Data...) {
		if data == nil {
			return badRequest("IPv4Data or IPv6Data has an entry that is null")
		}
	}
	return checkID("NetworkID", r.NetworkID)
}
