package hostlink

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// WatchNetwork signals that addresses, routes or interfaces of the host changed, as far as they are not container ends, bridges of
// Docker or links of ours: those change with each container. Signals that nobody has taken yet become one. The channel is closed
// when the context ends, and not before: a subscription that fails is made again.
func (l *Links) WatchNetwork(ctx context.Context) (<-chan struct{}, error) {
	changed, err := l.follow(ctx, feed{
		groups: []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE},
		tells:  stirring,
	})
	if err != nil {
		return nil, fmt.Errorf("watch this host's network: %w", err)
	}
	return changed, nil
}

// stirring says whether a message may be about the host's own network. Of links it looks at the name and the alias.
func stirring(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return true
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
	default:
		return false
	}
	if len(m.Data) < unix.SizeofIfInfomsg || nl.DeserializeIfInfomsg(m.Data).Family != unix.AF_UNSPEC {
		return false // a bridge's message about its port
	}
	attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return true
	}
	for _, a := range attrs {
		value := unix.ByteSliceToString(a.Value)
		switch {
		case a.Attr.Type == unix.IFLA_IFNAME && (foreignSwitch(value) || looksLikeOurs(value)),
			a.Attr.Type == unix.IFLA_IFALIAS && strings.HasPrefix(value, OwnerPrefix):
			return false
		}
	}
	return true
}
