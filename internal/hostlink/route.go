package hostlink

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// WayTo gives the name of the link by which the kernel sends packets to an address now, and whether the address is on that link's own segment. The error wraps the kernel's, such as
// ENETUNREACH where there is no route.
func (l *Links) WayTo(ctx context.Context, to netip.Addr) (dev string, direct bool, err error) {
	routes, err := retry(ctx, "route to "+to.String(), func() ([]netlink.Route, error) { return l.handle.RouteGet(to.AsSlice()) })
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
