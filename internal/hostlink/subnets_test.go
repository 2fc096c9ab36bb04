package hostlink

import (
	"net/netip"
	"slices"
	"testing"
)

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
