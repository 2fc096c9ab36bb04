package hostlink

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestStrays: what others put on our links is removed, on other links it stays.
func TestStrays(t *testing.T) {
	s, v, x := newSpace(t), testVeth(), testVXLAN()
	ensureVeth(t, s, v)
	ensureVXLAN(t, s, x)
	s.nic("socketplane0")
	s.nic("eth0", "10.1.0.1/24", "2001:db8:1::1/64")
	s.ip("link", "set", v.Peer, "up")
	s.ip("addr", "add", "10.5.0.1/24", "dev", v.Peer) // the container's end, until Docker moves it
	if got, err := s.Strays(t.Context(), true, "socketplane0"); err != nil || len(got) != 0 {
		t.Fatalf("on quiet links there is %v, %v", got, err)
	}
	other := s.ip("addr", "show", "eth0") + s.ip("addr", "show", v.Peer) + s.ip("route", "show", "dev", "eth0")
	for _, dev := range []string{v.Host, x.Name, "socketplane0"} {
		s.ip("addr", "add", "10.9.0.1/24", "dev", dev)
		s.ip("addr", "add", "169.254.7.7/16", "dev", dev)
		s.ip("route", "add", "10.99.0.0/24", "dev", dev)
		s.ip("route", "add", "default", "via", "10.9.0.254", "dev", dev, "table", "77")
		s.ip("route", "add", "default", "dev", dev)
		got, err := s.RemoveStrays(t.Context(), true, "socketplane0")
		if err != nil || len(got) < 5 || got[0].Link != dev || !slices.ContainsFunc(got, func(s Stray) bool { return s.What == "address 10.9.0.1/24" }) {
			t.Errorf("%s: removed %v, %v", dev, got, err)
		}
		left := s.ip("-4", "addr", "show", dev) + s.ip("route", "show", "table", "all", "dev", dev)
		if strings.Contains(left, "10.9") || strings.Contains(left, "10.99") || strings.Contains(left, "169.254") || strings.Contains(left, "default") {
			t.Errorf("%s has still\n%s", dev, left)
		}
	}
	reserved := []netip.Prefix{netip.MustParsePrefix("172.18.0.0/16")}
	if err := s.Reserve(t.Context(), reserved); err != nil {
		t.Fatal(err)
	}
	if got, err := s.RemoveStrays(t.Context(), true, "socketplane0"); err != nil || len(got) != 0 {
		t.Errorf("of what keeps Docker's allocator off a subnet %v was removed, %v", got, err)
	}
	s.ip("addr", "add", "169.254.7.7/16", "dev", ReservedName)
	if got, err := s.RemoveStrays(t.Context(), false, "socketplane0"); err != nil || len(got) != 1 || got[0].What != "address 169.254.7.7/16" {
		t.Errorf("removed %v, %v", got, err)
	}
	// With a link's last address the kernel removes its routes.
	if err := s.Reserve(t.Context(), reserved); err != nil || len(s.dockerSees()) != len(reserved) {
		t.Errorf("%v; Docker sees %v", err, s.dockerSees())
	}
	s.must("sysctl", "-qw", "net.ipv6.conf.socketplane0.disable_ipv6=0")
	s.ip("addr", "add", "2001:db8:9::1/64", "dev", "socketplane0", "nodad")
	s.ip("route", "add", "2001:db8:a::/64", "dev", "socketplane0")
	if got, err := s.RemoveStrays(t.Context(), true, "socketplane0"); err != nil || len(got) < 2 {
		t.Errorf("IPv6: removed %v, %v", got, err)
	}
	if left := s.ip("-6", "addr", "show", "dev", "socketplane0", "scope", "global") + s.ip("-6", "route", "show", "dev", "socketplane0"); strings.Contains(left, "2001:") {
		t.Errorf("IPv6 is left:\n%s", left)
	}
	if now := s.ip("addr", "show", "eth0") + s.ip("addr", "show", v.Peer) + s.ip("route", "show", "dev", "eth0"); now != other {
		t.Errorf("links of others were changed from\n%s\nto\n%s", other, now)
	}
	if got, err := s.Strays(t.Context(), true, "socketplane0"); err != nil || len(got) != 0 {
		t.Errorf("left: %v, %v", got, err)
	}
}
