package hostlink

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Connected is a subnet that this host reaches directly.
type Connected struct {
	Subnet netip.Prefix
	// Dev is the interface that leads there.
	Dev string
	// Addr is the host's own address in the subnet; invalid if it has none there.
	Addr netip.Addr
}

// Connected lists the routes without gateway of all interfaces that are up, IPv4 and IPv6, sorted, each once, without loopback,
// link-local and multicast ones, and the host's own addresses that are in none of them (a /32 of a cloud, of a tunnel, of the loopback)
// as subnets of one address. Parts of a default route and routes of SocketPlane's own links are left out.
func (l *Links) Connected(ctx context.Context) ([]Connected, error) {
	v, err := l.view(ctx)
	if err != nil {
		return nil, err
	}
	var found []Connected
	for _, r := range v.routes {
		p, ok := v.destination(r)
		if !ok || part(p) || r.Gw != nil || r.Via != nil || len(r.MultiPath) > 0 {
			continue
		}
		c := Connected{Subnet: p, Dev: v.links[r.LinkIndex].Attrs().Name}
		for _, a := range v.addrs {
			if a.LinkIndex == r.LinkIndex && p.Contains(addrOf(a)) && !c.Addr.IsValid() {
				c.Addr = addrOf(a)
			}
		}
		found = append(found, c)
	}
	found = append(found, v.alone(found)...)
	slices.SortFunc(found, func(a, b Connected) int { return cmp.Or(a.Subnet.Compare(b.Subnet), cmp.Compare(a.Dev, b.Dev)) })
	return slices.CompactFunc(found, func(a, b Connected) bool { return a.Subnet == b.Subnet }), nil
}

// alone gives the host's addresses that are in no connected subnet of their interface.
func (v *view) alone(connected []Connected) []Connected {
	var found []Connected
	for _, a := range v.addrs {
		link, addr := v.links[a.LinkIndex], addrOf(a)
		if link == nil || link.Attrs().Flags&net.FlagUp == 0 || owns(link.Attrs()) || local(addr) || a.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		dev := link.Attrs().Name
		if !slices.ContainsFunc(connected, func(c Connected) bool { return c.Dev == dev && c.Subnet.Contains(addr) }) {
			found = append(found, Connected{Subnet: netip.PrefixFrom(addr, addr.BitLen()), Dev: dev, Addr: addr})
		}
	}
	return found
}

// Subnets are those of Connected.
func (l *Links) Subnets(ctx context.Context) ([]netip.Prefix, error) {
	all, err := l.Connected(ctx)
	var subnets []netip.Prefix
	for _, c := range all {
		subnets = append(subnets, c.Subnet)
	}
	return subnets, err
}

// routedLimit bounds Routed: a router may have a great many.
const routedLimit = 64

// Routed lists the subnets to which routes lead by a gateway, as VPN clients and administrators set them, the largest first; at most the 64
// largest. Routes to single addresses and parts of a default route are left out.
func (l *Links) Routed(ctx context.Context) ([]netip.Prefix, error) {
	v, err := l.view(ctx)
	if err != nil {
		return nil, err
	}
	var found []netip.Prefix
	for _, r := range v.routes {
		if p, ok := v.destination(r); ok && !part(p) && !p.IsSingleIP() && (r.Gw != nil || r.Via != nil || len(r.MultiPath) > 0) {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b netip.Prefix) int { return cmp.Or(cmp.Compare(a.Bits(), b.Bits()), a.Compare(b)) })
	found = slices.Compact(found)
	return found[:min(len(found), routedLimit)], nil
}

// HalfDefaults lists the IPv4 routes of scope link that are parts of a default route, such as 0.0.0.0/1 and 128.0.0.0/1 of a VPN.
// Docker chooses no subnet that overlaps one of them, though they say nothing about who uses what (engines before 27; later ones
// ignore those that begin at 0.0.0.0).
func (l *Links) HalfDefaults(ctx context.Context) ([]netip.Prefix, error) {
	v, err := l.view(ctx)
	if err != nil {
		return nil, err
	}
	var found []netip.Prefix
	for _, r := range v.routes {
		if p, ok := v.destination(r); ok && part(p) && p.Addr().Is4() && r.Scope == netlink.SCOPE_LINK {
			found = append(found, p)
		}
	}
	return found, nil
}

// destination is the subnet to which a route of the host leads; routes that say nothing about subnets have none.
func (v *view) destination(r netlink.Route) (netip.Prefix, bool) {
	if r.Type != unix.RTN_UNICAST || isDefault(r) || !v.leavesBy(r) {
		return netip.Prefix{}, false
	}
	p, ok := prefixOf(r.Dst)
	return p, ok && !local(p.Addr())
}

// part says whether a prefix is larger than any subnet: VPN clients cover everything by 0.0.0.0/1 and 128.0.0.0/1, or by finer
// parts, where others set a default route. No private range is larger than 10.0.0.0/8 or fc00::/7.
func part(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < 8
	}
	return p.Bits() < 7
}

// leavesBy says whether a route's interface is up, and neither the loopback nor ours.
func (v *view) leavesBy(r netlink.Route) bool {
	index := r.LinkIndex
	if len(r.MultiPath) > 0 {
		index = r.MultiPath[0].LinkIndex
	}
	link := v.links[index]
	return link != nil && link.Attrs().Flags&net.FlagUp != 0 && link.Attrs().Flags&net.FlagLoopback == 0 && !owns(link.Attrs())
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if addr.Is4In6() && bits == 32 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, ones).Masked(), ok && bits != 0
}

func local(a netip.Addr) bool {
	return a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast()
}
