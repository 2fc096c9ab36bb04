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

// WatchNetwork signals that addresses, routes or interfaces of the host changed, as far as they are not container ends, bridges of
// Docker or links of ours: those change with each container. Signals that nobody has taken yet become one. The channel is closed
// when the context ends or the kernel's messages can't be read any more.
func (l *Links) WatchNetwork(ctx context.Context) (<-chan struct{}, error) {
	var socket *nl.NetlinkSocket
	err := l.inNamespace(func() (err error) {
		socket, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
			unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch this host's network: %w", err)
	}
	changed := make(chan struct{}, 1)
	stop := context.AfterFunc(ctx, socket.Close)
	go func() {
		defer close(changed)
		defer func() {
			if stop() {
				socket.Close()
			}
		}()
		l.stirred(ctx, socket, changed)
	}()
	return changed, nil
}

func (l *Links) stirred(ctx context.Context, socket *nl.NetlinkSocket, changed chan<- struct{}) {
	for ctx.Err() == nil {
		msgs, from, err := socket.Receive()
		lost := errors.Is(err, unix.ENOBUFS) // the kernel dropped messages as we were slow
		if err != nil && !lost {
			if ctx.Err() == nil {
				l.log.Warn("the kernel's messages about this host's network can't be read; it is tried again", "err", err)
			}
			return
		}
		if !lost && from.Pid != nl.PidKernel {
			continue
		}
		stirs := lost
		for _, m := range msgs {
			stirs = stirs || stirring(m)
		}
		if !stirs {
			continue
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
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
