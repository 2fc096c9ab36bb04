package hostlink

import (
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
	// MTU of the path that tunnels take, in bytes: of Dev, or of the links that routes use when Dev is the loopback or a dummy.
	MTU int
}

// Choice is an answer of Choose.
type Choice struct {
	Underlay
	// Passing says that the choice must last before it replaces the present one: it is on another interface or of another family.
	Passing bool
	// Stopgap is a Passing choice that gives way when the present address returns: no default route by an ordinary interface names
	// it, or it is IPv6 after IPv4.
	Stopgap bool
	// Trouble is what keeps tunnels from working though the address is there; nil if nothing is known.
	Trouble error
}

// Underlay is Choose without a present one.
func (l *Links) Underlay(ctx context.Context, advertise netip.Addr) (Underlay, error) {
	c, err := l.Choose(ctx, advertise, Underlay{})
	return c.Underlay, err
}

// Choose finds the address of our tunnels: advertise if it is valid, which must be on an interface; else the source address of
// the default route (IPv4 before IPv6, point-to-point interfaces, as VPNs have them, last); else the first global unicast address
// of an interface that is up and has a carrier. Docker's interfaces, container ends and ours are never chosen. present is the underlay
// in use, or zero: while its address is there, only a default route by an ordinary interface is preferred to it, and to an IPv4
// address that is up only an IPv4 one. The error wraps ErrNoUnderlay.
func (l *Links) Choose(ctx context.Context, advertise netip.Addr, present Underlay) (Choice, error) {
	v, err := l.view(ctx)
	if err != nil {
		return Choice{}, err
	}
	v.present = present
	c, err := v.choose(advertise.Unmap())
	if err != nil {
		return Choice{}, err
	}
	if unnamed := c.Stopgap; present.Addr.IsValid() && c.Addr != present.Addr {
		c.Passing = c.Dev != present.Dev || c.Addr.Is4() != present.Addr.Is4()
		c.Stopgap = c.Passing && (unnamed || present.Addr.Is4() && !c.Addr.Is4())
	} else {
		c.Passing, c.Stopgap = false, false
	}
	if link := v.links[c.Index]; link != nil && link.Attrs().Flags&net.FlagUp == 0 {
		c.Trouble = fmt.Errorf("interface %s, which has the tunnels' address %s, is down: set it up with 'ip link set %s up'", c.Dev, c.Addr, c.Dev)
	}
	return c, nil
}

func (v *view) choose(advertise netip.Addr) (Choice, error) {
	if advertise.IsValid() {
		u, err := v.having(advertise)
		return Choice{Underlay: u}, err
	}
	named, ok := v.byDefaultRoute(ordinary)
	if ok && !named.Addr.Is4() {
		named = v.insteadOfIPv6(named)
	}
	if ok {
		return Choice{Underlay: named}, nil
	}
	if u, ok := v.still(); ok {
		return Choice{Underlay: u}, nil
	}
	if u, ok := v.byDefaultRoute(eligible); ok {
		return Choice{Underlay: u, Stopgap: true}, nil
	}
	for _, want4 := range []bool{true, false} {
		for _, a := range v.addrs {
			addr := addrOf(a)
			if link := v.links[a.LinkIndex]; eligible(link) && v.carries(link) && addr.Is4() == want4 && usable(a) {
				return Choice{Underlay: v.at(link, addr), Stopgap: true}, nil
			}
		}
	}
	return Choice{}, fmt.Errorf("%w: no default route and no global address on an interface that is up and has a carrier: give one with --advertise ADDRESS", ErrNoUnderlay)
}

