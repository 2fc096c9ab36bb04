package hostlink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch signals that links of ours appeared, changed or went, or got an address, by anybody's hand; what they are now say Owned
// and Strays.
// Signals that nobody has taken yet become one. The channel is closed when the context ends.
func (l *Links) Watch(ctx context.Context) (<-chan struct{}, error) {
	var socket *nl.NetlinkSocket
	err := l.inNamespace(func() (err error) {
		socket, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch links: %w", err)
	}
	// Links that are ours already are known by index, so that one that loses its alias is noticed.
	owned, err := l.Owned(ctx)
	if err != nil {
		socket.Close()
		return nil, err
	}
	known := make(map[int32]Link, len(owned))
	for _, link := range owned {
		link.Kind = "" // a message need not tell it
		known[int32(link.Index)] = link
	}
	changed := make(chan struct{}, 1)
	stop := context.AfterFunc(ctx, socket.Close)
	go func() {
		defer close(changed)
		defer stop()
		l.watch(ctx, socket, known, changed)
	}()
	return changed, nil
}

func (l *Links) watch(ctx context.Context, socket *nl.NetlinkSocket, known map[int32]Link, changed chan<- struct{}) {
	for ctx.Err() == nil {
		msgs, from, err := socket.Receive()
		// The kernel dropped messages as we were slow: what they said is in Owned.
		lost := errors.Is(err, unix.ENOBUFS)
		if err != nil && !lost {
			if ctx.Err() == nil {
				l.log.Error("watch of links ended", "error", err)
			}
			return
		}
		if !lost && from.Pid != nl.PidKernel {
			continue
		}
		ours := lost
		for _, m := range msgs {
			ours = concerns(m, known) || ours
		}
		if !ours {
			continue
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
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
