package hostlink

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/crashpoint"
)

// Settings of IPv4 for one link, by their numbers in linux/ip.h (enum, IPV4_DEVCONF_…).
const (
	ipv4Forwarding = 1
	ipv4RPFilter   = 8
	ipv4ARPIgnore  = 19
)

func rawSockets() (map[int]*nl.SocketHandle, error) {
	sockets := map[int]*nl.SocketHandle{}
	for _, family := range []int{unix.NETLINK_ROUTE, unix.NETLINK_GENERIC} {
		s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), family)
		if err != nil {
			return sockets, fmt.Errorf("open netlink: %w", err)
		}
		sockets[family] = &nl.SocketHandle{Socket: s}
		timeout := unix.NsecToTimeval(requestTimeout.Nanoseconds())
		if err := errors.Join(s.SetSendTimeout(&timeout), s.SetReceiveTimeout(&timeout)); err != nil {
			return sockets, fmt.Errorf("netlink timeout: %w", err)
		}
	}
	return sockets, nil
}

func (l *Links) request(kind, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = l.raw
	return req
}

// quiet keeps the host's own IP stack off a link that is a switch port. A switch in user space only gets copies
// of the frames: the host sees them too and would otherwise answer ARP for all its addresses (arp_ignore 8: never),
// route packets for containers (forwarding 0) and accept theirs (rp_filter 1: no route leads back here), and
// IPv6 would give the link an address and send router solicitations into the network.
// All but the last is set by netlink, which needs no writable /proc.
func (l *Links) quiet(link netlink.Link) error {
	a := link.Attrs()
	if err := l.setFamily(a.Index, unix.AF_INET, quietIPv4()); err != nil {
		return fmt.Errorf("turn IPv4 of link %s off: %w", a.Name, err)
	}
	err := l.setFamily(a.Index, unix.AF_INET6, quietIPv6())
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil // The kernel has no IPv6, or not on a link with so small an MTU.
	}
	if err != nil {
		return fmt.Errorf("turn IPv6 addresses of link %s off: %w", a.Name, err)
	}
	l.withoutIPv6(a.Name)
	return nil
}

// ipv6Settings is where the kernel has a network namespace's settings of IPv6, by link. What is opened below it belongs to the namespace in which it was opened itself.
const ipv6Settings = "/proc/sys/net/ipv6/conf"

// openIPv6Settings opens the settings of the calling thread's namespace; -1 if the kernel has no IPv6.
func openIPv6Settings() int {
	fd, err := unix.Open(ipv6Settings, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// withoutIPv6 turns IPv6 of a link off, where /proc can be written. Else a router advertisement could still configure the link; a container that sends one gains
// nothing else.
func (l *Links) withoutIPv6(name string) {
	fd, err := unix.Openat(l.ipv6, name+"/disable_ipv6", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		crashpoint.Hit("link: IPv6 off")
		_, err = unix.Write(fd, []byte("1"))
		err = errors.Join(err, unix.Close(fd))
	}
	if err != nil {
		l.log.Debug("IPv6 stays on, without addresses", "link", name, "error", err)
	}
}

func quietIPv4() *nl.RtAttr {
	conf := nl.NewRtAttr(unix.IFLA_INET_CONF, nil)
	conf.AddRtAttr(ipv4Forwarding, nl.Uint32Attr(0))
	conf.AddRtAttr(ipv4RPFilter, nl.Uint32Attr(1))
	conf.AddRtAttr(ipv4ARPIgnore, nl.Uint32Attr(8))
	return conf
}

func quietIPv6() *nl.RtAttr {
	return nl.NewRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(nl.IN6_ADDR_GEN_MODE_NONE))
}

func (l *Links) setFamily(index int, family int, conf *nl.RtAttr) error {
	req := l.request(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(family, nil).AddChild(conf)
	req.AddData(spec)
	crashpoint.Hit("link: settings")
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
