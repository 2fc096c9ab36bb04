package dockerwatch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/moby/moby/api/types/network"
)

// Local is a network of this host alone: one of Docker's or of its users, of another driver than ours.
type Local struct {
	ID, Name, Driver string
	Subnets          []netip.Prefix
}

// Locals lists the networks of scope local whose driver is not ours, without templates of --config-only.
func (w *Watcher) Locals(ctx context.Context) ([]Local, error) {
	var wire []struct {
		wireNetwork
		Scope string
	}
	if err := w.get(ctx, "/networks", nil, &wire); err != nil {
		return nil, fmt.Errorf("docker's networks: %w", err)
	}
	var locals []Local
	for _, n := range wire {
		if n.Driver == w.opts.Driver || n.Scope != "local" || n.ConfigOnly {
			continue
		}
		l := Local{ID: n.ID, Name: n.Name, Driver: n.Driver}
		for _, s := range n.network().Subnets {
			l.Subnets = append(l.Subnets, s.CIDR)
		}
		locals = append(locals, l)
	}
	return locals, nil
}

// Range is a prefix from which Docker cuts subnets of Bits bits for networks that are created without one.
type Range struct {
	Base netip.Prefix
	Bits int
}

// DefaultPools are the address pools of Docker's configuration (default-address-pools), IPv4 and IPv6; none if it has the built-in ones.
func (w *Watcher) DefaultPools(ctx context.Context) ([]Range, error) {
	var wire struct {
		DefaultAddressPools []struct {
			Base string
			Size int
		}
	}
	if err := w.get(ctx, "/info", nil, &wire); err != nil {
		return nil, fmt.Errorf("docker's address pools: %w", err)
	}
	var ranges []Range
	for _, p := range wire.DefaultAddressPools {
		if base := prefix(p.Base); base.IsValid() && p.Size >= base.Bits() && p.Size <= base.Addr().BitLen() {
			ranges = append(ranges, Range{Base: base, Bits: p.Size})
		}
	}
	return ranges, nil
}

// GatewayBridge is the network by which Docker gives containers on our networks their way out, and GatewayLabel marks one that we made.
const (
	GatewayBridge = "docker_gwbridge"
	GatewayLabel  = "socketplane.gateway-bridge"
)

// usualMTU needs no option: Docker's bridges have it.
const usualMTU = 1500

// MakeGatewayBridge makes docker_gwbridge as Docker does when a container first needs it, but with this subnet and MTU. One that exists
// is no error.
func (w *Watcher) MakeGatewayBridge(ctx context.Context, subnet netip.Prefix, mtu int) error {
	off := false
	r := wireCreate{CheckDuplicate: true, CreateRequest: network.CreateRequest{
		Name: GatewayBridge, Driver: "bridge", EnableIPv6: &off,
		Options: map[string]string{
			"com.docker.network.bridge.name":                 GatewayBridge,
			"com.docker.network.bridge.enable_icc":           "false",
			"com.docker.network.bridge.enable_ip_masquerade": "true",
		},
		Labels: map[string]string{GatewayLabel: "true"},
		IPAM:   &network.IPAM{Driver: "default", Config: []network.IPAMConfig{{Subnet: subnet}}},
	}}
	if mtu != 0 && mtu != usualMTU {
		r.Options["com.docker.network.driver.mtu"] = fmt.Sprint(mtu)
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	err := w.call(ctx, http.MethodPost, "/networks/create", nil, r, &struct{}{})
	if errors.Is(err, ErrRefused) {
		if _, named := w.Named(ctx, GatewayBridge); named == nil {
			return nil // Docker made it in the same moment
		}
	}
	if err != nil {
		return fmt.Errorf("create docker network %s: %w", GatewayBridge, err)
	}
	return nil
}