// insteadOfIPv6 gives the IPv4 underlay that is better than the one that only an IPv6 default route names, or that one. The present
// IPv4 address stays while it is there and up: the other hosts' tunnels are IPv4, too, and a router's advertisement outlives a DHCP
// lease. Without a present one, an IPv4 default route by a VPN means that the interface had its own before the VPN took it.
func (v *view) insteadOfIPv6(named Underlay) Underlay {
	if v.present.Addr.IsValid() {
		if u, ok := v.still(); ok && u.Addr.Is4() && v.links[u.Index].Attrs().Flags&net.FlagUp != 0 {
			return u
		}
		return named
	}
	if first, ok := v.byDefaultRoute(eligible); ok && first.Addr.Is4() {
		if addr, ok := v.sourceOn(named.Index, true, nil); ok {
			return v.at(v.links[named.Index], addr)
		}
	}
	return named
}

// still gives the present underlay if its address is on an interface, which may be down.
func (v *view) still() (Underlay, bool) {
	if !v.present.Addr.IsValid() {
		return Underlay{}, false
	}
	for _, a := range v.addrs {
		if link := v.links[a.LinkIndex]; link != nil && addrOf(a) == v.present.Addr && there(a) {
			return v.at(link, v.present.Addr), true
		}
	}
	return Underlay{}, false
}

func (v *view) having(advertise netip.Addr) (Underlay, error) {
	for _, a := range v.addrs {
		link := v.links[a.LinkIndex]
		if link == nil || addrOf(a) != advertise || advertise.IsLoopback() {
			continue
		}
		return v.at(link, advertise), nil
	}
	return Underlay{}, fmt.Errorf("%w: %s is on no interface of this host: give one of its own addresses with --advertise ADDRESS (see `ip addr`)", ErrNoUnderlay, advertise)
}

// byDefaultRoute gives the source address of the best default route whose interface is one that may be chosen.
func (v *view) byDefaultRoute(may func(netlink.Link) bool) (Underlay, bool) {
	for _, r := range v.routes {
		if r.Type != unix.RTN_UNICAST || !isDefault(r) {
			continue
		}
		index, gw := r.LinkIndex, r.Gw
		if len(r.MultiPath) > 0 {
			index, gw = r.MultiPath[0].LinkIndex, r.MultiPath[0].Gw
		}
		link := v.links[index]
		if !may(link) {
			continue
		}
		if src, ok := netip.AddrFromSlice(r.Src); ok {
			if at := v.holder(src.Unmap()); routed(at) {
				link = at // of several next hops, each may be the way
			}
			return v.at(link, src.Unmap()), true
		}
		if addr, ok := v.sourceOn(index, r.Family == netlink.FAMILY_V4, gw); ok {
			return v.at(link, addr), true
		}
	}
	return Underlay{}, false
}

// Outward gives the link by which what has no nearer route leaves this host, and its MTU: that of the best default route, IPv4 before IPv6. It is not
// always the link of the tunnels' address. dev is empty if there is none.
func (l *Links) Outward(ctx context.Context) (dev string, mtu int, err error) {
	v, err := l.view(ctx)
	if err != nil {
		return "", 0, err
	}
	for _, r := range v.routes {
		if r.Type != unix.RTN_UNICAST || !isDefault(r) {
			continue
		}
		index := r.LinkIndex
		if len(r.MultiPath) > 0 {
			index = r.MultiPath[0].LinkIndex
		}
		if link := v.links[index]; eligible(link) {
			return link.Attrs().Name, link.Attrs().MTU, nil
		}
	}
	return "", 0, nil
}

// sourceOn gives the address of a link from which it would speak to the gateway: one of its subnet, else any, and of several the
// present one before the first.
func (v *view) sourceOn(index int, v4 bool, gw net.IP) (netip.Addr, bool) {
	var near, first netip.Addr
	for _, a := range v.addrs {
		addr := addrOf(a)
		if a.LinkIndex != index || addr.Is4() != v4 || !usable(a) {
			continue
		}
		if gw != nil && a.IPNet.Contains(gw) && (!near.IsValid() || addr == v.present.Addr) {
			near = addr
		}
		if !first.IsValid() || addr == v.present.Addr {
			first = addr
		}
	}
	if near.IsValid() {
		return near, true
	}
	return first, first.IsValid()
}

