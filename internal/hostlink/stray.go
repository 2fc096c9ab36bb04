package hostlink

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/crashpoint"
)

// Stray is an address or a route that another program put on a link that is a switch port.
type Stray struct {
	Link string
	// What is the address or the route, for people.
	What string

	remove func() error
}

// Strays lists the addresses and routes on host ends of containers, on VXLAN devices of ours and on the named links, which are
// bridges of ours, and addresses on the device of Reserve. None of them should have any: the host would answer there for itself, or route into a network of containers.
// IPv6 link-local addresses are left out, as quiet keeps the kernel from making them. Routes are listed if there is an address, or
// routes is true: a host may have a great many.
func (l *Links) Strays(ctx context.Context, routes bool, bridges ...string) ([]Stray, error) {
	all, err := l.links(ctx)
	if err != nil {
		return nil, err
	}
	ports, reserved := map[int]string{}, 0
	for _, link := range all {
		a, kind := link.Attrs(), link.Type()
		if owns(a) && (kind == "veth" || kind == "vxlan") || slices.Contains(bridges, a.Name) {
			ports[a.Index] = a.Name
		}
		if a.Name == ReservedName && isReserved(link) {
			ports[a.Index], reserved = a.Name, a.Index
		}
	}
	if len(ports) == 0 {
		return nil, nil
	}
	addrs, err := l.addrs(ctx)
	if err != nil {
		return nil, err
	}
	var found []Stray
	for _, a := range addrs {
		addr := addrOf(a)
		if name, ours := ports[a.LinkIndex]; ours && !(addr.Is6() && addr.IsLinkLocalUnicast()) {
			found = append(found, Stray{Link: name, What: "address " + a.IPNet.String(), remove: l.removeAddr(a)})
		}
	}
	if len(found) == 0 && !routes {
		return nil, nil
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := l.allRoutes(ctx, family)
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			if name, ours := ports[r.LinkIndex]; ours && strayRoute(r) && r.LinkIndex != reserved { // Reserve compares its own
				found = append(found, Stray{Link: name, What: "route to " + destination(r), remove: l.removeRoute(r)})
			}
		}
	}
	return found, nil
}

// RemoveStrays removes what Strays lists, and returns what it removed.
func (l *Links) RemoveStrays(ctx context.Context, routes bool, bridges ...string) ([]Stray, error) {
	found, err := l.Strays(ctx, routes, bridges...)
	if err != nil {
		return nil, err
	}
	var removed []Stray
	var errs []error
	for _, s := range found {
		crashpoint.Hit("link: stray")
		if err := s.remove(); err != nil {
			errs = append(errs, fmt.Errorf("remove %s from link %s: %w", s.What, s.Link, err))
			continue
		}
		removed = append(removed, s)
	}
	return removed, errors.Join(errs...)
}

// allRoutes lists the unicast routes of all tables but the kernel's own of local addresses.
func (l *Links) allRoutes(ctx context.Context, family int) ([]netlink.Route, error) {
	return list(ctx, l, "list routes of all tables", func() ([]netlink.Route, error) {
		return l.handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC, Type: unix.RTN_UNICAST},
			netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	})
}

// strayRoute says whether somebody made a route: the kernel makes those to link-local addresses and groups by itself.
func strayRoute(r netlink.Route) bool {
	if r.Table == unix.RT_TABLE_LOCAL {
		return false
	}
	if r.Dst == nil {
		return true
	}
	p, ok := prefixOf(r.Dst)
	return ok && (p.Bits() == 0 || !p.Addr().IsMulticast() && !(p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()))
}

func destination(r netlink.Route) string {
	if r.Dst == nil {
		return "default"
	}
	if p, ok := prefixOf(r.Dst); ok {
		return p.String()
	}
	return netip.Prefix{}.String()
}

func (l *Links) removeAddr(a netlink.Addr) func() error {
	return func() error {
		link, err := l.handle.LinkByIndex(a.LinkIndex)
		if err == nil {
			crashpoint.Hit("link: address")
			err = l.handle.AddrDel(link, &netlink.Addr{IPNet: a.IPNet})
		}
		if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		return err
	}
}

func (l *Links) removeRoute(r netlink.Route) func() error {
	return func() error {
		crashpoint.Hit("link: route")
		err := l.handle.RouteDel(&r)
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) { // it went with its address
			return nil
		}
		return err
	}
}
