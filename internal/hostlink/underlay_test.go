package hostlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
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
