package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const port = 5353

// hops is what RFC 6762 asks for, though no router passes the group on.
const hops = 255

// socket sends to and hears the group of one family on one interface.
type socket struct {
	conn  net.PacketConn
	group *net.UDPAddr
}

// open joins the group on an interface. Other programs of the host (Avahi, systemd-resolved) share the port.
func open(ctx context.Context, dev string, addr netip.Addr) (*socket, error) {
	iface, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, fmt.Errorf("mDNS on %s: %w", dev, err)
	}
	s := &socket{group: &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: port}}
	network := "udp4"
	if addr.Is6() {
		network, s.group.IP, s.group.Zone = "udp6", net.ParseIP("ff02::fb"), dev
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if ctlErr := raw.Control(func(fd uintptr) { err = share(int(fd), dev) }); ctlErr != nil {
			return ctlErr
		}
		return err
	}}
	// Bound to the group, so that nothing but multicast gets in.
	if s.conn, err = config.ListenPacket(ctx, network, s.group.String()); err != nil {
		return nil, fmt.Errorf("mDNS on %s: %w", dev, err)
	}
	if addr.Is6() {
		err = join6(ipv6.NewPacketConn(s.conn), iface, s.group)
	} else {
		err = join4(ipv4.NewPacketConn(s.conn), iface, s.group)
	}
	if err != nil {
		s.conn.Close()
		return nil, fmt.Errorf("mDNS on %s: %w", dev, err)
	}
	return s, nil
}

func share(fd int, dev string) error {
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return err
		}
	}
	return unix.BindToDevice(fd, dev)
}

func join4(p *ipv4.PacketConn, iface *net.Interface, group *net.UDPAddr) error {
	if err := p.JoinGroup(iface, group); err != nil {
		return err
	}
	if err := p.SetMulticastInterface(iface); err != nil {
		return err
	}
	return p.SetMulticastTTL(hops)
}

func join6(p *ipv6.PacketConn, iface *net.Interface, group *net.UDPAddr) error {
	if err := p.JoinGroup(iface, group); err != nil {
		return err
	}
	if err := p.SetMulticastInterface(iface); err != nil {
		return err
	}
	return p.SetMulticastHopLimit(hops)
}

func (s *socket) send(packet []byte) error {
	_, err := s.conn.WriteTo(packet, s.group)
	return err
}
