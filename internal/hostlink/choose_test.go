package hostlink

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestChooseStays: what comes and goes beside the underlay's address does not move the tunnels, and what replaces it does.
func TestChooseStays(t *testing.T) {
	for _, c := range []struct {
		name, present string
		prep          func(s *space)
		addr, dev     string
		passing       string // "" at once, "passing" if it must last, "stopgap" if it also gives way to the present one
		trouble       bool
	}{
		{"a VPN takes the default route", "10.1.0.1", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.vpn("tun0", "10.9.0.1/32")
		}, "10.1.0.1", "eth0", "", false},
		{"no default route for a moment", "10.2.0.1", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.nic("eth1", "10.2.0.1/24")
		}, "10.2.0.1", "eth1", "", false},
		{"another IPv6 address beside it", "2001:db8:1::1", func(s *space) {
			s.nic("eth0", "2001:db8:1::1/64", "2001:db8:1::2/64")
			s.ip("route", "add", "default", "via", "2001:db8:1::ff")
		}, "2001:db8:1::1", "eth0", "", false},
		{"another IPv6 prefix beside it", "2001:db8:1::1", func(s *space) {
			s.nic("eth0", "2001:db8:1::1/64", "2001:db8:2::2/64")
			s.ip("route", "add", "default", "via", "fe80::1", "dev", "eth0")
		}, "2001:db8:1::1", "eth0", "", false},
		{"its NIC is down", "10.1.0.1", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.nic("eth1", "10.2.0.1/24")
			s.ip("link", "set", "eth0", "down")
		}, "10.1.0.1", "eth0", "", true},
		{"a default route by another NIC", "10.1.0.1", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.nic("eth1", "10.2.0.1/24")
			s.ip("route", "add", "default", "via", "10.2.0.254")
		}, "10.2.0.1", "eth1", "passing", false},
		{"only the IPv6 default route is left", "10.1.0.1", func(s *space) {
			s.nic("eth0", "10.1.0.1/24", "2001:db8:1::1/64")
			s.ip("route", "add", "default", "via", "fe80::1", "dev", "eth0")
		}, "10.1.0.1", "eth0", "", false},
		{"an IPv6 default route by another NIC", "10.1.0.1", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.nic("eth1", "10.2.0.1/24", "2001:db8:2::1/64")
			s.ip("route", "add", "default", "via", "fe80::1", "dev", "eth1")
			s.vpn("tun0", "10.9.0.1/32")
		}, "10.1.0.1", "eth0", "", false},
		{"its NIC is down and there is IPv6", "10.1.0.1", func(s *space) {
			s.nic("eth0", "10.1.0.1/24")
			s.nic("eth1", "2001:db8:2::1/64")
			s.ip("route", "add", "default", "via", "fe80::1", "dev", "eth1")
			s.ip("link", "set", "eth0", "down")
		}, "2001:db8:2::1", "eth1", "stopgap", false},
		{"IPv4 comes to an IPv6 host", "2001:db8:1::1", func(s *space) {
			s.nic("eth0", "10.1.0.1/24", "2001:db8:1::1/64")
			s.ip("route", "add", "default", "via", "fe80::1", "dev", "eth0")
			s.ip("route", "add", "default", "via", "10.1.0.254")
		}, "10.1.0.1", "eth0", "passing", false},
		{"an interface without a carrier", "10.1.0.1", func(s *space) {
			s.unplugged("virbr0", "192.168.122.1/24")
			s.nic("eth1", "10.2.0.1/24")
		}, "10.2.0.1", "eth1", "stopgap", false},
		{"another address on the same NIC", "10.1.0.1", func(s *space) { s.nic("eth0", "10.1.0.9/24") }, "10.1.0.9", "eth0", "", false},
		{"only another NIC is left", "10.1.0.1", func(s *space) { s.nic("eth1", "10.2.0.1/24") }, "10.2.0.1", "eth1", "stopgap", false},
		{"only the other family is left", "10.1.0.1", func(s *space) {
			s.nic("eth0", "2001:db8:1::1/64")
			s.ip("route", "add", "default", "via", "2001:db8:1::ff")
		}, "2001:db8:1::1", "eth0", "stopgap", false},
		{"its address is on another NIC", "10.1.0.1", func(s *space) { s.nic("eth1", "10.1.0.1/24") }, "10.1.0.1", "eth1", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSpace(t)
			c.prep(s)
			present := Underlay{Addr: netip.MustParseAddr(c.present), Dev: "eth0", MTU: 1500}
			got, err := s.Choose(t.Context(), netip.Addr{}, present)
			if err != nil || got.Addr != netip.MustParseAddr(c.addr) || got.Dev != c.dev || lasting(got) != c.passing || (got.Trouble != nil) != c.trouble {
				t.Errorf("got %+v, %v, want %+v", got, err, c)
			}
		})
	}
}

func lasting(c Choice) string {
	switch {
	case c.Stopgap:
		return "stopgap"
	case c.Passing:
		return "passing"
	}
	return ""
}

// TestChooseMTU: the MTU is that of the address's interface as it is now.
func TestChooseMTU(t *testing.T) {
	s := newSpace(t)
	s.nic("eth0", "10.1.0.1/24")
	s.ip("link", "set", "eth0", "mtu", "1400")
	present := Underlay{Addr: netip.MustParseAddr("10.1.0.1"), Dev: "eth0", MTU: 1500}
	if got, err := s.Choose(t.Context(), netip.Addr{}, present); err != nil || got.MTU != 1400 {
		t.Errorf("got %+v, %v, want MTU 1400", got, err)
	}
}

// TestWatchNetwork: what concerns the host's network is signalled, what containers do is not.
func TestWatchNetwork(t *testing.T) {
	s := newSpace(t)
	s.unplugged("eth0", "10.1.0.1/24")
	ctx, cancel := context.WithCancel(t.Context())
	changed, err := s.WatchNetwork(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][]string{
		{"addr", "add", "10.1.0.2/24", "dev", "eth0"},
		{"link", "set", "eth0", "mtu", "1400"},
		{"route", "add", "default", "via", "10.1.0.254"},
		{"link", "set", "eth0", "down"},
		{"addr", "add", "2001:db8:1::1/64", "dev", "eth0", "nodad"},
	} {
		s.ip(change...)
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatalf("%v is not signalled", change)
		}
		drain(changed)
	}
	s.ip("link", "add", "veth0123456", "type", "veth", "peer", "name", "veth7654321")
	s.ip("link", "set", "veth0123456", "up")
	s.ip("link", "add", "spo0123456789ab", "type", "bridge")
	s.ip("link", "del", "spo0123456789ab")
	for n := 1; n < 4; n++ { // networks that come to be somewhere in the cluster
		if err := s.Reserve(t.Context(), slices.Repeat([]netip.Prefix{netip.MustParsePrefix("10.128.0.0/24"), netip.MustParsePrefix("10.128.1.0/24")}, n)[:n]); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Reserve(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
		t.Error("links of containers or reserved subnets are signalled")
	case <-time.After(300 * time.Millisecond):
	}
	cancel()
	for range changed { // closed when ctx ends
	}
}

// drain takes the signals of one change, which comes in several messages.
func drain(changed <-chan struct{}) {
	for {
		select {
		case <-changed:
		case <-time.After(200 * time.Millisecond):
			return
		}
	}
}
