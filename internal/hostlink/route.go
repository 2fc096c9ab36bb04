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
		return "", false, err
	}
	if len(routes) == 0 {
		return "", false, fmt.Errorf("route to %s: the kernel names none", to)
	}
	link, err := l.findIndex(ctx, routes[0].LinkIndex)
	if err != nil {
		return "", false, err
	}
	if link == nil {
		return "", false, fmt.Errorf("route to %s: its link %d has gone", to, routes[0].LinkIndex)
	}
	return link.Attrs().Name, routes[0].Gw == nil && routes[0].Via == nil, nil
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
