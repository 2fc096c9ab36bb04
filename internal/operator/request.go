package operator

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/internal/netopt"
	"github.com/socketplane/socketplane/store"
)

// wanted completes a request to what the store takes.
func (o *Operator) wanted(ctx context.Context, r adminapi.NetworkRequest) (store.NewNetwork, error) {
	want := store.NewNetwork{Name: r.Name, MTU: r.MTU, Internal: r.Internal}
	want.IPv6, want.Labels = r.IPv6, r.Labels
	want.Options = netopt.Copied(r.Options)
	pools := slices.Clone(r.Subnets)
	if len(pools) == 0 {
		p, err := o.deps.Addresses.Propose(ctx, false)
		if err != nil {
			return want, err
		}
		pools = append(pools, p)
	}
	if r.IPv6 && !slices.ContainsFunc(pools, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		p, err := o.deps.Addresses.Propose(ctx, true)
		if err != nil {
			return want, err
		}
		pools = append(pools, p)
	}
	slices.SortStableFunc(pools, func(a, b netip.Prefix) int { return cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()) })
	want.Pools = pools
	for _, p := range pools {
		s := store.Subnet{CIDR: p}
		if i := slices.IndexFunc(r.Ranges, func(w netip.Prefix) bool { return p.Contains(w.Addr()) }); i >= 0 {
			s.Range = r.Ranges[i].Masked() // engines from 28 on refuse host bits
		}
		if i := slices.IndexFunc(r.Gateways, p.Contains); i >= 0 {
			s.Gateway = r.Gateways[i]
		}
		for name, text := range r.Aux {
			if addr := netip.MustParseAddr(text); p.Contains(addr) { // checked before
				if s.Aux == nil {
					s.Aux = map[string]netip.Addr{}
				}
				s.Aux[name] = addr
			}
		}
		want.Subnets = append(want.Subnets, s)
	}
	return want, nil
}

// checkRequest says what can never be, before anything is made.
func checkRequest(r *adminapi.NetworkRequest) error {
	if err := networkName(r.Name); err != nil {
		return err
	}
	for _, p := range r.Subnets {
		if _, err := ipalloc.New(p, netip.Prefix{}); err != nil {
			return err
		}
		if err := ipalloc.Usable(p); err != nil {
			return err
		}
		r.IPv6 = r.IPv6 || p.Addr().Is6()
	}
	inside := func(addr netip.Addr) (ipalloc.Pool, bool) {
		i := slices.IndexFunc(r.Subnets, func(p netip.Prefix) bool { return p.Contains(addr) })
		if i < 0 {
			return ipalloc.Pool{}, false
		}
		return ipalloc.Pool{CIDR: r.Subnets[i], Range: r.Subnets[i]}, true
	}
	for _, w := range r.Ranges {
		if p, ok := inside(w.Addr()); !ok || w.Bits() < p.CIDR.Bits() {
			return fmt.Errorf("range %s is in none of the network's subnets: name the subnet", w)
		}
	}
	addrs := slices.Clone(r.Gateways)
	for name, text := range r.Aux {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("auxiliary address %s=%s is not an IP address", name, text)
		}
		addrs = append(addrs, addr)
	}
	for _, addr := range addrs {
		if p, ok := inside(addr); !ok || !p.Assignable(addr) {
			return fmt.Errorf("address %s can't be used in any of the network's subnets: name the subnet", addr)
		}
	}
	return checkOptions(r)
}

// checkOptions reads the options, of which the MTU is one: copies get it by that.
func checkOptions(r *adminapi.NetworkRequest) error {
	asked, err := netopt.ParseNetwork(r.Options)
	if err == nil && asked.MTU == 0 && r.MTU != 0 {
		options := map[string]string{netopt.KeyMTU: strconv.Itoa(r.MTU)}
		maps.Copy(options, r.Options)
		r.Options = options
		asked, err = netopt.ParseNetwork(options)
	}
	if err != nil {
		return err
	}
	v4 := len(r.Subnets) == 0 || slices.ContainsFunc(r.Subnets, func(p netip.Prefix) bool { return p.Addr().Is4() })
	switch err := asked.CheckFamilies(v4, r.IPv6); {
	case err != nil:
		return err
	case asked.Name != "":
		return fmt.Errorf("-o %s=%s is for 'docker network create': here the name is an argument", netopt.KeyName, asked.Name)
	case asked.MTU != 0 && r.MTU != 0 && asked.MTU != r.MTU:
		return fmt.Errorf("the MTU is %d by --mtu and %d by -o: leave one of them out", r.MTU, asked.MTU)
	}
	r.MTU = asked.MTU
	return nil
}

// networkName takes what Docker takes, but for the names of Docker's own networks.
func networkName(name string) error {
	ok := name != "" && len(name) <= 128 && !strings.ContainsAny(name[:1], "_.-") &&
		!slices.Contains([]string{"default", "bridge", "host", "none"}, name)
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-", r))
	}
	if !ok {
		return fmt.Errorf("%q is not a network's name: use letters, digits, dots, dashes and underscores, and none of Docker's own names", name)
	}
	return nil
}
