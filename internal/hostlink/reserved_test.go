package hostlink

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// dockerSees are the routes that keep Docker from choosing a subnet: those of scope link in the main table.
func (s *space) dockerSees() []string {
	s.t.Helper()
	var seen []string
	for line := range strings.Lines(s.ip("-4", "route", "show", "table", "main", "scope", "link", "dev", ReservedName)) {
		seen = append(seen, strings.Fields(line)[0])
	}
	slices.Sort(seen)
	return seen
}

// TestReserve: Docker sees the routes, no lookup does, and a later call finds and mends what an earlier process made.
func TestReserve(t *testing.T) {
	s := newSpace(t)
	s.nic("eth0", "10.1.0.1/24")
	s.ip("link", "add", "port", "type", "veth", "peer", "name", "far")
	s.ip("link", "set", "port", "master", "eth0", "up")
	s.ip("link", "set", "far", "up")
	s.ip("route", "add", "default", "via", "10.1.0.254")
	s.ip("route", "add", "172.19.7.0/24", "via", "10.1.0.9")
	targets := []string{"172.18.0.0", "172.18.0.5", "172.18.255.255", "172.19.7.1", "172.19.8.1", "10.1.0.7", "198.51.100.1"}
	lookups := func() string {
		text := ""
		for _, a := range targets {
			text += s.ip("route", "get", a)
			// What reverse path filters ask: how a packet from there that came in by eth0 would be taken.
			text += s.ip("route", "get", "10.1.0.1", "from", a, "iif", "eth0")
		}
		return text
	}
	s.must("sysctl", "-qw", "net.ipv4.conf.eth0.rp_filter=1")
	before := lookups()

	want := prefixes("172.18.0.0/16", "172.19.0.0/16", "fd00::/64", "192.168.0.0/20")
	ipv4 := []string{"172.18.0.0/16", "172.19.0.0/16", "192.168.0.0/20"}
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"made", func() {}},
		{"again", func() {}},
		{"a route was removed", func() { s.ip("route", "del", "172.18.0.0/16", "dev", ReservedName) }},
		{"a foreign route is on it", func() { s.ip("route", "add", "172.30.0.0/16", "dev", ReservedName) }},
		{"it was set down", func() { s.ip("link", "set", ReservedName, "down") }},
		{"it was deleted", func() { s.ip("link", "del", ReservedName) }},
		{"it has no alias, as after a crash", func() { s.ip("link", "set", ReservedName, "alias", "") }},
	} {
		step.do()
		if err := s.Reserve(t.Context(), want); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := s.dockerSees(); !slices.Equal(got, ipv4) {
			t.Errorf("%s: Docker sees %v, want %v", step.name, got, ipv4)
		}
		if after := lookups(); after != before {
			t.Errorf("%s: lookups changed:\n%s\nwere\n%s", step.name, after, before)
		}
	}
	if got, err := s.Subnets(t.Context()); err != nil || !slices.Equal(got, prefixes("10.1.0.0/24")) {
		t.Errorf("its own routes count as connected ones: %v, %v", got, err)
	}

	if err := s.Reserve(t.Context(), want[1:2]); err != nil || !slices.Equal(s.dockerSees(), ipv4[1:2]) {
		t.Errorf("after two went: %v, %v", s.dockerSees(), err)
	}
	if is, err := s.Reserved(t.Context()); err != nil || !is {
		t.Errorf("the device is not found again: %v, %v", is, err)
	}
	for range 2 {
		if err := s.Reserve(t.Context(), nil); err != nil || s.exists(ReservedName) {
			t.Errorf("the device stays without subnets: %v", err)
		}
	}
}

// TestReserveRefuses: a device with carrier would attract packets, and another program's is left alone.
func TestReserveRefuses(t *testing.T) {
	s := newSpace(t)
	want := []netip.Prefix{netip.MustParsePrefix("172.18.0.0/16")}
	if err := s.Reserve(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	s.ip("link", "add", "port", "type", "veth", "peer", "name", "far")
	s.ip("link", "set", "far", "up")
	s.ip("link", "set", "port", "master", ReservedName, "up")
	// The kernel reports carrier from a work queue (link_watch), a moment after the port is up.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	carrier := func() bool { return strings.Contains(s.ip("link", "show", ReservedName), "LOWER_UP") }
	if err := testenv.Poll(ctx, 10*time.Millisecond, carrier); err != nil {
		t.Fatalf("the bridge with a port has no carrier: %v", err)
	}
	err := s.Reserve(t.Context(), want)
	if err == nil || !strings.Contains(err.Error(), "ports") || s.exists(ReservedName) {
		t.Errorf("with a port: %v", err)
	}
	if err := s.Reserve(t.Context(), want); err != nil || len(s.dockerSees()) != 1 {
		t.Errorf("afterwards: %v", err)
	}
	s.ip("link", "set", ReservedName, "alias", "somebody's")
	if err := s.Reserve(t.Context(), nil); !errors.Is(err, ErrForeign) || !s.exists(ReservedName) {
		t.Errorf("a foreign device: %v", err)
	}
}

// TestReserveIsNotByName: a bridge without an alias that another program gave the name is left alone; one of ours that was never finished is not.
func TestReserveIsNotByName(t *testing.T) {
	s := newSpace(t)
	want := []netip.Prefix{netip.MustParsePrefix("172.18.0.0/16")}
	s.ip("link", "add", ReservedName, "type", "bridge")
	for _, subnets := range [][]netip.Prefix{want, nil} {
		if err := s.Reserve(t.Context(), subnets); !errors.Is(err, ErrForeign) || !s.exists(ReservedName) || s.show(ReservedName).Alias != "" {
			t.Errorf("another program's bridge, for %v: %v", subnets, err)
		}
	}
	s.ip("link", "del", ReservedName)
	if err := s.Reserve(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	s.ip("link", "set", ReservedName, "alias", "")
	if err := s.Reserve(t.Context(), want); err != nil || s.show(ReservedName).Alias == "" {
		t.Errorf("a bridge of ours without its alias: %v", err)
	}
}

// TestHalfDefaults: what a VPN client sets to get all traffic is a default route, whatever its form.
func TestHalfDefaults(t *testing.T) {
	s := newSpace(t)
	s.nic("eth0", "10.1.0.1/24", "2001:db8:1::1/64")
	s.nic("tun0", "10.8.0.2/24")
	for _, p := range []string{"0.0.0.0/1", "128.0.0.0/1", "64.0.0.0/2", "::/1", "8000::/1", "2000::/3"} {
		s.ip("route", "add", p, "dev", "tun0")
	}
	s.ip("route", "add", "0.0.0.0/2", "via", "10.8.0.1")
	s.ip("route", "add", "10.0.0.0/8", "dev", "tun0")
	want := prefixes("10.0.0.0/8", "10.1.0.0/24", "10.8.0.0/24", "2001:db8:1::/64")
	if got, err := s.Subnets(t.Context()); err != nil || !slices.Equal(got, want) {
		t.Errorf("Subnets: %v, %v, want %v", got, err, want)
	}
	halves, err := s.HalfDefaults(t.Context())
	slices.SortFunc(halves, netip.Prefix.Compare)
	if want := prefixes("0.0.0.0/1", "64.0.0.0/2", "128.0.0.0/1"); err != nil || !slices.Equal(halves, want) {
		t.Errorf("HalfDefaults: %v, %v, want %v", halves, err, want)
	}
}
