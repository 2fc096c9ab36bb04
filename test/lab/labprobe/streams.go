package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

func serve(fs *flag.FlagSet) func(io.Writer) error {
	listen := fs.String("l", ":7000", "address to listen on")
	size := fs.Int64("n", 1<<20, "random bytes for each client, followed by the end of the stream")
	seed := fs.Uint64("seed", 1, "of the random bytes: the same seed gives the same sum")
	limit := deadlineFlag(fs, time.Minute)
	return func(out io.Writer) error {
		sum := sha256.New()
		if _, err := io.CopyN(sum, randomBytes(*seed), *size); err != nil {
			return err
		}
		l, err := net.Listen("tcp", *listen)
		if err != nil {
			return err
		}
		if err := printJSON(out, map[string]any{"listening": l.Addr().String(), "bytes": *size, "sha256": hex.EncodeToString(sum.Sum(nil))}); err != nil {
			return err
		}
		time.AfterFunc(*limit, func() { l.Close() })
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			if err != nil {
				return err
			}
			go func() {
				defer conn.Close()
				// What a client does is reported by the client.
				_, _ = io.CopyN(conn, randomBytes(*seed), *size)
			}()
		}
	}
}

// randomBytes is an endless stream that depends on the seed only.
func randomBytes(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

func fetch(fs *flag.FlagSet) func(io.Writer) error {
	from := fs.String("from", "", "address of a `labprobe serve`")
	want := fs.String("sha256", "", "fail unless the bytes have this sum")
	limit := deadlineFlag(fs, 30*time.Second)
	return func(out io.Writer) error {
		start := time.Now()
		conn, err := net.DialTimeout("tcp", *from, *limit)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(start.Add(*limit)); err != nil {
			return err
		}
		sum := sha256.New()
		n, err := io.Copy(sum, conn)
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", n, err)
		}
		got := hex.EncodeToString(sum.Sum(nil))
		if *want != "" && got != *want {
			return fmt.Errorf("%d bytes with sum %s instead of %s", n, got, *want)
		}
		return printJSON(out, map[string]any{"bytes": n, "sha256": got, "seconds": time.Since(start).Seconds()})
	}
}

func udpEcho(fs *flag.FlagSet) func(io.Writer) error {
	listen := fs.String("l", ":7001", "address to listen on")
	limit := deadlineFlag(fs, time.Minute)
	return func(out io.Writer) error {
		conn, err := net.ListenPacket("udp", *listen)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := errors.Join(conn.SetDeadline(time.Now().Add(*limit)), printJSON(out, map[string]any{"listening": conn.LocalAddr().String()})); err != nil {
			return err
		}
		buf, count := make([]byte, 65536), 0
		for {
			n, from, err := conn.ReadFrom(buf)
			if isTimeout(err) {
				return printJSON(out, map[string]any{"count": count})
			}
			if err != nil {
				return err
			}
			count++
			if _, err := conn.WriteTo(buf[:n], from); err != nil {
				return err
			}
		}
	}
}

func udpPing(fs *flag.FlagSet) func(io.Writer) error {
	to := fs.String("to", "", "address of a `labprobe udp-echo`")
	count := fs.Int("count", 1, "datagrams to send, one after the other's answer")
	size := fs.Int("size", 64, "bytes of each")
	wait := fs.Duration("wait", time.Second, "wait so long for each answer")
	return func(out io.Writer) error {
		conn, err := net.Dial("udp", *to)
		if err != nil {
			return err
		}
		defer conn.Close()
		buf, received := make([]byte, 65536), 0
		var longest, total time.Duration
		for i := range *count {
			body := fmt.Sprintf("%08d", i)
			body += strings.Repeat(".", max(0, *size-len(body)))
			start := time.Now()
			if err := conn.SetDeadline(start.Add(*wait)); err != nil {
				return err
			}
			if _, err := conn.Write([]byte(body)); err != nil && !errors.Is(err, net.ErrClosed) {
				continue // An ICMP error to an earlier datagram; the loss is counted.
			}
			n, err := conn.Read(buf)
			if err != nil || string(buf[:n]) != body {
				continue
			}
			took := time.Since(start)
			received, total, longest = received+1, total+took, max(longest, took)
		}
		mean := time.Duration(0)
		if received > 0 {
			mean = total / time.Duration(received)
		}
		if err := printJSON(out, map[string]any{"sent": *count, "received": received, "mean_us": mean.Microseconds(), "max_us": longest.Microseconds()}); err != nil {
			return err
		}
		if received == 0 {
			return fmt.Errorf("no answer from %s", *to)
		}
		return nil
	}
}

func joinMcast(fs *flag.FlagSet) func(io.Writer) error {
	group := fs.String("group", "239.1.2.3:7002", "multicast group and port")
	ifname := fs.String("i", "eth0", "interface")
	count := fs.Int("count", 0, "end after so many datagrams")
	say := fs.String("send", "", "send this text to the group -times times instead of receiving")
	times := fs.Int("times", 1, "with -send")
	limit := deadlineFlag(fs, 5*time.Second)
	return func(out io.Writer) error {
		iface, err := net.InterfaceByName(*ifname)
		if err != nil {
			return err
		}
		addr, err := net.ResolveUDPAddr("udp", *group)
		if err != nil {
			return err
		}
		if *say != "" {
			return sendMcast(out, iface, addr, *say, *times)
		}
		conn, err := net.ListenMulticastUDP("udp", iface, addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := errors.Join(conn.SetDeadline(time.Now().Add(*limit)), printJSON(out, map[string]any{"listening": *group})); err != nil {
			return err
		}
		buf, seen := make([]byte, 65536), 0
		for *count == 0 || seen < *count {
			n, from, err := conn.ReadFrom(buf)
			if isTimeout(err) {
				break
			}
			if err != nil {
				return err
			}
			seen++
			if err := printJSON(out, map[string]any{"from": from.String(), "text": string(buf[:n])}); err != nil {
				return err
			}
		}
		return printJSON(out, map[string]any{"count": seen})
	}
}

func sendMcast(out io.Writer, iface *net.Interface, group *net.UDPAddr, text string, times int) error {
	if group.IP.To4() == nil {
		group.Zone = iface.Name
	}
	local, err := firstAddr(iface, group.IP.To4() != nil)
	if err != nil {
		return err
	}
	// The kernel picks the interface by route; a source address of the interface makes an error visible.
	d := net.Dialer{LocalAddr: local, Control: bindToDevice(iface.Name)}
	conn, err := d.DialContext(context.Background(), "udp", group.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	for range times {
		if _, err := io.WriteString(conn, text); err != nil {
			return err
		}
	}
	return printJSON(out, map[string]any{"sent": times})
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}
