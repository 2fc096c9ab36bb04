package hostlink

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// WayTo gives the name of the link by which the kernel sends packets to an address now. The error wraps the kernel's, such as
// ENETUNREACH where there is no route.
func (l *Links) WayTo(ctx context.Context, to netip.Addr) (string, error) {
	routes, err := retry(ctx, "route to "+to.String(), func() ([]netlink.Route, error) { return l.handle.RouteGet(to.AsSlice()) })
	if err != nil {
		return "", err
	}
	if len(routes) == 0 {
		return "", fmt.Errorf("route to %s: the kernel names none", to)
	}
	link, err := l.findIndex(ctx, routes[0].LinkIndex)
	if err != nil {
		return "", err
	}
	if link == nil {
		return "", fmt.Errorf("route to %s: its link %d has gone", to, routes[0].LinkIndex)
	}
	return link.Attrs().Name, nil
}
