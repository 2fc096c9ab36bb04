package hostlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nic makes an interface that is up, with addresses, a carrier, and no counterpart to speak of.
func (s *space) nic(name string, addrs ...string) {
	s.t.Helper()
	s.unplugged(name, addrs...)
	s.cables++
	near, far := fmt.Sprintf("vethn%d", s.cables), fmt.Sprintf("vethf%d", s.cables)
	s.ip("link", "add", near, "type", "veth", "peer", "name", far)
	s.ip("link", "set", near, "master", name)
	s.ip("link", "set", near, "up")
	s.ip("link", "set", far, "up")
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() { // the kernel notes a carrier on a thread of its own
		if link, err := s.find(s.t.Context(), name); err == nil && link != nil && link.Attrs().Flags&net.FlagRunning != 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s has no carrier", name)
		}
	}
}

// unplugged makes an interface that is up, with addresses, and has no carrier.
func (s *space) unplugged(name string, addrs ...string) {
	s.t.Helper()
	s.ip("link", "add", name, "type", "bridge")
	for _, a := range addrs {
		s.ip("addr", "add", a, "dev", name, "nodad")
	}
	s.ip("link", "set", name, "up")
}

// vpn makes a point-to-point interface that takes the default route.
func (s *space) vpn(name, addr string) {
	s.t.Helper()
	s.ip("tuntap", "add", name, "mode", "tun")
	s.ip("addr", "add", addr, "dev", name)
	s.ip("link", "set", name, "up")
	s.ip("route", "add", "default", "dev", name)
}

