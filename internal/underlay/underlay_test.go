package underlay_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/internal/underlay"
)

func TestMain(m *testing.M) { leaks.Main(m) }

// host is a network namespace with a tracker that runs in it.
type host struct {
	t  *testing.T
	ns string
	*underlay.Tracker
	changes <-chan struct{}
}

var hosts atomic.Int32

// newHost makes a host with these ip commands, and starts its tracker.
func newHost(t *testing.T, advertise string, commands ...string) *host {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ip")
	h := &host{t: t, ns: fmt.Sprintf("spul%d-%d", os.Getpid(), hosts.Add(1))}
	run(t, "ip", "netns", "add", h.ns)
	t.Cleanup(func() { run(t, "ip", "netns", "del", h.ns) })
	h.ip(commands...)
	links := h.links()
	t.Cleanup(func() { _ = links.Close() })
	opts := underlay.Options{}
	if advertise != "" {
		opts.Advertise = netip.MustParseAddr(advertise)
	}
	h.Tracker = underlay.New(links, opts)
	h.Look(t.Context())
	ctx, cancel := context.WithCancel(context.Background())
	h.changes = h.Subscribe(ctx)
	done := make(chan error)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *host) ip(commands ...string) {
	h.t.Helper()
	for _, c := range commands {
		run(h.t, "ip", append([]string{"-n", h.ns}, strings.Fields(c)...)...)
	}
}

func (h *host) links() *hostlink.Links {
	h.t.Helper()
	var links *hostlink.Links
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		ns, err := os.Open("/run/netns/" + h.ns)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			links, err = hostlink.New(hostlink.Options{})
		}
		done <- err
	}()
	if err := <-done; err != nil {
		h.t.Fatal(err)
	}
	return links
}

// becomes waits until the underlay is as wanted: "ADDR DEV MTU", with "!" at the end if there is an error beside it.
func (h *host) becomes(want string, limit time.Duration) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	defer cancel()
	for {
		if got := h.now(); got == want {
			return
		}
		select {
		case <-h.changes:
		case <-ctx.Done():
			_, err := h.Current()
			h.t.Fatalf("the underlay is %q (%v) after %v, want %q", h.now(), err, limit, want)
		}
	}
}

func (h *host) now() string {
	u, err := h.Current()
	text := fmt.Sprintf("%v %s %d", u.Addr, u.Dev, u.MTU)
	if err != nil {
		text += " !"
	}
	return text
}

// soon bounds what is to be followed at once; the debounce is 0.2 s, and the rest is for a busy machine.
const soon = 3 * time.Second

// lasting bounds what is followed when it has lasted for two seconds.
const lasting = soon + 3*time.Second

// nic makes an interface with a carrier: the other end of its cable is up, too.
func nic(name, addr string) []string {
	far := "veth" + name
	return []string{"link add " + name + " type veth peer name " + far, "link set " + name + " up", "link set " + far + " up", "addr add " + addr + " dev " + name + nodad(addr)}
}

func nodad(addr string) string {
	if strings.Contains(addr, ":") {
		return " nodad"
	}
	return ""
}

func TestFollowsAddressMTUAndNIC(t *testing.T) {
	h := newHost(t, "", append(nic("eth0", "10.1.0.1/24"), "route add default via 10.1.0.254")...)
	h.becomes("10.1.0.1 eth0 1500", soon)
	// A DHCP renewal: the former address goes, and with it the route, and then the next one comes.
	h.ip("addr del 10.1.0.1/24 dev eth0", "addr add 10.1.0.2/24 dev eth0", "route replace default via 10.1.0.254")
	h.becomes("10.1.0.2 eth0 1500", soon)
	h.ip("link set eth0 mtu 1400")
	h.becomes("10.1.0.2 eth0 1400", soon)
	// Another NIC gets the default route.
	h.ip(append(nic("eth1", "10.2.0.1/24"), "route add default via 10.2.0.254 metric 1", "route del default via 10.1.0.254")...)
	h.becomes("10.2.0.1 eth1 1500", lasting)
	// The address moves to another NIC, with the route.
	h.ip("addr del 10.2.0.1/24 dev eth1", "link add eth2 mtu 1450 type bridge", "link set eth2 up", "addr add 10.2.0.1/24 dev eth2",
		"route add default via 10.2.0.254")
	h.becomes("10.2.0.1 eth2 1450", soon)
	// To IPv6.
	h.ip("addr flush dev eth2", "addr flush dev eth0", "addr add 2001:db8:1::1/64 dev eth2 nodad", "route add default via 2001:db8:1::ff")
	h.becomes("2001:db8:1::1 eth2 1450", lasting)
}

