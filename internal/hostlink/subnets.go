package hostlink

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Subnets lists the prefixes that this host reaches directly: the routes without gateway of all interfaces that
// are up, IPv4 and IPv6, sorted, each once, without loopback, link-local and multicast ones.
func (l *Links) Subnets(ctx context.Context) ([]netip.Prefix, error) {
	return l.prefixes(ctx, func(r netlink.Route) bool {
		return r.Gw == nil && r.Via == nil && len(r.MultiPath) == 0
	})
}

// Routes lists the destinations of all unicast routes but the default ones, also those behind gateways; otherwise
// as Subnets. Docker before version 24 refuses a pool that overlaps any of them.
func (l *Links) Routes(ctx context.Context) ([]netip.Prefix, error) {
	return l.prefixes(ctx, func(netlink.Route) bool { return true })
}

func (l *Links) prefixes(ctx context.Context, wanted func(netlink.Route) bool) ([]netip.Prefix, error) {
	v, err := l.view(ctx)
	if err != nil {
		return nil, err
	}
	var found []netip.Prefix
	for _, r := range v.routes {
		if r.Type != unix.RTN_UNICAST || isDefault(r) || !wanted(r) || !v.leavesBy(r) {
			continue
		}
		if p, ok := prefixOf(r.Dst); ok && !local(p.Addr()) {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, netip.Prefix.Compare)
	return slices.Compact(found), nil
}

// leavesBy says whether a route's interface is up and not the loopback.
func (v *view) leavesBy(r netlink.Route) bool {
	index := r.LinkIndex
	if len(r.MultiPath) > 0 {
		index = r.MultiPath[0].LinkIndex
	}
	link := v.links[index]
	return link != nil && link.Attrs().Flags&net.FlagUp != 0 && link.Attrs().Flags&net.FlagLoopback == 0
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
