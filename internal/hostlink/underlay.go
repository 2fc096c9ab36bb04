package hostlink

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Underlay is where this host's tunnels end.
type Underlay struct {
	Addr netip.Addr
	// Dev is the interface that has the address, Index its index.
	Dev   string
	Index int
	// MTU of the path that tunnels take, in bytes: of Dev, or of the default route's interface when Dev is the loopback.
	MTU int
}

// Underlay chooses the address of our tunnels: advertise if it is valid, which must be on an interface; else the
// source address of the default route (IPv4 before IPv6); else the first global unicast address of an interface
// that is up. Docker's interfaces, container ends and ours are never chosen. The error wraps ErrNoUnderlay.
func (l *Links) Underlay(ctx context.Context, advertise netip.Addr) (Underlay, error) {
	v, err := l.view(ctx)
	if err != nil {
		return Underlay{}, err
	}
	if advertise.IsValid() {
		return v.having(advertise.Unmap())
	}
	if u, ok := v.byDefaultRoute(); ok {
		return u, nil
	}
	for _, want4 := range []bool{true, false} {
		for _, a := range v.addrs {
			addr := addrOf(a)
			if link := v.links[a.LinkIndex]; eligible(link) && addr.Is4() == want4 && usable(a) {
				return underlayOf(link, addr), nil
			}
		}
	}
	return Underlay{}, fmt.Errorf("%w: no default route and no global address on an interface that is up: give one with --advertise ADDRESS", ErrNoUnderlay)
}

// view is what one choice looks at.
type view struct {
	links  map[int]netlink.Link
	addrs  []netlink.Addr
	routes []netlink.Route
}

func (l *Links) view(ctx context.Context) (*view, error) {
	links, err := l.links(ctx)
	if err != nil {
		return nil, err
	}
	v := &view{links: make(map[int]netlink.Link, len(links))}
	for _, link := range links {
		v.links[link.Attrs().Index] = link
	}
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
	return v, nil
}

func (v *view) having(advertise netip.Addr) (Underlay, error) {
	for _, a := range v.addrs {
		link := v.links[a.LinkIndex]
		if link == nil || addrOf(a) != advertise || advertise.IsLoopback() {
			continue
		}
		u := underlayOf(link, advertise)
		// Routed fabrics put the host's address on the loopback, whose MTU says nothing about the path.
		if link.Attrs().Flags&net.FlagLoopback != 0 {
			if path, ok := v.byDefaultRoute(); ok {
				u.MTU = path.MTU
			}
		}
		return u, nil
	}
	return Underlay{}, fmt.Errorf("%w: %s is on no interface of this host: give one of its own addresses with --advertise ADDRESS (see `ip addr`)", ErrNoUnderlay, advertise)
}

func (v *view) byDefaultRoute() (Underlay, bool) {
	for _, r := range v.routes {
		if r.Type != unix.RTN_UNICAST || !isDefault(r) {
			continue
		}
		index, gw := r.LinkIndex, r.Gw
		if len(r.MultiPath) > 0 {
			index, gw = r.MultiPath[0].LinkIndex, r.MultiPath[0].Gw
		}
		link := v.links[index]
		if !eligible(link) {
			continue
		}
		if src, ok := netip.AddrFromSlice(r.Src); ok {
			return underlayOf(link, src.Unmap()), true
		}
		if addr, ok := v.sourceOn(index, r.Family == netlink.FAMILY_V4, gw); ok {
			return underlayOf(link, addr), true
		}
	}
	return Underlay{}, false
}

// sourceOn gives the address of a link from which it would speak to the gateway: that of its subnet, else the first.
func (v *view) sourceOn(index int, v4 bool, gw net.IP) (netip.Addr, bool) {
	var first netip.Addr
	for _, a := range v.addrs {
		addr := addrOf(a)
		if a.LinkIndex != index || addr.Is4() != v4 || !usable(a) {
			continue
		}
		if gw != nil && a.IPNet.Contains(gw) {
			return addr, true
		}
		if !first.IsValid() {
			first = addr
		}
	}
	return first, first.IsValid()
}

func underlayOf(link netlink.Link, addr netip.Addr) Underlay {
	a := link.Attrs()
	return Underlay{Addr: addr, Dev: a.Name, Index: a.Index, MTU: a.MTU}
}

func addrOf(a netlink.Addr) netip.Addr {
	if a.IPNet == nil {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(a.IPNet.IP)
	return addr.Unmap()
}

// usable says whether an address lasts: global, not temporary (privacy), deprecated, tentative or a duplicate.
func usable(a netlink.Addr) bool {
	const passing = unix.IFA_F_SECONDARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	return addrOf(a).IsGlobalUnicast() && a.Flags&passing == 0
}

// eligible says whether tunnels may be chosen to leave by a link, without the operator having named its address.
func eligible(link netlink.Link) bool {
	if link == nil {
		return false
	}
	a := link.Attrs()
	return a.Flags&net.FlagUp != 0 && a.Flags&net.FlagLoopback == 0 && !owns(a) && link.Type() != "vxlan" && !foreignSwitch(a.Name)
}

// foreignSwitch knows the interfaces of Docker (its bridges and container ends), of Open vSwitch and of our own
// bridge by their names, which are fixed.
func foreignSwitch(name string) bool {
	ok, err := regexp.MatchString(`^(docker0|docker_gwbridge|br-[0-9a-f]{12}|veth.*|socketplane.*|ovs-system|ovs-netdev)$`, name)
	return err == nil && ok
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}
