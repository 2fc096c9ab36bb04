package notrack_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/notrack"
	"github.com/socketplane/socketplane/internal/testenv"
)

var spaces atomic.Int32

// inside makes two hosts that are joined by a veth, and runs f on a thread of the first. Connections are tracked there, as where Docker runs.
func inside(t *testing.T, f func(ns string) error) {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ip", "nft")
	a := fmt.Sprintf("spnt%d-%d", os.Getpid(), spaces.Add(1))
	b := a + "b"
	for _, ns := range []string{a, b} {
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { run(t, "ip", "netns", "del", ns) })
	}
	run(t, "ip", "-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b)
	for i, ns := range []string{a, b} {
		run(t, "ip", "-n", ns, "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "eth0")
		run(t, "ip", "-n", ns, "addr", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", "eth0", "nodad")
		run(t, "ip", "-n", ns, "link", "set", "eth0", "up")
		run(t, "ip", "-n", ns, "link", "set", "lo", "up")
	}
	nft(t, a, "add table inet fw; add chain inet fw input { type filter hook input priority 0; policy drop; }; "+
		"add rule inet fw input ct state established,related accept; add rule inet fw input meta l4proto { icmp, ipv6-icmp } accept; "+
		"add rule inet fw input udp dport { 4789, 9999 } accept; add chain inet fw output { type filter hook output priority 0; }; add rule inet fw output ct state new counter")
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		file, err := os.Open("/run/netns/" + a)
		if err == nil {
			defer file.Close()
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f(a)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestTunnelsAreNotTracked: packets to and from the tunnel's address and port leave no entries, others do, and a firewall that accepts
// the port lets them in.
func TestTunnelsAreNotTracked(t *testing.T) {
	inside(t, func(ns string) error {
		for _, c := range []struct{ own, peer string }{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}} {
			own, peer := netip.MustParseAddr(c.own), netip.MustParseAddr(c.peer)
			if err := notrack.Ensure(own, 4789); err != nil {
				return err
			}
			before := rules(t, ns)
			if err := notrack.Ensure(own, 4789); err != nil {
				return err
			}
			if after := rules(t, ns); after != before {
				return fmt.Errorf("a repetition makes\n%s\nof\n%s", after, before)
			}
			start := entries(t, ns)
			if err := exchange(t, ns, own, peer, 4789, 50); err != nil {
				return err
			}
			if got := entries(t, ns); got > start+5 { // neighbours are asked by ICMPv6
				t.Errorf("%s: 50 packets each way left %d entries", own, got-start)
			}
			start = entries(t, ns)
			if err := exchange(t, ns, own, peer, 9999, 50); err != nil {
				return err
			}
			if got := entries(t, ns); got < start+50 {
				t.Errorf("%s: packets of others left %d entries: the test does not see them", own, got-start)
			}
		}
		return nil
	})
}

func TestRulesAreMendedAndRemoved(t *testing.T) {
	inside(t, func(ns string) error {
		addr := netip.MustParseAddr("192.0.2.1")
		want := ""
		for _, damage := range []string{"", "flush table inet socketplane-tunnels", "delete table inet socketplane-tunnels", "flush chain inet socketplane-tunnels output",
			"add rule inet socketplane-tunnels output drop", "delete chain inet socketplane-tunnels prerouting"} {
			if damage != "" {
				nft(t, ns, damage)
			}
			if err := notrack.Ensure(addr, 4789); err != nil {
				return fmt.Errorf("after %q: %w", damage, err)
			}
			if got := rules(t, ns); want == "" {
				want = got
			} else if got != want {
				t.Errorf("after %q the rules are\n%s", damage, got)
			}
		}
		if strings.Count(want, "notrack") != 2 {
			t.Errorf("the rules are\n%s", want)
		}
		if err := notrack.Ensure(addr, 4790); err != nil {
			return err
		}
		if got := rules(t, ns); got != strings.ReplaceAll(want, "4789", "4790") {
			t.Errorf("with another port the rules are\n%s", got)
		}
		for range 2 {
			if err := notrack.Remove(); err != nil {
				return err
			}
			if there, err := notrack.Present(); there || err != nil {
				t.Errorf("present after removal: %t, %v", there, err)
			}
		}
		if got, err := exec.Command("ip", "netns", "exec", ns, "nft", "list", "tables").CombinedOutput(); err != nil || !strings.Contains(string(got), "inet fw") {
			t.Errorf("tables of others: %s, %v", got, err)
		}
		return nil
	})
}

// TestTableOfOthers: a table of our name that another program made is neither changed nor removed.
func TestTableOfOthers(t *testing.T) {
	inside(t, func(ns string) error {
		for _, made := range []string{
			"add chain inet socketplane-tunnels mine",
			"add chain inet socketplane-tunnels output { type filter hook output priority 0; }; add rule inet socketplane-tunnels output accept",
		} {
			nft(t, ns, "add table inet socketplane-tunnels; "+made)
			want := rules(t, ns)
			if err := notrack.Ensure(netip.MustParseAddr("192.0.2.1"), 4789); !errors.Is(err, notrack.ErrForeign) {
				t.Errorf("%s: %v", made, err)
			}
			if there, err := notrack.Present(); there || err != nil {
				t.Errorf("%s: it passes for ours: %v", made, err)
			}
			if err := notrack.Remove(); err != nil {
				t.Errorf("%s: %v", made, err)
			}
			if got := rules(t, ns); got != want {
				t.Errorf("%s: it is\n%s\nand was\n%s", made, got, want)
			}
			nft(t, ns, "delete table inet socketplane-tunnels")
		}
		return nil
	})
}

// exchange sends packets each way, as VXLAN does: each from another port, all to one. Those from the peer must arrive.
func exchange(t *testing.T, ns string, own, peer netip.Addr, port uint16, count int) error {
	t.Helper()
	in, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, port)))
	if err != nil {
		return err
	}
	defer in.Close()
	for range count {
		out, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(peer, port)))
		if err != nil {
			return err
		}
		_, err = out.Write([]byte("x"))
		_ = out.Close()
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
	}
	send(t, ns+"b", peer, own, port, count)
	buf := make([]byte, 16)
	if err := in.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	for i := range count {
		if _, _, err := in.ReadFrom(buf); err != nil {
			return fmt.Errorf("packet %d of the peer: %w", i, err)
		}
	}
	return nil
}

// send sends from another host's namespace, each packet from another port.
func send(t *testing.T, ns string, from, to netip.Addr, port uint16, count int) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		file, err := os.Open("/run/netns/" + ns)
		if err == nil {
			defer file.Close()
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		}
		for i := 0; i < count && err == nil; i++ {
			var out *net.UDPConn
			if out, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, port))); err == nil {
				_, err = out.Write([]byte("x"))
				_ = out.Close()
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// entries counts what the kernel tracks in the namespace.
func entries(t *testing.T, ns string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(run(t, "ip", "netns", "exec", ns, "cat", "/proc/sys/net/netfilter/nf_conntrack_count"), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func rules(t *testing.T, ns string) string {
	t.Helper()
	return run(t, "ip", "netns", "exec", ns, "nft", "list", "table", "inet", notrack.Table)
}

func nft(t *testing.T, ns, commands string) {
	t.Helper()
	run(t, "ip", "netns", "exec", ns, "nft", commands)
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}
