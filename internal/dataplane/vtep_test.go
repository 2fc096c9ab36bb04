package dataplane

import (
	"net/netip"
	"testing"
)

func TestTunnelBetween(t *testing.T) {
	for _, c := range []struct {
		own, other string
		want       bool
	}{
		{"192.0.2.1", "192.0.2.2", true},
		{"192.0.2.1", "::ffff:192.0.2.2", true},
		{"2001:db8::1", "2001:db8::2", true},
		{"", "192.0.2.2", true},
		{"", "2001:db8::2", true},
		{"192.0.2.1", "192.0.2.1", false},
		{"192.0.2.1", "::ffff:192.0.2.1", false},
		{"192.0.2.1", "2001:db8::2", false},
		{"2001:db8::1", "192.0.2.2", false},
		{"192.0.2.1", "0.0.0.0", false},
		{"2001:db8::1", "::", false},
		{"192.0.2.1", "", false},
		{"", "", false},
	} {
		own, _ := netip.ParseAddr(c.own) // "" is the zero Addr
		other, _ := netip.ParseAddr(c.other)
		if got := TunnelBetween(own, other); got != c.want {
			t.Errorf("from %q to %q: %v", c.own, c.other, got)
		}
	}
}