func TestUnderlay(t *testing.T) {
	for _, c := range []struct {
		name, advertise string
		prep            func(s *space)
		addr, dev       string
		mtu             int
	}{
		{"advertised", "10.2.0.1", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.nic("eth1", "10.2.0.1/24")
			s.ip("link", "set", "eth1", "mtu", "9000")
			s.ip("route", "add", "default", "via", "10.1.0.254")
		}, "10.2.0.1", "eth1", 9000},
		{"advertised-on-the-loopback", "10.99.0.1", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.ip("addr", "add", "10.99.0.1/32", "dev", "lo")
			s.ip("route", "add", "default", "via", "10.1.0.254")
		}, "10.99.0.1", "lo", 1500},
		{"advertised-on-the-loopback-with-routes-by-several-links", "10.99.0.1", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.nic("eth1", "10.2.0.1/24")
			s.nic("eth2", "10.3.0.1/24")
			s.nic("eth3", "10.4.0.1/24", "2001:db8:4::1/64")
			for dev, mtu := range map[string]string{"eth0": "9000", "eth1": "8000", "eth2": "7000", "eth3": "1400"} {
				s.ip("link", "set", dev, "mtu", mtu)
			}
			s.ip("addr", "add", "10.99.0.1/32", "dev", "lo")
			s.ip("route", "add", "10.99.0.0/24", "nexthop", "via", "10.1.0.254", "nexthop", "via", "10.2.0.254")
			s.ip("route", "add", "10.98.0.0/24", "via", "inet6", "fe80::1", "dev", "eth2")
			s.ip("route", "add", "2001:db8:5::/64", "via", "2001:db8:4::ff") // IPv6: not the way of IPv4 tunnels
			s.vpn("tun0", "10.9.0.1/32")
			s.ip("route", "add", "10.8.0.0/24", "via", "10.9.0.2", "dev", "tun0", "onlink")
			s.ip("link", "set", "tun0", "mtu", "1300")
		}, "10.99.0.1", "lo", 7000},
		{"advertised-on-the-loopback-without-routes", "10.99.0.1", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.ip("addr", "add", "10.99.0.1/32", "dev", "lo")
		}, "10.99.0.1", "lo", 1500},
		{"source-of-several-next-hops-on-the-loopback", "", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.nic("eth1", "10.2.0.1/24")
			s.ip("link", "set", "eth0", "mtu", "9000")
			s.ip("addr", "add", "10.99.0.1/32", "dev", "lo")
			s.ip("route", "add", "default", "src", "10.99.0.1", "nexthop", "via", "10.1.0.254", "nexthop", "via", "10.2.0.254")
		}, "10.99.0.1", "lo", 1500},
		{"default-route", "", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.nic("eth1", "10.2.0.1/24", "10.3.0.1/24")
			s.ip("route", "add", "default", "via", "10.3.0.254")
		}, "10.3.0.1", "eth1", 1500},
		{"source-of-the-default-route", "", func(s *space) {
			s.nic("eth1", "10.2.0.1/24", "10.2.0.7/24")
			s.ip("route", "add", "default", "via", "10.2.0.254", "src", "10.2.0.7")
		}, "10.2.0.7", "eth1", 1500},
		{"least-metric", "", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.nic("eth1", "10.2.0.1/24")
			s.ip("route", "add", "default", "via", "10.1.0.254", "metric", "200")
			s.ip("route", "add", "default", "via", "10.2.0.254", "metric", "100")
		}, "10.2.0.1", "eth1", 1500},
		{"several-next-hops", "", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.ip("route", "add", "default", "nexthop", "via", "10.1.0.253", "nexthop", "via", "10.1.0.254")
		}, "10.1.0.1", "eth0", 1500},
		{"IPv6-default-route", "", func(s *space) {
			s.nic("eth0", "2001:db8:1::1/64")
			s.ip("route", "add", "default", "via", "2001:db8:1::ff")
		}, "2001:db8:1::1", "eth0", 1500},
		{"no-default-route", "", func(s *space) {
			s.nic("docker0", "172.17.0.1/16")
			s.nic("docker_gwbridge", "172.18.0.1/16")
			s.nic("br-0123456789ab", "172.19.0.1/16")
			s.nic("socketplane0", "10.4.0.1/24")
			s.nic("veth1234567", "10.5.0.1/24")
			s.nic("spo0", "10.6.0.1/24")
			s.ip("link", "set", "spo0", "alias", OwnerPrefix+"x")
			s.nic("down0", "10.7.0.1/24")
			s.ip("link", "set", "down0", "down")
			s.nic("eth0", "169.254.1.1/16", "2001:db8:1::1/64", "10.1.0.1/24")
		}, "10.1.0.1", "eth0", 1500},
		{"up-without-a-carrier", "", func(s *space) {
			s.unplugged("virbr0", "192.168.122.1/24")
			s.nic("eth0", "2001:db8:1::1/64")
		}, "2001:db8:1::1", "eth0", 1500},
		{"nothing-has-a-carrier", "", func(s *space) {
			s.unplugged("virbr0", "192.168.122.1/24")
			s.ip("link", "add", "eth0", "type", "veth", "peer", "name", "veth0") // the other end is down
			s.ip("addr", "add", "10.1.0.1/24", "dev", "eth0")
			s.ip("link", "set", "eth0", "up")
		}, "", "", 0},
		{"a-VPN-has-taken-the-IPv4-default-route", "", func(s *space) {
			s.nic("eth0", "10.1.0.1/24", "2001:db8:1::1/64")
			s.ip("route", "add", "default", "via", "fe80::1", "dev", "eth0")
			s.vpn("tun0", "10.9.0.1/32")
		}, "10.1.0.1", "eth0", 1500},
		{"a-VPN-has-the-IPv4-default-route-of-an-IPv6-host", "", func(s *space) {
			s.nic("eth0", "2001:db8:1::1/64")
			s.nic("eth1", "10.1.0.1/24")
			s.ip("route", "add", "default", "via", "fe80::1", "dev", "eth0")
			s.vpn("tun0", "10.9.0.1/32")
		}, "2001:db8:1::1", "eth0", 1500},
		{"only-IPv6", "", func(s *space) { s.nic("eth0", "2001:db8:1::1/64") }, "2001:db8:1::1", "eth0", 1500},
		{"only-Docker", "", func(s *space) { s.nic("docker0", "172.17.0.1/16") }, "", "", 0},
		{"nothing", "", func(*space) {}, "", "", 0},
		{"advertised-is-on-no-interface", "10.66.0.1", func(s *space) { s.nic("eth0", "10.1.0.1/24") }, "", "", 0},
		{"advertised-loopback", "127.0.0.1", func(*space) {}, "", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSpace(t)
			c.prep(s)
			var advertise netip.Addr
			if c.advertise != "" {
				advertise = netip.MustParseAddr(c.advertise)
			}
			got, err := s.Underlay(t.Context(), advertise)
			if c.dev == "" {
				if !errors.Is(err, ErrNoUnderlay) || !strings.Contains(err.Error(), "--advertise") {
					t.Fatalf("got %+v, %v", got, err)
				}
				return
			}
			want := Underlay{Addr: netip.MustParseAddr(c.addr), Dev: c.dev, MTU: c.mtu, Index: s.show(c.dev).Index}
			if err != nil || got != want {
				t.Fatalf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

// TestDummyMTU: the MTU of a dummy that has the host's address is that of the links that routes use.
func TestDummyMTU(t *testing.T) {
	link := func(index, mtu int, kind string) netlink.Link {
		flags := net.FlagUp | net.FlagRunning
		return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index, Name: fmt.Sprint("eth", index), MTU: mtu, Flags: flags}, LinkType: kind}
	}
	v := view{links: map[int]netlink.Link{1: link(1, 1500, "dummy"), 2: link(2, 9000, "device"), 3: link(3, 1600, "device")}}
	addr := netip.MustParseAddr("10.99.0.1")
	if got := v.at(v.links[1], addr); got.MTU != 1500 || got.Dev != "eth1" {
		t.Errorf("without routes it is %+v", got)
	}
	v.routes = []netlink.Route{
		{Family: netlink.FAMILY_V4, Type: unix.RTN_UNICAST, LinkIndex: 2, Gw: net.IPv4(10, 1, 0, 254)},
		{Family: netlink.FAMILY_V4, Type: unix.RTN_UNICAST, LinkIndex: 3}, // no next hop
	}
	if got := v.at(v.links[1], addr); got.MTU != 9000 || got.Addr != addr {
		t.Errorf("with a route it is %+v", got)
	}
}

