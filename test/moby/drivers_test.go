package moby

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/plugin/netapi"
)

// drivers is what stands behind the socket: both drivers for one network of 10.1.0.0/24, with the last request
// of each kind kept for comparison.
type drivers struct {
	mu     sync.Mutex
	last   map[string]any
	next   netip.Addr
	answer *network.EndpointInterface // of CreateEndpoint
	join   netapi.JoinResponse
	fail   error // of every call, if set
}

func newDrivers() *drivers {
	return &drivers{last: map[string]any{}, next: netip.MustParseAddr("10.1.0.1")}
}

func (d *drivers) keep(method string, req any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last[method] = req
	return d.fail
}

// request returns the last request of one kind, nil if there was none.
func request[T any](d *drivers, method string) *T {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, _ := d.last[method].(*T)
	return r
}

func (d *drivers) CreateNetwork(_ context.Context, r *network.CreateNetworkRequest) error {
	return d.keep("CreateNetwork", r)
}

func (d *drivers) DeleteNetwork(_ context.Context, r *network.DeleteNetworkRequest) error {
	return d.keep("DeleteNetwork", r)
}

func (d *drivers) CreateEndpoint(_ context.Context, r *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	return &network.CreateEndpointResponse{Interface: d.answer}, d.keep("CreateEndpoint", r)
}

func (d *drivers) DeleteEndpoint(_ context.Context, r *network.DeleteEndpointRequest) error {
	return d.keep("DeleteEndpoint", r)
}

func (d *drivers) EndpointInfo(_ context.Context, r *network.InfoRequest) (*network.InfoResponse, error) {
	return &network.InfoResponse{Value: map[string]string{"host": "a"}}, d.keep("EndpointInfo", r)
}

func (d *drivers) Join(_ context.Context, r *network.JoinRequest) (*netapi.JoinResponse, error) {
	return &d.join, d.keep("Join", r)
}

func (d *drivers) Leave(_ context.Context, r *network.LeaveRequest) error { return d.keep("Leave", r) }

func (d *drivers) RequestPool(_ context.Context, r *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	return &ipam.RequestPoolResponse{PoolID: "10.1.0.0/24", Pool: "10.1.0.0/24", Data: map[string]string{"a": "b"}}, d.keep("RequestPool", r)
}

func (d *drivers) ReleasePool(_ context.Context, r *ipam.ReleasePoolRequest) error {
	return d.keep("ReleasePool", r)
}

func (d *drivers) RequestAddress(_ context.Context, r *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	if err := d.keep("RequestAddress", r); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	addr := d.next
	if r.Address != "" {
		asked, err := netip.ParseAddr(r.Address)
		if err != nil {
			return nil, fmt.Errorf("address: %w", err)
		}
		addr = asked
	} else {
		d.next = d.next.Next()
	}
	return &ipam.RequestAddressResponse{Address: addr.String() + "/24"}, nil
}

func (d *drivers) ReleaseAddress(_ context.Context, r *ipam.ReleaseAddressRequest) error {
	return d.keep("ReleaseAddress", r)
}

var errRefused = errors.New("pool 10.1.0.0/24 is full: host b holds 12 spare addresses")