func TestKeepsTheLastAddress(t *testing.T) {
	h := newHost(t, "10.1.0.7", append(nic("eth0", "10.1.0.7/24"), nic("eth1", "10.2.0.1/24")...)...)
	h.becomes("10.1.0.7 eth0 1500", soon)
	h.ip("addr del 10.1.0.7/24 dev eth0")
	h.becomes("10.1.0.7 eth0 1500 !", soon)
	if _, err := h.Current(); !errors.Is(err, underlay.ErrNone) || !strings.Contains(err.Error(), "10.1.0.7") {
		t.Errorf("the error is %v", err)
	}
	h.ip("addr add 10.1.0.7/32 dev eth1")
	h.becomes("10.1.0.7 eth1 1500", soon)
}

func TestNoneYet(t *testing.T) {
	h := newHost(t, "")
	h.becomes("invalid IP  0 !", soon)
	if _, err := h.Current(); !errors.Is(err, underlay.ErrNone) || !strings.Contains(err.Error(), "--advertise") {
		t.Errorf("the error is %v", err)
	}
	h.ip(nic("eth0", "2001:db8:1::1/64")...)
	h.becomes("2001:db8:1::1 eth0 1500", soon)
}

// TestGapIsNoChange: while a DHCP client exchanges the address, tunnels do not move to another NIC.
func TestGapIsNoChange(t *testing.T) {
	h := newHost(t, "", append(append(nic("eth0", "10.1.0.1/24"), nic("eth1", "10.2.0.1/24")...), "route add default via 10.1.0.254")...)
	h.ip("addr flush dev eth0")
	deadline := time.After(time.Second)
	for open := true; open; {
		select {
		case <-h.changes:
			if got := h.now(); got != "10.1.0.1 eth0 1500" {
				t.Fatalf("the underlay is %s", got)
			}
		case <-deadline:
			open = false
		}
	}
	h.ip("addr add 10.1.0.3/24 dev eth0", "route add default via 10.1.0.254")
	h.becomes("10.1.0.3 eth0 1500", soon)
	h.ip("link del eth0") // for good
	h.becomes("10.2.0.1 eth1 1500", lasting)
}

// stays checks that the underlay is the same throughout a second, and then does what follows.
func (h *host) stays(want string) {
	h.t.Helper()
	for deadline := time.After(time.Second); ; {
		if got := h.now(); got != want {
			h.t.Fatalf("the underlay is %s, want %s", got, want)
		}
		select {
		case <-h.changes:
		case <-deadline:
			return
		}
	}
}

// TestIPv4OutlivesItsDefaultRoute: routers' advertisements outlive a DHCP lease; the other hosts' tunnels are IPv4.
func TestIPv4OutlivesItsDefaultRoute(t *testing.T) {
	h := newHost(t, "", append(nic("eth0", "10.1.0.1/24"), "addr add 2001:db8:1::1/64 dev eth0 nodad",
		"route add default via 10.1.0.254", "route add default via fe80::1 dev eth0")...)
	h.becomes("10.1.0.1 eth0 1500", soon)
	h.ip("route del default via 10.1.0.254")
	for range 4 { // longer than what may be temporary must last
		h.stays("10.1.0.1 eth0 1500")
	}
	// Without the address there is only IPv6, and when it is back it is taken back.
	h.ip("addr del 10.1.0.1/24 dev eth0")
	h.becomes("2001:db8:1::1 eth0 1500", lasting)
	h.ip("addr add 10.1.0.1/24 dev eth0")
	h.becomes("10.1.0.1 eth0 1500", lasting)
}