// TestOutward: the link of the best default route counts, whichever has the tunnels' address.
func TestOutward(t *testing.T) {
	for name, c := range map[string]struct {
		routes []string
		dev    string
		mtu    int
	}{
		"one default route":    {[]string{"default via 10.1.0.254"}, "eth0", 1500},
		"the best of two":      {[]string{"default via 10.1.0.254 metric 200", "default via 10.2.0.254 metric 100"}, "eth1", 9000},
		"several next hops":    {[]string{"default nexthop via 10.2.0.253 nexthop via 10.2.0.254"}, "eth1", 9000},
		"IPv4 before IPv6":     {[]string{"default via 2001:db8:1::ff metric 1", "default via 10.2.0.254 metric 100"}, "eth1", 9000},
		"IPv6 alone":           {[]string{"default via 2001:db8:1::ff"}, "eth0", 1500},
		"none":                 {nil, "", 0},
		"none that leads away": {[]string{"blackhole default"}, "", 0},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			s := newSpace(t)
			s.nic("eth0", "10.1.0.1/24", "2001:db8:1::1/64")
			s.nic("eth1", "10.2.0.1/24")
			s.ip("link", "set", "eth1", "mtu", "9000")
			for _, r := range c.routes {
				s.ip(append([]string{"route", "add"}, strings.Fields(r)...)...)
			}
			if dev, mtu, err := s.Outward(t.Context()); dev != c.dev || mtu != c.mtu || err != nil {
				t.Errorf("%q, %d, %v", dev, mtu, err)
			}
		})
	}
}

