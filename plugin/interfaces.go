package plugin

import (
	"context"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/plugin/netapi"
)

// NetworkDriver is what this package needs of a network driver. Requests arrive with their ids checked
// (not empty, no slash, no control characters, at most 256 bytes); everything else is the driver's to check.
//
// Methods are called concurrently, also for the same endpoint. The context ends at the deadline of the
// request, and not when the client hangs up. Docker only logs the errors of DeleteNetwork, DeleteEndpoint and Leave
// and never repeats these calls. Response pointers may be nil: the answer is then an empty object.
// Error texts reach the user of docker unchanged.
type NetworkDriver interface {
	CreateNetwork(context.Context, *network.CreateNetworkRequest) error
	DeleteNetwork(context.Context, *network.DeleteNetworkRequest) error
	// CreateEndpoint answers only the fields that came empty: Docker takes any other for an error.
	CreateEndpoint(context.Context, *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error)
	DeleteEndpoint(context.Context, *network.DeleteEndpointRequest) error
	EndpointInfo(context.Context, *network.InfoRequest) (*network.InfoResponse, error)
	Join(context.Context, *network.JoinRequest) (*netapi.JoinResponse, error)
	Leave(context.Context, *network.LeaveRequest) error
}

// IPAMDriver is what this package needs of an address driver. The rules of [NetworkDriver] hold here too.
// PoolIDs are the driver's own and therefore may hold slashes; they are checked for emptiness, control characters
// and length only. The pool of a RequestPool may be empty: the driver chooses.
type IPAMDriver interface {
	RequestPool(context.Context, *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error)
	ReleasePool(context.Context, *ipam.ReleasePoolRequest) error
	RequestAddress(context.Context, *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error)
	ReleaseAddress(context.Context, *ipam.ReleaseAddressRequest) error
}

// The names of our address spaces. Docker passes the local one back in every RequestPool and in the IPAM data of
// CreateNetwork, where it tells our address management from Docker's own. They must differ: with equal
// names Docker skips its check that a pool overlaps no route or name server of the host.
const (
	LocalAddressSpace  = "socketplane"
	GlobalAddressSpace = "socketplane-global"
)
