package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Parts of an ARP packet for IPv4 over Ethernet (RFC 826).
const (
	arpLen               = 28
	arpRequest, arpReply = 1, 2
	arpSenderMAC         = 8
	arpSenderIP          = 14
	ethernetLen          = 6
	arpEthernet          = 1
)

// othersAnswer is how long it is listened for a second station that has the address, once one has answered.
const othersAnswer = 200 * time.Millisecond

// Neighbours asks the segment of a device which stations have an IPv4 address, and returns their MACs, in the order of their answers: more than one
// where two machines have the address, or one machine answers on two NICs. ErrNoAnswer says that none has. It asks by itself, as the kernel's
// table believes in a station for some time after it has gone. It needs CAP_NET_RAW.
func Neighbours(ctx context.Context, dev string, from, to netip.Addr) ([]string, error) {
	link, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, fmt.Errorf("neighbour %s: %w", to, err)
	}
	if !to.Is4() || !from.Is4() || len(link.HardwareAddr) != ethernetLen {
		return nil, fmt.Errorf("neighbour %s on %s: %w", to, dev, ErrNoARP)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(wire(unix.ETH_P_ARP)))
	if err != nil {
		return nil, fmt.Errorf("neighbour %s: %w", to, err)
	}
	f := os.NewFile(uintptr(fd), "arp")
	defer f.Close()
	everybody := &unix.SockaddrLinklayer{Protocol: wire(unix.ETH_P_ARP), Ifindex: link.Index, Halen: ethernetLen, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	if err := unix.Bind(fd, everybody); err != nil {
		return nil, fmt.Errorf("neighbour %s: %w", to, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Now()) }) // ends the read below
	defer stop()
	question := arpQuestion(link.HardwareAddr, from, to)
	var found []string
	for enough := (time.Time{}); enough.IsZero() || time.Now().Before(enough); {
		if err := unix.Sendto(fd, question, 0, everybody); err != nil {
			return nil, fmt.Errorf("neighbour %s: %w", to, err)
		}
		_ = f.SetReadDeadline(time.Now().Add(askAgain))
		more, err := arpAnswers(f, to)
		switch {
		case ctx.Err() != nil && len(found)+len(more) == 0:
			return nil, fmt.Errorf("neighbour %s: %w", to, ErrNoAnswer)
		case ctx.Err() == nil && err != nil:
			return nil, fmt.Errorf("neighbour %s: %w", to, err)
		}
		for _, mac := range more {
			if !slices.Contains(found, mac) {
				found = append(found, mac)
			}
		}
		switch {
		case ctx.Err() != nil:
			return found, nil
		case enough.IsZero() && len(found) > 0:
			enough = time.Now().Add(othersAnswer)
		}
	}
	return found, nil
}

// arpAnswers reads the MACs of stations that have the address until the deadline of f.
func arpAnswers(f *os.File, to netip.Addr) (macs []string, err error) {
	buf := make([]byte, 1<<10)
	for {
		n, err := f.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return macs, nil
		}
		if err != nil {
			return macs, err
		}
		if mac, ok := arpAnswer(buf[:n], to); ok {
			macs = append(macs, mac.String())
		}
	}
}

// ErrNoARP says that a device or an address has no ARP.
var ErrNoARP = errors.New("no ARP there")

func wire(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }

func arpQuestion(mac net.HardwareAddr, from, to netip.Addr) []byte {
	q := make([]byte, 0, arpLen)
	q = binary.BigEndian.AppendUint16(q, arpEthernet)
	q = binary.BigEndian.AppendUint16(q, unix.ETH_P_IP)
	q = append(q, ethernetLen, 4)
	q = binary.BigEndian.AppendUint16(q, arpRequest)
	q = append(append(q, mac...), from.AsSlice()...)
	return append(append(q, make([]byte, ethernetLen)...), to.AsSlice()...)
}

// arpAnswer takes the sender's MAC from a reply, or from a question, of the station that has the address.
func arpAnswer(p []byte, from netip.Addr) (net.HardwareAddr, bool) {
	if len(p) < arpLen || binary.BigEndian.Uint16(p) != arpEthernet || binary.BigEndian.Uint16(p[2:]) != unix.ETH_P_IP {
		return nil, false
	}
	if op := binary.BigEndian.Uint16(p[6:]); op != arpRequest && op != arpReply {
		return nil, false
	}
	sender, _ := netip.AddrFromSlice(p[arpSenderIP : arpSenderIP+4])
	return net.HardwareAddr(p[arpSenderMAC:arpSenderIP]), sender == from
}