// TestLostAddressIsTakenBack: a stopgap gives way to the address that it replaced, until a default route names another one.
func TestLostAddressIsTakenBack(t *testing.T) {
	h := newHost(t, "", append(nic("eth0", "10.1.0.1/24"), nic("eth1", "10.2.0.1/24")...)...)
	h.becomes("10.1.0.1 eth0 1500", soon)
	h.ip("addr del 10.1.0.1/24 dev eth0")
	h.becomes("10.2.0.1 eth1 1500", lasting)
	h.ip("link set eth1 mtu 1450") // it is followed, too
	h.becomes("10.2.0.1 eth1 1450", soon)
	h.ip("link set eth0 down", "addr add 10.1.0.1/24 dev eth0")
	h.stays("10.2.0.1 eth1 1450") // the address is back on an interface that is down
	h.ip("link set eth0 up")
	h.becomes("10.1.0.1 eth0 1500", soon)
	// Another one is named while it is away: then that stays.
	h.ip("addr del 10.1.0.1/24 dev eth0")
	h.becomes("10.2.0.1 eth1 1450", lasting)
	h.ip("route add default via 10.2.0.254")
	h.stays("10.2.0.1 eth1 1450")
	h.ip("route del default via 10.2.0.254", "addr add 10.1.0.1/24 dev eth0")
	for range 3 {
		h.stays("10.2.0.1 eth1 1450")
	}
}

// TestBetterDefaultRouteIsLostForAMoment: of two default routes the better one goes and comes, and tunnels stay.
func TestBetterDefaultRouteIsLostForAMoment(t *testing.T) {
	h := newHost(t, "", append(append(nic("eth0", "10.1.0.1/24"), nic("eth1", "10.2.0.1/24")...),
		"route add default via 10.1.0.254 metric 10", "route add default via 10.2.0.254 metric 20")...)
	h.becomes("10.1.0.1 eth0 1500", soon)
	h.ip("route del default via 10.1.0.254 metric 10")
	h.stays("10.1.0.1 eth0 1500")
	h.ip("route add default via 10.1.0.254 metric 10")
	for range 3 {
		h.stays("10.1.0.1 eth0 1500")
	}
	// Lost for good it is replaced, and when it returns it is the better one again.
	h.ip("route del default via 10.1.0.254 metric 10")
	h.becomes("10.2.0.1 eth1 1500", lasting)
	h.ip("route add default via 10.1.0.254 metric 10")
	h.becomes("10.1.0.1 eth0 1500", lasting)
}

// TestDeprecatedAddress: a router renumbers its network, and then stops advertising anything: addresses are deprecated, and still there.
func TestDeprecatedAddress(t *testing.T) {
	h := newHost(t, "", append(nic("eth0", "2001:db8:1::1/64"), "route add default via fe80::1 dev eth0")...)
	h.becomes("2001:db8:1::1 eth0 1500", soon)
	h.ip("addr add 2001:db8:2::1/64 dev eth0 nodad", "addr change 2001:db8:1::1/64 dev eth0 preferred_lft 0")
	h.becomes("2001:db8:2::1 eth0 1500", soon)
	h.ip("addr change 2001:db8:2::1/64 dev eth0 preferred_lft 0", "route del default via fe80::1 dev eth0")
	h.stays("2001:db8:2::1 eth0 1500")
	h.ip("addr add 2001:db8:3::1/64 dev eth0 nodad", "route add default via fe80::1 dev eth0")
	h.becomes("2001:db8:3::1 eth0 1500", soon)
}

func TestNICDownAndUp(t *testing.T) {
	h := newHost(t, "", append(nic("eth0", "10.1.0.1/24"), "route add default via 10.1.0.254")...)
	h.ip("link set eth0 down")
	h.becomes("10.1.0.1 eth0 1500 !", soon)
	if _, err := h.Current(); err == nil || !strings.Contains(err.Error(), "ip link set eth0 up") {
		t.Errorf("the error is %v", err)
	}
	h.ip("link set eth0 up")
	h.becomes("10.1.0.1 eth0 1500", soon)
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
}
