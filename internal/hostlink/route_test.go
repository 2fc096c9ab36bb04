package hostlink

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestWayTo: rules for a source are followed, as the kernel does with packets that have it.
func TestWayTo(t *testing.T) {
	s := newSpace(t)
	s.nic("eth0", "10.1.0.1/24", "2001:db8:1::1/64")
	s.nic("eth1", "10.2.0.1/24")
	s.ip("route", "add", "default", "via", "10.1.0.254")
	s.ip("route", "add", "default", "via", "10.2.0.254", "table", "100")
	s.ip("route", "add", "10.2.0.0/24", "dev", "eth1", "table", "100")
	s.ip("route", "add", "unreachable", "198.51.100.0/24", "table", "100")
	s.ip("rule", "add", "from", "10.2.0.1", "lookup", "100")
	for name, c := range map[string]struct {
		from, to, dev string
		direct        bool
		err           error
	}{
		"by the main table":            {"", "192.0.2.9", "eth0", false, nil},
		"by a rule for the source":     {"10.2.0.1", "192.0.2.9", "eth1", false, nil},
		"unreachable from a source":    {"10.2.0.1", "198.51.100.9", "", false, unix.EHOSTUNREACH},
		"a source without a rule":      {"10.1.0.1", "192.0.2.9", "eth0", false, nil},
		"on the segment":               {"10.2.0.1", "10.2.0.9", "eth1", true, nil},
		"a source that is not here":    {"10.3.0.1", "192.0.2.9", "eth0", false, nil},
		"a source of the other family": {"10.1.0.1", "2001:db8:1::9", "eth0", true, nil},
		"IPv6":                         {"2001:db8:1::1", "2001:db8:1::9", "eth0", true, nil},
		"no route":                     {"2001:db8:1::1", "2001:db8:9::9", "", false, unix.ENETUNREACH},
	} {
		from, _ := netip.ParseAddr(c.from)
		dev, direct, err := s.WayTo(t.Context(), from, netip.MustParseAddr(c.to))
		if dev != c.dev || direct != c.direct || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, direct %v, %v; want %q, direct %v, %v", name, dev, direct, err, c.dev, c.direct, c.err)
		}
	}
}

// TestLoopback: packets to an address on the loopback or a dummy come in by other links.
func TestLoopback(t *testing.T) {
	s := newSpace(t)
	s.nic("eth0", "10.1.0.1/24")
	for dev, want := range map[string]bool{"lo": true, "eth0": false, "none": false} {
		if got, err := s.Loopback(t.Context(), dev); got != want || err != nil {
			t.Errorf("%s: %v, %v", dev, got, err)
		}
	}
	if !routed(&netlink.Dummy{}) { // not every kernel of a test has it
		t.Error("a dummy is none")
	}
}
