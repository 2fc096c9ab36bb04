package hostlink

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch signals that links of ours appeared, changed or went, or got an address, by anybody's hand; what they are now say Owned
// and Strays. Signals that nobody has taken yet become one. The channel is closed when the context ends, and not before: a
// subscription that fails is made again.
func (l *Links) Watch(ctx context.Context) (<-chan struct{}, error) {
	// Links that are ours are known by index, so that one that loses its alias is noticed.
	known := map[int32]Link{}
	changed, err := l.follow(ctx, feed{
		groups: []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR},
		begin: func(ctx context.Context) error {
			owned, err := l.Owned(ctx)
			if err != nil {
				return err
			}
			clear(known)
			for _, link := range owned {
				link.Kind = "" // a message need not tell it
				known[int32(link.Index)] = link
			}
			return nil
		},
		tells: func(m syscall.NetlinkMessage) bool { return concerns(m, known) },
	})
	if err != nil {
		return nil, fmt.Errorf("watch links: %w", err)
	}
	return changed, nil
}

// concerns says whether a message tells something new about a link of ours, and keeps track of what is known.
// The kernel also reports requests that changed nothing; who mends on every signal would never rest.
func concerns(m syscall.NetlinkMessage, known map[int32]Link) bool {
	if m.Header.Type == unix.RTM_NEWADDR && len(m.Data) >= unix.SizeofIfAddrmsg {
		_, ours := known[int32(nl.DeserializeIfAddrmsg(m.Data).Index)]
		return ours
	}
	if m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return false
	}
	info := nl.DeserializeIfInfomsg(m.Data)
	if info.Family != unix.AF_UNSPEC {
		return false // A bridge's message about its port: it carries no alias.
	}
	was, watched := known[info.Index]
	attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return watched
	}
	now := Link{Index: int(info.Index), Up: info.Flags&unix.IFF_UP != 0}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.IFLA_IFNAME:
			now.Name = unix.ByteSliceToString(a.Value)
		case unix.IFLA_IFALIAS:
			now.Alias = unix.ByteSliceToString(a.Value)
		case unix.IFLA_MTU:
			now.MTU = int(nl.NativeEndian().Uint32(a.Value))
		}
	}
	if m.Header.Type == unix.RTM_DELLINK || !strings.HasPrefix(now.Alias, OwnerPrefix) {
		delete(known, info.Index)
		return watched
	}
	known[info.Index] = now
	return !watched || was != now
}
