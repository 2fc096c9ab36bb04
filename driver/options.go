package driver

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/store"
)

// Keys of CreateNetwork's options (libnetwork/netlabel).
const (
	optGeneric  = "com.docker.network.generic"
	optInternal = "com.docker.network.internal"
	optMTUAlias = "com.docker.network.driver.mtu"
	// OptName is the -o option that names the cluster's network.
	OptName = "network"
)

// Bounds of -o mtu: IPv4's smallest that every host must reassemble (RFC 791), and the largest packet.
const (
	minMTU     = 576
	minMTUIPv6 = 1280 // RFC 8200
	maxMTU     = 65535
)

// nameForm is what Docker takes for a network's name.
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// spec is a CreateNetwork request, understood.
type spec struct {
	store.Binding
	ownIPAM  bool
	gateways map[netip.Prefix]netip.Addr // by pool
	shared   map[netip.Prefix][]netip.Addr
}

// parseCreate understands a CreateNetwork request or says what is wrong with it.
func parseCreate(r *network.CreateNetworkRequest, space string) (spec, error) {
	s := spec{gateways: map[netip.Prefix]netip.Addr{}, shared: map[netip.Prefix][]netip.Addr{}}
	s.DockerID = r.NetworkID
	if err := s.options(r.Options); err != nil {
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
	for _, p := range s.Pools {
		if s.MTU != 0 && s.MTU < minMTUIPv6 && p.Addr().Is6() {
			return s, fmt.Errorf("%w: -o mtu=%d is too small for IPv6, which needs %d", ErrBadRequest, s.MTU, minMTUIPv6)
		}
	}
	return s, nil
}

func (s *spec) options(options map[string]any) error {
	if v, ok := options[optInternal].(bool); ok {
		s.Internal = v
	}
	generic, ok := options[optGeneric].(map[string]any)
	if !ok && options[optGeneric] != nil {
		return fmt.Errorf("%w: the network's options are not an object", ErrBadRequest)
	}
	for k, v := range generic {
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("%w: option %s is not text", ErrBadRequest, k)
		}
		switch {
		case k == OptName:
			if !nameForm.MatchString(text) {
				return fmt.Errorf("%w: -o network=%q is not a network's name", ErrBadRequest, text)
			}
			s.Name = text
		case k == "mtu" || k == optMTUAlias:
			n, err := strconv.Atoi(text)
			if err != nil || n < minMTU || n > maxMTU {
				return fmt.Errorf("%w: -o %s=%q is not a number from %d to %d", ErrBadRequest, k, text, minMTU, maxMTU)
			}
			s.MTU = n
		case strings.HasPrefix(k, "com.docker."):
			// Meant for other drivers, by the daemon's default-network-opts.
		default:
			return fmt.Errorf("%w: unknown option -o %s: SocketPlane knows network=NAME and mtu=BYTES", ErrBadRequest, k)
		}
	}
	return nil
}

func (s *spec) pool(data *network.IPAMData) error {
	cidr, err := netip.ParsePrefix(data.Pool)
	if err != nil {
		return fmt.Errorf("%w: subnet %q is not a CIDR", ErrBadRequest, data.Pool)
	}
	if cidr = cidr.Masked(); cidr.Bits() == 0 {
		return nil // the null IPAM driver's way to say "none"
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
