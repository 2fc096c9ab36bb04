package hostlink

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// WayTo gives the name of the link by which the kernel sends packets from one address to another now, and whether the second is on that link's own
// segment. Rules may choose another table for one source than for others; without a valid from, or with one that this host does not have, the
// kernel chooses the source. The error wraps the kernel's, such as ENETUNREACH where there is no route.
func (l *Links) WayTo(ctx context.Context, from, to netip.Addr) (dev string, direct bool, err error) {
	dev, gateway, err := l.NextHop(ctx, from, to)
	return dev, err == nil && !gateway.IsValid(), err
}

// NextHop is WayTo with the address of the gateway; it is not valid where there is none, and may be of another family than to.
func (l *Links) NextHop(ctx context.Context, from, to netip.Addr) (dev string, gateway netip.Addr, err error) {
	var opts *netlink.RouteGetOptions
	if from.IsValid() && from.Is4() == to.Is4() {
		opts = &netlink.RouteGetOptions{SrcAddr: from.AsSlice()}
	}
	look := func() ([]netlink.Route, error) { return l.handle.RouteGetWithOptions(to.AsSlice(), opts) }
	routes, err := retry(ctx, "route to "+to.String(), look)
	if err != nil && opts != nil && !l.has(ctx, from) {
		opts = nil
		routes, err = retry(ctx, "route to "+to.String(), look)
	}
	if err != nil {
		return "", gateway, err
	}
	if len(routes) == 0 {
		return "", gateway, fmt.Errorf("route to %s: the kernel names none", to)
	}
	link, err := l.findIndex(ctx, routes[0].LinkIndex)
	if err != nil {
		return "", gateway, err
	}
	if link == nil {
		return "", gateway, fmt.Errorf("route to %s: its link %d has gone", to, routes[0].LinkIndex)
	}
	hop := routes[0].Gw
	if via, ok := routes[0].Via.(*netlink.Via); ok {
		hop = via.Addr
	}
	gateway, _ = netip.AddrFromSlice(hop) // not valid without a gateway
	return link.Attrs().Name, gateway.Unmap(), nil
}

// Loopback says whether packets to a link's addresses come in by other links: it is the loopback, or a dummy, on which routed fabrics
// put a host's address too. A link that does not exist is none.
func (l *Links) Loopback(ctx context.Context, dev string) (bool, error) {
	link, err := l.find(ctx, dev)
	if link == nil || err != nil {
		return false, err
	}
	return routed(link), nil
}

// has says whether a link of this host has an address; it does not if they can't be read.
func (l *Links) has(ctx context.Context, addr netip.Addr) bool {
	all, err := l.addrs(ctx)
	return err == nil && slices.ContainsFunc(all, func(a netlink.Addr) bool { return addrOf(a) == addr })
}
