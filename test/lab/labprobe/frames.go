package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const etherHeader = 14

func send(fs *flag.FlagSet) func(io.Writer) error {
	ifname := fs.String("i", "eth0", "interface")
	src := fs.String("src", "", "source MAC; the interface's own by default")
	dst := fs.String("dst", "ff:ff:ff:ff:ff:ff", "destination MAC")
	etherType := fs.String("type", "0x88b5", "EtherType; the default is for experiments")
	payload := fs.String("payload", "", "payload as hex; -size bytes of zero by default")
	size := fs.Int("size", 46, "payload size in bytes, when there is no -payload")
	count := fs.Int("count", 1, "frames to send")
	every := fs.Duration("every", 0, "time between two frames")
	return func(out io.Writer) error {
		iface, err := net.InterfaceByName(*ifname)
		if err != nil {
			return err
		}
		if *src == "" {
			*src = iface.HardwareAddr.String()
		}
		frame, err := buildFrame(*src, *dst, *etherType, *payload, *size)
		if err != nil {
			return err
		}
		fd, err := packetSocket(iface.Index, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for i := range *count {
			if i > 0 && *every > 0 {
				<-time.After(*every)
			}
			if _, err := unix.Write(fd, frame); err != nil {
				return fmt.Errorf("send frame %d of %d bytes on %s: %w", i+1, len(frame), *ifname, err)
			}
		}
		return printJSON(out, map[string]any{"sent": *count, "bytes": len(frame)})
	}
}

func buildFrame(src, dst, etherType, payload string, size int) ([]byte, error) {
	to, err := net.ParseMAC(dst)
	if err != nil {
		return nil, err
	}
	from, err := net.ParseMAC(src)
	if err != nil {
		return nil, err
	}
	kind, err := strconv.ParseUint(etherType, 0, 16)
	if err != nil {
		return nil, fmt.Errorf("EtherType: %w", err)
	}
	body := make([]byte, size)
	if payload != "" {
		if body, err = hex.DecodeString(payload); err != nil {
			return nil, fmt.Errorf("payload: %w", err)
		}
	}
	frame := append(append([]byte{}, to...), from...)
	return append(binary.BigEndian.AppendUint16(frame, uint16(kind)), body...), nil
}

// packetSocket opens a raw socket on an interface that receives one protocol; 0 receives nothing.
func packetSocket(ifindex int, protocol uint16) (int, error) {
	wire := protocol<<8 | protocol>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(wire))
	if err != nil {
		return 0, fmt.Errorf("packet socket (needs CAP_NET_RAW): %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: wire, Ifindex: ifindex}); err != nil {
		return 0, errors.Join(fmt.Errorf("bind packet socket: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// frameMatch says which frames count.
type frameMatch struct {
	src, dst  net.HardwareAddr
	etherType int
	payload   []byte
	outgoing  bool
}

func sniff(fs *flag.FlagSet) func(io.Writer) error {
	ifname := fs.String("i", "eth0", "interface")
	src := fs.String("src", "", "only frames from this MAC")
	dst := fs.String("dst", "", "only frames to this MAC")
	etherType := fs.String("type", "", "only frames of this EtherType, as 0x0806")
	payload := fs.String("payload", "", "only frames whose payload begins with these bytes, as hex")
	outgoing := fs.Bool("outgoing", false, "count the frames that this host sends, too")
	count := fs.Int("count", 0, "end after so many frames; 0 runs until the deadline")
	quiet := fs.Bool("q", false, "print only the closing line, not each frame")
	limit := deadlineFlag(fs, 5*time.Second)
	return func(out io.Writer) error {
		match, err := parseMatch(*src, *dst, *etherType, *payload)
		if err != nil {
			return err
		}
		match.outgoing = *outgoing
		iface, err := net.InterfaceByName(*ifname)
		if err != nil {
			return err
		}
		fd, err := packetSocket(iface.Index, unix.ETH_P_ALL)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := printJSON(out, map[string]any{"listening": *ifname}); err != nil {
			return err
		}
		seen, err := sniffLoop(fd, match, time.Now().Add(*limit), *count, func(frame []byte) error {
			if *quiet {
				return nil
			}
			return printJSON(out, describe(frame))
		})
		if err != nil {
			return err
		}
		return printJSON(out, map[string]any{"count": seen})
	}
}

func parseMatch(src, dst, etherType, payload string) (m frameMatch, err error) {
	m.etherType = -1
	if src != "" {
		if m.src, err = net.ParseMAC(src); err != nil {
			return m, err
		}
	}
	if dst != "" {
		if m.dst, err = net.ParseMAC(dst); err != nil {
			return m, err
		}
	}
	if etherType != "" {
		kind, err := strconv.ParseUint(etherType, 0, 16)
		if err != nil {
			return m, fmt.Errorf("EtherType: %w", err)
		}
		m.etherType = int(kind)
	}
	m.payload, err = hex.DecodeString(payload)
	return m, err
}

func sniffLoop(fd int, match frameMatch, deadline time.Time, count int, each func([]byte) error) (int, error) {
	buf, seen := make([]byte, 65536), 0
	for count == 0 || seen < count {
		left := time.Until(deadline)
		if left <= 0 {
			break
		}
		timeout := unix.NsecToTimeval(left.Nanoseconds() + 1000)
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			return seen, err
		}
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return seen, fmt.Errorf("receive: %w", err)
		}
		link, _ := from.(*unix.SockaddrLinklayer)
		if link != nil && link.Pkttype == unix.PACKET_OUTGOING && !match.outgoing || !match.accepts(buf[:n]) {
			continue
		}
		seen++
		if err := each(buf[:n]); err != nil {
			return seen, err
		}
	}
	return seen, nil
}

func (m frameMatch) accepts(frame []byte) bool {
	switch {
	case len(frame) < etherHeader,
		m.dst != nil && !bytes.Equal(frame[:6], m.dst),
		m.src != nil && !bytes.Equal(frame[6:12], m.src),
		m.etherType >= 0 && int(binary.BigEndian.Uint16(frame[12:])) != m.etherType:
		return false
	}
	return bytes.HasPrefix(frame[etherHeader:], m.payload)
}

func describe(frame []byte) map[string]any {
	return map[string]any{
		"dst": net.HardwareAddr(frame[:6]).String(), "src": net.HardwareAddr(frame[6:12]).String(),
		"type": fmt.Sprintf("0x%04x", binary.BigEndian.Uint16(frame[12:])), "bytes": len(frame),
		"payload": hex.EncodeToString(frame[etherHeader:min(len(frame), etherHeader+64)]),
	}
}
