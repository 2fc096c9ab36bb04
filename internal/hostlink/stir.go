package hostlink

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// WatchNetwork signals that addresses, routes or interfaces of the host changed, as far as they are not container ends, bridges of
// Docker, links of ours or routes of Reserve: those change with each container or network. Signals that nobody has taken yet become one. The channel is closed
// when the context ends, and not before: a subscription that fails is made again.
func (l *Links) WatchNetwork(ctx context.Context) (<-chan struct{}, error) {
	changed, err := l.follow(ctx, feed{
		groups: []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE},
		tells:  stirring,
		late:   true,
	})
	if err != nil {
		return nil, fmt.Errorf("watch this host's network: %w", err)
	}
	return changed, nil
}

// reservedRoute says whether a message is about a route of Reserve, as its form tells: there is one for each network of the cluster.
func reservedRoute(m syscall.NetlinkMessage) bool {
	if len(m.Data) < unix.SizeofRtMsg {
		return false
	}
	route := nl.DeserializeRtMsg(m.Data)
	if route.Family != unix.AF_INET || route.Protocol != unix.RTPROT_STATIC || route.Scope != unix.RT_SCOPE_LINK {
		return false
	}
	attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofRtMsg:])
	return err == nil && slices.ContainsFunc(attrs, func(a syscall.NetlinkRouteAttr) bool {
		return a.Attr.Type == unix.RTA_PRIORITY && len(a.Value) == 4 && nl.NativeEndian().Uint32(a.Value) == worstMetric
	})
}

// stirring says whether a message may be about the host's own network. Of links it looks at the name and the alias.
func stirring(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return true
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return !reservedRoute(m)
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
	default:
		return false
	}
	if len(m.Data) < unix.SizeofIfInfomsg || nl.DeserializeIfInfomsg(m.Data).Family != unix.AF_UNSPEC {
		return false // a bridge's message about its port
	}
	stirs := true
	whole := attributes(m.Data[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			name := unix.ByteSliceToString(value)
			stirs = stirs && !foreignSwitch(name) && !looksLikeOurs(name)
		case unix.IFLA_IFALIAS:
			stirs = stirs && !strings.HasPrefix(unix.ByteSliceToString(value), OwnerPrefix)
		}
	})
	return stirs || !whole
}
