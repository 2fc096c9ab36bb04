package ipamdriver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// Options of RequestAddress that libnetwork sets (libnetwork/ipamapi, netlabel).
const (
	optType = "RequestAddressType"
	typeGw  = "com.docker.network.gateway"
	optMAC  = "com.docker.network.endpoint.macaddress"
)

// RequestAddress hands out an address. Which kind is told by what Docker sends:
// a gateway has its type, a container's has the MAC (we say that we require it), and an
// auxiliary address has neither. Gateway and auxiliary addresses are the network's, on all hosts.
func (d *Driver) RequestAddress(ctx context.Context, r *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	id, swarm := strings.CutPrefix(r.PoolID, swarmMark)
	pool, err := parsePoolID(id)
	if err != nil {
		return nil, err
	}
	var want netip.Addr
	if r.Address != "" {
		if want, err = netip.ParseAddr(r.Address); err != nil {
			return nil, fmt.Errorf("%w: %q is not an IP address", ErrBadRequest, r.Address)
		}
		if !pool.Assignable(want) {
			return nil, fmt.Errorf("%w: %s can't be used in subnet %s: it is outside, or the network or broadcast address",
				ErrBadRequest, want, pool.CIDR)
		}
	}
	var got netip.Addr
	switch {
	case r.Options[optType] == typeGw:
		got, err = d.gateway(ctx, pool, want)
	case swarm:
		got, err = d.swarmAddress(ctx, pool, want)
	case want.IsValid() && r.Options[optMAC] == "":
		got, err = want, d.ReserveShared(ctx, pool.CIDR, want)
	case want.IsValid():
		got, err = want, d.Reserve(ctx, pool.CIDR, want, r.Options[optMAC])
	default:
		got, err = d.dynamic(ctx, pool, r.Options[optMAC])
	}
	if err != nil {
		return nil, err
	}
	return &ipam.RequestAddressResponse{
		Address: netip.PrefixFrom(got, pool.CIDR.Bits()).String(), Data: map[string]string{},
	}, nil
}

// gateway gives the pool's gateway, and chooses it on the first host that asks.
// A subnet with room for two containers has none for a gateway: Docker wants an answer, which no container ever uses, so nothing is claimed.
// The same holds for an internal network that another host's Docker made without one, as engines from 28 on do: what would be claimed
// may be the address that its own IPAM gives to a container next.
func (d *Driver) gateway(ctx context.Context, pool ipalloc.Pool, want netip.Addr) (netip.Addr, error) {
	if ipalloc.Pair(pool.CIDR) {
		if !want.IsValid() {
			want = pool.CIDR.Addr()
		}
		return want, nil
	}
	if want.IsValid() {
		return want, d.share(ctx, pool.CIDR, want, func() error { return d.cluster.SetGateway(ctx, pool.CIDR, want) })
	}
	whole := ipalloc.Pool{CIDR: pool.CIDR, Range: pool.CIDR}
	first := store.BlockOf(pool.CIDR, pool.CIDR.Addr())
	tried := map[netip.Addr]bool{}
	for {
		p, err := d.cluster.Pool(ctx, pool.CIDR)
		if err != nil || p.Gateway.IsValid() {
			return p.Gateway, err
		}
		if internal, err := d.internal(ctx, p); err != nil || internal {
			return pool.CIDR.Addr(), err
		}
		addr, ok := whole.Free(first, func(a netip.Addr) bool { return tried[a] })
		if !ok {
			return addr, fmt.Errorf("%w: no room for a gateway in %s: give --gateway", ErrExhausted, pool.CIDR)
		}
		tried[addr] = true
		err = d.cluster.SetGateway(ctx, pool.CIDR, addr)
		if err == nil {
			return addr, nil
		}
		// Taken by a container, or another host chose the gateway just now.
		if !errors.Is(err, store.ErrTaken) && !errors.Is(err, store.ErrMismatch) {
			return addr, err
		}
	}
}

// internal says whether the pool's network has no way out.
func (d *Driver) internal(ctx context.Context, p store.Pool) (bool, error) {
	if p.Network == "" {
		return false, nil
	}
	n, err := d.cluster.Network(ctx, p.Network)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil // removed meanwhile
	}
	return n.Internal, err
}

// ReserveShared claims an address for the network on all of its hosts.
func (d *Driver) ReserveShared(ctx context.Context, pool netip.Prefix, addr netip.Addr) error {
	return d.share(ctx, pool, addr, func() error { return d.cluster.Claim(ctx, pool, addr, store.NetworkOwner()) })
}

// ReleaseAddress takes an address back. Gateway and auxiliary addresses stay the
// network's until the pool goes. Unknown addresses are no error.
func (d *Driver) ReleaseAddress(ctx context.Context, r *ipam.ReleaseAddressRequest) error {
	if id, ok := strings.CutPrefix(r.PoolID, swarmMark); ok {
		return d.releaseSwarm(ctx, id, r.Address)
	}
	pool, err := parsePoolID(r.PoolID)
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(r.Address)
	if err != nil {
		return fmt.Errorf("%w: %q is not an IP address", ErrBadRequest, r.Address)
	}
	return d.release(ctx, pool.CIDR, addr, "", d.opts.Rest > 0)
}