// holder gives a link that has the address, or nil.
func (v *view) holder(addr netip.Addr) netlink.Link {
	for _, a := range v.addrs {
		if addrOf(a) == addr {
			return v.links[a.LinkIndex]
		}
	}
	return nil
}

// carries says whether a link has a carrier. A bridge without ports, such as libvirt's virbr0 or lxdbr0, leads nowhere; some kernels
// say that it has a carrier.
func (v *view) carries(link netlink.Link) bool {
	a := link.Attrs()
	if a.Flags&net.FlagRunning == 0 || link.Type() != "bridge" {
		return a.Flags&net.FlagRunning != 0
	}
	for _, port := range v.links {
		if port.Attrs().MasterIndex == a.Index {
			return true
		}
	}
	return false
}

// at gives the underlay of an address on a link.
func (v *view) at(link netlink.Link, addr netip.Addr) Underlay {
	a := link.Attrs()
	u := Underlay{Addr: addr, Dev: a.Name, Index: a.Index, MTU: a.MTU}
	if routed(link) {
		u.MTU = v.pathMTU(addr.Is4(), min(a.MTU, ethernetMTU))
	}
	return u
}

// ethernetMTU is in bytes (IEEE 802.3), for hosts whose routes do not tell more.
const ethernetMTU = 1500

// routed says whether an address on the link is reached by other links: routed fabrics (BGP to the host) put the host's address on
// the loopback or a dummy, whose MTU says nothing about the path.
func routed(link netlink.Link) bool {
	return link != nil && (link.Attrs().Flags&net.FlagLoopback != 0 || link.Type() == "dummy")
}

// pathMTU gives the smallest MTU of the links that routes with a next hop use, ordinary ones before others; unknown if there is none.
// Any of them may carry tunnels.
func (v *view) pathMTU(v4 bool, unknown int) int {
	for _, may := range []func(netlink.Link) bool{ordinary, eligible} {
		least := 0
		for _, r := range v.routes {
			if r.Type != unix.RTN_UNICAST || (r.Family == netlink.FAMILY_V4) != v4 {
				continue
			}
			for _, hop := range hops(r) {
				if link := v.links[hop.LinkIndex]; may(link) && !routed(link) && (least == 0 || link.Attrs().MTU < least) {
					least = link.Attrs().MTU
				}
			}
		}
		if least != 0 {
			return least
		}
	}
	return unknown
}

// hops are the next hops of a route; none if the destination is on the link itself.
func hops(r netlink.Route) []*netlink.NexthopInfo {
	all := r.MultiPath
	if len(all) == 0 {
		all = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via}}
	}
	return slices.DeleteFunc(slices.Clone(all), func(h *netlink.NexthopInfo) bool { return h.Gw == nil && h.Via == nil })
}

func addrOf(a netlink.Addr) netip.Addr {
	if a.IPNet == nil {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(a.IPNet.IP)
	return addr.Unmap()
}

// there says whether an address is global and can be used, also one that was deprecated since: the kernel chooses it for no new connection, but tunnels name
// their address themselves.
func there(a netlink.Addr) bool {
	return addrOf(a).IsGlobalUnicast() && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0
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

// ordinary is eligible without point-to-point interfaces: VPN clients take the default route by them, and the other hosts
// are still where they were.
func ordinary(link netlink.Link) bool {
	return eligible(link) && link.Attrs().Flags&net.FlagPointToPoint == 0
}

// foreignSwitch knows the interfaces of Docker (its bridges and container ends), of Open vSwitch and of our own
// bridge by their names, which are fixed.
func foreignSwitch(name string) bool { return foreignNames.MatchString(name) }

var foreignNames = regexp.MustCompile(`^(docker0|docker_gwbridge|br-[0-9a-f]{12}|veth.*|socketplane.*|ovs-system|ovs-netdev)$`)

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}
