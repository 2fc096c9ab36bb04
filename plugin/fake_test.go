package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/plugin/netapi"
)

// memory is both drivers at once, with their state in maps. before, if set, runs at the begin of each
// call and may block, fail or panic.
type memory struct {
	before func(ctx context.Context, method, id string) error

	mu        sync.Mutex
	networks  map[string]bool
	endpoints map[string]bool // by network/endpoint; true once joined
	pools     map[string]int  // by PoolID; how many addresses are out
}

func newMemory() *memory {
	return &memory{networks: map[string]bool{}, endpoints: map[string]bool{}, pools: map[string]int{}}
}

// locked runs f with the state in hand.
func (m *memory) locked(ctx context.Context, method, id string, f func() error) error {
	if m.before != nil {
		if err := m.before(ctx, method, id); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return f()
}

func (m *memory) hasNetwork(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.networks[id]
}

func (m *memory) CreateNetwork(ctx context.Context, r *network.CreateNetworkRequest) error {
	return m.locked(ctx, "CreateNetwork", r.NetworkID, func() error {
		if m.networks[r.NetworkID] {
			return fmt.Errorf("network %s exists", r.NetworkID)
		}
		m.networks[r.NetworkID] = true
		return nil
	})
}

func (m *memory) DeleteNetwork(ctx context.Context, r *network.DeleteNetworkRequest) error {
	return m.locked(ctx, "DeleteNetwork", r.NetworkID, func() error {
		delete(m.networks, r.NetworkID)
		return nil
	})
}

func (m *memory) CreateEndpoint(ctx context.Context, r *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	resp := &network.CreateEndpointResponse{}
	return resp, m.locked(ctx, "CreateEndpoint", r.EndpointID, func() error {
		if !m.networks[r.NetworkID] {
			return fmt.Errorf("network %s is unknown", r.NetworkID)
		}
		m.endpoints[r.NetworkID+"/"+r.EndpointID] = false
		if r.Interface.MacAddress == "" {
			resp.Interface = &network.EndpointInterface{MacAddress: "02:42:0a:01:00:02"}
		}
		return nil
	})
}

func (m *memory) DeleteEndpoint(ctx context.Context, r *network.DeleteEndpointRequest) error {
	return m.locked(ctx, "DeleteEndpoint", r.EndpointID, func() error {
		delete(m.endpoints, r.NetworkID+"/"+r.EndpointID)
		return nil
	})
}

func (m *memory) EndpointInfo(ctx context.Context, r *network.InfoRequest) (*network.InfoResponse, error) {
	resp := &network.InfoResponse{}
	return resp, m.locked(ctx, "EndpointInfo", r.EndpointID, func() error {
		resp.Value = map[string]string{"joined": fmt.Sprint(m.endpoints[r.NetworkID+"/"+r.EndpointID])}
		return nil
	})
}

func (m *memory) Join(ctx context.Context, r *network.JoinRequest) (*netapi.JoinResponse, error) {
	resp := &netapi.JoinResponse{InterfaceName: netapi.InterfaceName{SrcName: "sp0", DstPrefix: "eth"}}
	return resp, m.locked(ctx, "Join", r.EndpointID, func() error {
		key := r.NetworkID + "/" + r.EndpointID
		if _, ok := m.endpoints[key]; !ok {
			return fmt.Errorf("endpoint %s is unknown", r.EndpointID)
		}
		m.endpoints[key] = true
		return nil
	})
}

func (m *memory) Leave(ctx context.Context, r *network.LeaveRequest) error {
	return m.locked(ctx, "Leave", r.EndpointID, func() error {
		m.endpoints[r.NetworkID+"/"+r.EndpointID] = false
		return nil
	})
}

func (m *memory) RequestPool(ctx context.Context, r *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	pool := r.Pool
	if pool == "" {
		pool = "10.1.0.0/24"
	}
	resp := &ipam.RequestPoolResponse{PoolID: pool, Pool: pool}
	return resp, m.locked(ctx, "RequestPool", pool, func() error {
		m.pools[pool] = 0
		return nil
	})
}

func (m *memory) ReleasePool(ctx context.Context, r *ipam.ReleasePoolRequest) error {
	return m.locked(ctx, "ReleasePool", r.PoolID, func() error {
		delete(m.pools, r.PoolID)
		return nil
	})
}

func (m *memory) RequestAddress(ctx context.Context, r *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	resp := &ipam.RequestAddressResponse{}
	err := m.locked(ctx, "RequestAddress", r.PoolID, func() error {
		n, ok := m.pools[r.PoolID]
		if !ok {
			return errors.New("pool is unknown")
		}
		m.pools[r.PoolID] = n + 1
		resp.Address = fmt.Sprintf("10.1.0.%d/24", n+1)
		return nil
	})
	return resp, err
}

func (m *memory) ReleaseAddress(ctx context.Context, r *ipam.ReleaseAddressRequest) error {
	return m.locked(ctx, "ReleaseAddress", r.PoolID, func() error { return nil })
}
