package hostlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ReservedName is the bridge without ports that carries the routes of Reserve.
const ReservedName = "socketplane-res"

const (
	reservedAlias = OwnerPrefix + "reserved"
	// worstMetric is the greatest: any other route to the same subnet is preferred.
	worstMetric = 1<<32 - 1
	// ipv4IgnoreLinkdown is IPV4_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN of linux/ip.h.
	ipv4IgnoreLinkdown = 29
)

// reservedMAC is locally administered. A bridge without ports drops its carrier when its address is set, as the kernel then
// looks at its ports; a bridge that never had one keeps the carrier on.
var reservedMAC = net.HardwareAddr{0x02, 0x73, 0x70, 0x00, 0x00, 0x01}

// Reserve makes exactly these IPv4 subnets look used to Docker, which chooses no subnet that overlaps a route of scope link in
// the main table. Nothing is ever routed by them: their device has no carrier, and routes without carrier are ignored there, so
// each lookup goes on to the route that it would find without them. Without subnets the device is removed.
//
// It can be called at any time: it compares with what the kernel has. An error wraps ErrForeign if another program has the name.
func (l *Links) Reserve(ctx context.Context, subnets []netip.Prefix) error {
	link, err := l.find(ctx, ReservedName)
	if err != nil {
		return err
	}
	if link != nil && !isReserved(link) {
		return foreign(link, "has the name of the device for reserved subnets")
	}
	if len(subnets) == 0 {
		return l.unreserve(link)
	}
	if link, err = l.reservedLink(ctx, link); err != nil {
		return err
	}
	have, err := list(ctx, l, "list the routes of reserved subnets", func() ([]netlink.Route, error) {
		return l.handle.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
	})
	if err != nil {
		return err
	}
	var errs []error
	kept := map[netip.Prefix]bool{}
	for _, r := range have {
		p, ok := netip.Prefix{}, false
		if r.Dst != nil {
			p, ok = prefixOf(r.Dst)
		}
		if ok && slices.Contains(subnets, p) && r.Scope == netlink.SCOPE_LINK && uint32(r.Priority) == worstMetric && !kept[p] {
			kept[p] = true
			continue
		}
		if err := l.handle.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove the route of the reserved subnet %v: %w", r.Dst, err))
		}
	}
	for _, p := range subnets {
		if !kept[p] && p.Addr().Is4() {
			kept[p] = true
			errs = append(errs, l.addReserved(link, p))
		}
	}
	return errors.Join(errs...)
}

// Reserved says whether the device of Reserve is there.
func (l *Links) Reserved(ctx context.Context) (bool, error) {
	link, err := l.find(ctx, ReservedName)
	return link != nil && isReserved(link), err
}

// isReserved says whether a link is the device that Reserve makes; one without an alias was never finished.
func isReserved(link netlink.Link) bool {
	a := link.Attrs()
	return link.Type() == "bridge" && (a.Alias == reservedAlias || a.Alias == "" && a.Group == madeMark)
}

func (l *Links) unreserve(link netlink.Link) error {
	if link == nil {
		return nil
	}
	if err := l.handle.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", ReservedName, err)
	}
	return nil
}

// reservedLink makes or mends the device. A device with carrier would attract packets, so it is an error.
func (l *Links) reservedLink(ctx context.Context, link netlink.Link) (netlink.Link, error) {
	if link == nil {
		bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
		bridge.Name, bridge.Group = ReservedName, madeMark
		if err := l.handle.LinkAdd(bridge); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("make link %s: %w", ReservedName, err)
		}
	}
	link, err := l.find(ctx, ReservedName)
	if err == nil && link == nil {
		err = fmt.Errorf("%w: %s was removed meanwhile", ErrNoLink, ReservedName)
	}
	if err == nil && !isReserved(link) {
		err = foreign(link, "has the name of the device for reserved subnets")
	}
	if err != nil {
		return nil, err
	}
	if err := l.mend(link, reservedAlias, 0); err != nil {
		return nil, err
	}
	if idle(link) {
		return link, nil
	}
	if err := l.quiet(link); err != nil {
		return nil, err
	}
	conf := nl.NewRtAttr(unix.IFLA_INET_CONF, nil)
	conf.AddRtAttr(ipv4IgnoreLinkdown, nl.Uint32Attr(1))
	if err := l.setFamily(link.Attrs().Index, unix.AF_INET, conf); err != nil {
		return nil, fmt.Errorf("ignore routes of link %s: %w", ReservedName, err)
	}
	if err := l.up(link); err != nil {
		return nil, err
	}
	if err := l.handle.LinkSetHardwareAddr(link, reservedMAC); err != nil {
		return nil, fmt.Errorf("set the address of link %s: %w", ReservedName, err)
	}
	if link, err = l.find(ctx, ReservedName); err != nil {
		return nil, err
	}
	if link == nil || !idle(link) {
		return nil, errors.Join(fmt.Errorf("link %s has carrier: remove the ports that were added to it", ReservedName), l.unreserve(link))
	}
	return link, nil
}

// idle says that the device is up and has no carrier.
func idle(link netlink.Link) bool {
	a := link.Attrs()
	return a.Flags&net.FlagUp != 0 && a.OperState != netlink.OperUp && a.OperState != netlink.OperUnknown && a.Flags&net.FlagRunning == 0
}

func (l *Links) addReserved(link netlink.Link, p netip.Prefix) error {
	err := l.handle.RouteAdd(&netlink.Route{
		LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Priority: worstMetric, Protocol: unix.RTPROT_STATIC,
		Dst: &net.IPNet{IP: p.Masked().Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)},
	})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add the route of the reserved subnet %s: %w", p, err)
	}
	return nil
}
