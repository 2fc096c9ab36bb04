package driver

import (
	"fmt"
	"net/netip"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/internal/netopt"
	"github.com/socketplane/socketplane/store"
)

// Keys of CreateNetwork's options (libnetwork/netlabel).
const (
	optGeneric  = "com.docker.network.generic"
	optInternal = "com.docker.network.internal"
)

// spec is a CreateNetwork request, understood.
type spec struct {
	store.Binding
	ownIPAM  bool
	ifPrefix string
	gateways map[netip.Prefix]netip.Addr // by pool
	shared   map[netip.Prefix][]netip.Addr
}

// parseCreate understands a CreateNetwork request or says what is wrong with it.
func parseCreate(r *network.CreateNetworkRequest, space string) (spec, error) {
	s := spec{gateways: map[netip.Prefix]netip.Addr{}, shared: map[netip.Prefix][]netip.Addr{}}
	s.DockerID = r.NetworkID
	asked, err := s.options(r.Options)
	if err != nil {
		return s, err
	}
	for _, data := range append(append([]*network.IPAMData{}, r.IPv4Data...), r.IPv6Data...) {
		if data == nil {
			continue
		}
		if err := s.pool(data); err != nil {
			return s, err
		}
		s.ownIPAM = data.AddressSpace == space
	}
	if len(s.Pools) == 0 {
		return s, fmt.Errorf("%w: a SocketPlane network needs a subnet: leave out --ipam-driver null or give --subnet", ErrBadRequest)
	}
	var v4, v6 bool
	for _, p := range s.Pools {
		v4, v6 = v4 || p.Addr().Is4(), v6 || p.Addr().Is6()
	}
	if err := asked.CheckFamilies(v4, v6); err != nil {
		return s, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return s, nil
}

// options reads what the network's options ask for.
func (s *spec) options(options map[string]any) (netopt.Network, error) {
	if v, ok := options[optInternal].(bool); ok {
		s.Internal = v
	}
	generic, ok := options[optGeneric].(map[string]any)
	if !ok && options[optGeneric] != nil {
		return netopt.Network{}, fmt.Errorf("%w: the network's options are not an object", ErrBadRequest)
	}
	given := map[string]string{}
	for k, v := range generic {
		text, ok := v.(string)
		if !ok {
			return netopt.Network{}, fmt.Errorf("%w: option %s is not text", ErrBadRequest, k)
		}
		given[k] = text
	}
	asked, err := netopt.ParseNetwork(given)
	if err != nil {
		return asked, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	s.Name, s.MTU, s.ifPrefix = asked.Name, asked.MTU, asked.IfPrefix
	s.Agree = func(made store.Network) error { return netopt.Agree(netopt.Network{MTU: made.MTU}, asked) }
	return asked, nil
}

func (s *spec) pool(data *network.IPAMData) error {
	cidr, err := netip.ParsePrefix(data.Pool)
	if err != nil {
		return fmt.Errorf("%w: subnet %q is not a CIDR", ErrBadRequest, data.Pool)
	}
	if cidr = cidr.Masked(); cidr.Bits() == 0 {
		return nil // the null IPAM driver's way to say "none"
	}
	if err := ipalloc.Usable(cidr); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	s.Pools = append(s.Pools, cidr)
	if data.Gateway != "" {
		gw, err := parseAddr(data.Gateway)
		if err != nil {
			return fmt.Errorf("%w: gateway: %w", ErrBadRequest, err)
		}
		s.gateways[cidr] = gw
	}
	for name, v := range data.AuxAddresses {
		text, _ := v.(string)
		aux, err := parseAddr(text)
		if err != nil {
			return fmt.Errorf("%w: auxiliary address %s: %w", ErrBadRequest, name, err)
		}
		s.shared[cidr] = append(s.shared[cidr], aux)
	}
	return nil
}

// parseAddr reads an address with or without a prefix length.
func parseAddr(text string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, fmt.Errorf("%q is not an IP address", text)
	}
	return a, nil
}

// endpointOptions reads what an endpoint's options ask for. Docker's own, of which some are not text, are among them.
func (d *Driver) endpointOptions(r *network.CreateEndpointRequest) (netopt.Endpoint, error) {
	given := map[string]string{}
	for k, v := range r.Options {
		if text, ok := v.(string); ok {
			given[k] = text
		}
	}
	asked, err := netopt.ParseEndpoint(given, d.engine())
	if err != nil {
		return asked, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if len(asked.Unknown) > 0 {
		d.log.Warn("options of a container's endpoint are ignored: this version of socketplane does not know them",
			"network_docker_id", r.NetworkID, "endpoint", r.EndpointID, "options", asked.Unknown)
	}
	return asked, nil
}
