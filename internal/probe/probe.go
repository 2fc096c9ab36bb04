// Package probe looks at the way to another host: how large a packet gets there whole, whether somebody refuses the tunnels'
// port, and what its clock shows; and at the Consul at an address. It owns no state, sends a handful of packets to one address that its caller names, and imports the standard
// library and golang.org/x/sys only. It must not know why it is asked.
package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoAnswer says that nothing came back in time.
var ErrNoAnswer = errors.New("no answer")

// The sizes of what is around an echo's data, in bytes (RFC 791, 8200, 792, 4443).
const (
	header4    = 20
	header6    = 40
	headerEcho = 8
)

// Echo sends an ICMP echo request that is size bytes long with its IP header and must not be fragmented, and waits for the
// reply until ctx ends. It needs CAP_NET_RAW. syscall.EMSGSIZE is among the causes when this host's own device is too small.
func Echo(ctx context.Context, to netip.Addr, size int) error {
	network, ip, request, replyType, level, option := "ip4:icmp", header4, byte(8), byte(0), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if to.Is6() {
		network, ip, request, replyType, level, option = "ip6:ipv6-icmp", header6, 128, 129, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) {
			// "Probe" forbids fragments and does not believe what the kernel remembers of the path (ip(7)).
			set = unix.SetsockoptInt(int(fd), level, option, unix.IP_PMTUDISC_PROBE)
		})
		return errors.Join(err, set)
	}}
	conn, err := d.DialContext(ctx, network, to.String())
	if err != nil {
		return fmt.Errorf("probe %s: %w", to, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) }) // ends the read below
	defer stop()
	msg := make([]byte, max(size-ip, headerEcho+8))
	msg[0] = request
	binary.BigEndian.PutUint16(msg[4:], uint16(os.Getpid()))
	binary.BigEndian.PutUint64(msg[headerEcho:], uint64(time.Now().UnixNano()))
	if to.Is4() {
		binary.BigEndian.PutUint16(msg[2:], checksum(msg)) // the kernel does it for ICMPv6
	}
	if _, err := conn.Write(msg); err != nil {
		return fmt.Errorf("probe %s with %d bytes: %w", to, size, err)
	}
	buf := make([]byte, 1<<16)
	for {
		n, _, err := conn.(*net.IPConn).ReadFrom(buf) // Read would leave the IPv4 header in
		if err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("probe %s with %d bytes: %w", to, size, ErrNoAnswer)
			}
			return fmt.Errorf("probe %s with %d bytes: %w", to, size, err)
		}
		got := buf[:n]
		if len(got) == len(msg) && got[0] == replyType && string(got[4:]) == string(msg[4:]) {
			return nil
		}
	}
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// askAgain is the pause between two datagrams to a port that may refuse them.
const askAgain = 100 * time.Millisecond

// Refused sends datagrams that no VXLAN end takes to a UDP port, and returns an error if one is refused before ctx
// ends. Silence is all that an open port gives, and a firewall that drops. Linux refuses once a second, after a few at once (icmp_ratelimit, icmp(7)): who
// has sent something to the port before must give more time than that.
func Refused(ctx context.Context, to netip.AddrPort) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", to.String())
	if err != nil {
		return fmt.Errorf("probe UDP %s: %w", to, err)
	}
	defer conn.Close()
	// Eight zero bytes: a VXLAN header whose I flag is not set, which is dropped (RFC 7348, section 5).
	for ask, answer := make([]byte, headerEcho), make([]byte, 1); ; {
		_, err := conn.Write(ask) // it tells, too, that an earlier one was refused
		if err == nil {
			_ = conn.SetReadDeadline(time.Now().Add(askAgain))
			_, err = conn.Read(answer)
		}
		switch {
		case ctx.Err() != nil || err == nil: // the second: somebody answers
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("probe UDP %s: %w", to, err)
		}
	}
}