func TestSubnets(t *testing.T) {
	s := newSpace(t)
	s.nic("eth0", "10.1.0.1/24", "2001:db8:1::1/64", "169.254.3.3/16")
	s.nic("eth1", "10.1.0.2/24", "10.2.0.1/16")
	s.nic("eth2", "10.8.0.1/32", "2001:db8:8::1/128")
	s.ip("addr", "add", "10.9.0.1/32", "dev", "lo")
	s.nic("down0", "10.7.0.1/24", "10.70.0.1/32")
	s.ip("link", "set", "down0", "down")
	s.ip("route", "add", "10.50.0.0/16", "via", "10.1.0.9", "dev", "eth0")
	s.ip("route", "add", "default", "via", "10.1.0.254", "dev", "eth0")
	s.ip("route", "add", "blackhole", "10.60.0.0/16")
	connected := prefixes("10.1.0.0/24", "10.2.0.0/16", "10.8.0.1/32", "10.9.0.1/32", "2001:db8:1::/64", "2001:db8:8::1/128")
	if got, err := s.Subnets(t.Context()); err != nil || !slices.Equal(got, connected) {
		t.Errorf("Subnets: %v, %v, want %v", got, err, connected)
	}
	s.ip("route", "add", "172.20.0.0/14", "nexthop", "via", "10.1.0.8", "nexthop", "via", "10.1.0.9")
	s.ip("route", "add", "0.0.0.0/1", "via", "10.1.0.9")
	s.ip("route", "add", "10.51.0.7/32", "via", "10.1.0.9")
	if got, err := s.Routed(t.Context()); err != nil || !slices.Equal(got, prefixes("172.20.0.0/14", "10.50.0.0/16")) {
		t.Errorf("Routed: %v, %v", got, err)
	}
	all, err := s.Connected(t.Context())
	if want := (Connected{Subnet: connected[0], Dev: "eth0", Addr: netip.MustParseAddr("10.1.0.1")}); err != nil || len(all) != len(connected) || all[0] != want {
		t.Errorf("Connected: %+v, %v", all, err)
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range texts {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

func TestOwnedAndDelete(t *testing.T) {
	s, v, x := newSpace(t), testVeth(), testVXLAN()
	ensureVeth(t, s, v)
	ensureVXLAN(t, s, x)
	s.nic("br0", "10.1.0.1/24")
	s.ip("link", "set", "br0", "alias", "somebody's")

	owned, err := s.Owned(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Link{
		{Name: v.Host, Alias: v.Alias, Kind: "veth", Index: s.show(v.Host).Index, MTU: 1450, Up: true},
		{Name: x.Name, Alias: x.Alias, Kind: "vxlan", Index: s.show(x.Name).Index, MTU: 1450, Up: true},
	}
	if !slices.Equal(owned, want) {
		t.Errorf("owned %+v, want %+v", owned, want)
	}
	for _, name := range []string{v.Host, x.Name, "absent", v.Host} {
		if err := s.DeleteLink(t.Context(), name); err != nil {
			t.Errorf("DeleteLink(%s): %v", name, err)
		}
		if name != "absent" && s.exists(name) {
			t.Errorf("%s is still there", name)
		}
	}
	if s.exists(v.Peer) {
		t.Error("the peer is still there")
	}
	for _, name := range []string{"br0", "lo"} {
		if err := s.DeleteLink(t.Context(), name); !errors.Is(err, ErrForeign) || !s.exists(name) {
			t.Errorf("DeleteLink(%s): %v", name, err)
		}
	}
}

func TestWatch(t *testing.T) {
	s, v := newSpace(t), testVeth()
	ensureVXLAN(t, s, testVXLAN())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed, err := s.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// A signal may still be on its way when the step before it is done: take all until the state is reported.
	drain := func() {
		for {
			select {
			case <-changed:
			default:
				return
			}
		}
	}
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"appears", func() { ensureVeth(t, s, v) }},
		{"changes", func() { s.ip("link", "set", v.Host, "mtu", "1300") }},
		{"loses its alias", func() { s.ip("link", "set", v.Host, "alias", "") }},
		{"gets it again", func() { ensureVeth(t, s, v) }},
		{"goes", func() { s.ip("link", "del", v.Host) }},
		{"one from before goes", func() { s.ip("link", "del", testVXLAN().Name) }},
	} {
		drain()
		step.do()
		eventually(t, "signal when a link "+step.name, func() bool {
			select {
			case <-changed:
				return true
			default:
				return false
			}
		})
	}
	cancel()
	eventually(t, "the channel is closed", func() bool {
		select {
		case _, open := <-changed:
			return !open
		default:
			return false
		}
	})
}

func TestConcernsOnlyOurs(t *testing.T) {
	s := newSpace(t)
	s.nic("br0")
	changed, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.ip("link", "set", "br0", "mtu", "1400")
	s.ip("link", "del", "br0")
	// Ours comes after it: when its signal is here, another's would have been.
	ensureVXLAN(t, s, testVXLAN())
	<-changed
	owned, err := s.Owned(t.Context())
	if err != nil || len(owned) != 1 {
		t.Fatalf("the first signal came before a link of ours was there: %v, %v", owned, err)
	}
}

func TestHasKernelDatapath(t *testing.T) {
	s := newSpace(t)
	_, err := netlink.GenlFamilyGet("ovs_datapath")
	if got := s.HasKernelDatapath(); got != (err == nil) {
		t.Errorf("HasKernelDatapath is %t, the kernel says %v", got, err)
	}
}

func TestHasFamily(t *testing.T) {
	s := newSpace(t)
	if !s.hasFamily("nlctrl") {
		t.Error("the kernel has no nlctrl, which answers the question")
	}
	if s.hasFamily("nosuchfamily") {
		t.Error("the kernel has a family that nobody made")
	}
}

func TestRetry(t *testing.T) {
	stop := errors.New("stop")
	for _, c := range []struct {
		name  string
		fails int
		err   error
		want  error
		calls int
	}{
		{"at-once", 0, nil, nil, 1},
		{"interrupted-dump", 3, netlink.ErrDumpInterrupted, nil, 4},
		{"interrupted-call", 2, fmt.Errorf("receive: %w", unix.EINTR), nil, 3},
		{"for-ever", 1000, netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, dumpAttempts},
		{"other-error", 1000, stop, stop, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := 0
			got, err := retry(t.Context(), "list", func() (string, error) {
				if calls++; calls <= c.fails {
					return "half", c.err
				}
				return "whole", nil
			})
			if !errors.Is(err, c.want) || calls != c.calls || (got == "whole") != (c.want == nil) || got == "half" {
				t.Errorf("got %q, %v after %d calls", got, err, calls)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := retry(ctx, "list", func() (int, error) { return 1, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestLinkName(t *testing.T) {
	shape := regexp.MustCompile(`^[a-z]{1,3}[0-9a-f]{12}$`)
	seen := map[string][]string{}
	for _, id := range [][]string{{"a", "bc"}, {"ab", "c"}, {"abc"}, {"10.1.11.1"}, {"10.11.1.1"}, {}, {""}, {"", ""}} {
		name := LinkName("sph", id...)
		if !shape.MatchString(name) || len(name) > 15 || name != LinkName("sph", id...) {
			t.Errorf("%q for %q", name, id)
		}
		if other, ok := seen[name]; ok && len(id)+len(other) > 1 {
			t.Errorf("%q and %q share %s", id, other, name)
		}
		seen[name] = id
	}
	if got := LinkName("toolong", "x"); len(got) != 15 || !strings.HasPrefix(got, "too") {
		t.Errorf("long prefix: %s", got)
	}
}

// Lists must be whole while links come and go: whoever misses one removes its flows.
func TestOwnedIsWholeWhileLinksChange(t *testing.T) {
	s, stays := newSpace(t), testVXLAN()
	ensureVXLAN(t, s, stays)
	var churn sync.WaitGroup
	for worker := range 4 {
		churn.Go(func() {
			for i := range 10 {
				id := fmt.Sprint(worker, "-", i)
				v := Veth{Host: LinkName("sph", id), Peer: LinkName("spp", id), MTU: 1450, Alias: OwnerPrefix + id}
				if err := errors.Join(s.EnsureVeth(t.Context(), v), s.DeleteLink(t.Context(), v.Host)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { churn.Wait(); close(done) }()
	for lists := 0; ; lists++ {
		owned, err := s.Owned(t.Context())
		if err != nil || !slices.ContainsFunc(owned, func(l Link) bool { return l.Name == stays.Name }) {
			t.Errorf("list %d: %v, %v", lists, owned, err)
		}
		select {
		case <-done:
			t.Logf("%d lists during 40 pairs", lists)
			return
		default:
		}
	}
}
