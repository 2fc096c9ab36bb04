package mirror_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/mirror"
)

// bind asks our drivers for a network.
func (e *engine) bind(ctx context.Context, n *dockerwatch.Network) error {
	if !e.alive.Load() {
		return fmt.Errorf("plugin %q not found", mirror.DriverName)
	}
	generic := map[string]any{}
	for k, v := range n.Options {
		generic[k] = v
	}
	r := &network.CreateNetworkRequest{NetworkID: n.ID, Options: map[string]any{
		"com.docker.network.generic": generic, "com.docker.network.internal": n.Internal}}
	subnets := n.Subnets
	if len(subnets) == 0 {
		subnets = []dockerwatch.Subnet{{}}
	}
	n.Subnets = nil
	for _, s := range subnets {
		data, err := e.addresses(ctx, *n, &s)
		if err != nil {
			return err
		}
		n.Subnets = append(n.Subnets, s)
		if s.CIDR.Addr().Is6() {
			r.IPv6Data = append(r.IPv6Data, data)
		} else {
			r.IPv4Data = append(r.IPv4Data, data)
		}
	}
	err := e.h.driver.CreateNetwork(ctx, r)
	if err != nil {
		e.release(ctx, *n)
	}
	return err
}

// addresses is the IPAM's part of one subnet.
func (e *engine) addresses(ctx context.Context, n dockerwatch.Network, s *dockerwatch.Subnet) (*network.IPAMData, error) {
	data := &network.IPAMData{AddressSpace: "LocalDefault", AuxAddresses: map[string]any{}}
	for name, a := range s.Aux {
		data.AuxAddresses[name] = netip.PrefixFrom(a, s.CIDR.Bits()).String()
	}
	if n.IPAMDriver != mirror.DriverName {
		if !s.CIDR.IsValid() {
			s.CIDR = netip.MustParsePrefix(fmt.Sprintf("172.%d.0.0/16", 18+e.made))
		}
		if !s.Gateway.IsValid() {
			s.Gateway = s.CIDR.Addr().Next()
		}
		data.Pool, data.Gateway = s.CIDR.String(), netip.PrefixFrom(s.Gateway, s.CIDR.Bits()).String()
		return data, nil
	}
	ask := &ipam.RequestPoolRequest{AddressSpace: space, Options: n.IPAMOptions, V6: s.CIDR.Addr().Is6()}
	if s.CIDR.IsValid() {
		ask.Pool = s.CIDR.String()
	}
	if s.Range.IsValid() {
		ask.SubPool = s.Range.String()
	}
	pool, err := e.h.ipam.RequestPool(ctx, ask)
	if err != nil {
		return nil, err
	}
	s.CIDR = netip.MustParsePrefix(pool.Pool)
	want := ""
	if s.Gateway.IsValid() {
		want = s.Gateway.String()
	}
	gw, err := e.h.ipam.RequestAddress(ctx, &ipam.RequestAddressRequest{PoolID: pool.PoolID, Address: want,
		Options: map[string]string{"RequestAddressType": "com.docker.network.gateway"}})
	if err != nil {
		return nil, err
	}
	for _, a := range s.Aux {
		if _, err := e.h.ipam.RequestAddress(ctx, &ipam.RequestAddressRequest{PoolID: pool.PoolID, Address: a.String()}); err != nil {
			return nil, err
		}
	}
	data.AddressSpace, data.Pool, data.Gateway = space, pool.Pool, gw.Address
	return data, nil
}

// release gives the subnets of a network back.
func (e *engine) release(ctx context.Context, n dockerwatch.Network) {
	if n.IPAMDriver != mirror.DriverName || !e.alive.Load() {
		return
	}
	for _, s := range n.Subnets {
		_ = e.h.ipam.ReleasePool(ctx, &ipam.ReleasePoolRequest{PoolID: s.CIDR.String()}) // Docker only logs it
	}
}

// tell tells our drivers that a network goes.
func (e *engine) tell(n dockerwatch.Network) {
	if n.Driver != mirror.DriverName || !e.alive.Load() {
		return
	}
	e.release(e.h.w.ctx, n)
	_ = e.h.driver.DeleteNetwork(e.h.w.ctx, &network.DeleteNetworkRequest{NetworkID: n.ID}) // Docker only logs it
}
