package hostlink

import (
	"cmp"
	"context"
	"slices"

	"github.com/vishvananda/netlink"
)

// view is what one choice looks at.
type view struct {
	links   map[int]netlink.Link // those with addresses or routes, or all
	addrs   []netlink.Addr
	routes  []netlink.Route
	present Underlay // the one in use; zero for none
}

// view reads addresses and routes, and of the links those that they name: the cost is not that of all containers on this host, whose links have neither.
func (l *Links) view(ctx context.Context) (*view, error) {
	v := &view{links: map[int]netlink.Link{}}
	var err error
	if v.addrs, err = l.addrs(ctx); err != nil {
		return nil, err
	}
	// The kernel lists by index, and IPv4 first; the choice must not depend on that.
	slices.SortStableFunc(v.addrs, func(a, b netlink.Addr) int { return cmp.Compare(a.LinkIndex, b.LinkIndex) })
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := l.routes(ctx, family)
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(routes, func(a, b netlink.Route) int { return cmp.Compare(a.Priority, b.Priority) })
		v.routes = append(v.routes, routes...)
	}
	named := v.named()
	if len(named) <= lookupMost {
		for index := range named {
			link, err := l.findIndex(ctx, index)
			if err != nil {
				return nil, err
			}
			if link != nil {
				v.links[index] = link
			}
		}
		if !v.needsPorts() {
			return v, nil
		}
	}
	links, err := l.links(ctx)
	for _, link := range links {
		v.links[link.Attrs().Index] = link
	}
	return v, err
}

// lookupMost is up to how many links are looked up one by one, for some 20 microseconds each.
const lookupMost = 64

// named are the indexes of the links that have an address or a route.
func (v *view) named() map[int]bool {
	named := map[int]bool{}
	for _, a := range v.addrs {
		named[a.LinkIndex] = true
	}
	for _, r := range v.routes {
		named[r.LinkIndex] = true
		for _, hop := range r.MultiPath {
			named[hop.LinkIndex] = true
		}
	}
	delete(named, 0) // routes that lead nowhere, and those of several next hops
	return named
}

// needsPorts says whether carries may be asked of a bridge: it looks for the bridge's ports among all links.
func (v *view) needsPorts() bool {
	if _, ok := v.byDefaultRoute(eligible); ok {
		return false
	}
	for _, link := range v.links {
		if link.Type() == "bridge" && eligible(link) {
			return true
		}
	}
	return false
}
