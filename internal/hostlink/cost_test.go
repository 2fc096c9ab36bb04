package hostlink

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
)

// TestLooksCostNoContainers: what is asked of the kernel to find the underlay and the host's subnets, and to make and remove a container's links, is the
// same with few containers' links and with many. Without a default route a bridge's ports are looked for among all links.
func TestLooksCostNoContainers(t *testing.T) {
	plug := func(s *space, addrs ...string) {
		s.ip("link", "add", "eth0", "up", "type", "veth", "peer", "name", "und0")
		s.ip("link", "set", "und0", "up")
		for _, a := range addrs {
			s.ip("addr", "add", a, "dev", "eth0")
		}
	}
	for _, c := range []struct {
		name     string
		prepare  func(s *space)
		constant bool
	}{
		{"default route", func(s *space) {
			plug(s, "10.1.0.1/24")
			s.ip("route", "add", "default", "via", "10.1.0.254")
		}, true},
		{"no default route", func(s *space) { plug(s, "10.1.0.1/24") }, true},
		{"a bridge and a default route", func(s *space) {
			plug(s)
			s.ip("link", "add", "br0", "type", "bridge")
			s.ip("link", "set", "eth0", "master", "br0")
			s.ip("link", "set", "br0", "up")
			s.ip("addr", "add", "10.1.0.1/24", "dev", "br0")
			s.ip("route", "add", "default", "via", "10.1.0.254")
		}, true},
		{"a bridge without a default route", func(s *space) {
			s.ip("link", "add", "br0", "up", "type", "bridge")
			s.ip("addr", "add", "10.1.0.1/24", "dev", "br0")
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSpace(t)
			c.prepare(s)
			veth := func(i int) Veth {
				return Veth{Host: fmt.Sprintf("sph%012x", i), Peer: fmt.Sprintf("spc%012x", i), PeerMAC: dataplane.MAC{2, 0, 0, 0, 1, byte(i)}, MTU: 1450,
					Alias: fmt.Sprintf("%sendpoint:%d", OwnerPrefix, i)}
			}
			made := 0
			fill := func(n int) {
				for ; made < n; made++ {
					if err := s.EnsureVeth(t.Context(), veth(made)); err != nil {
						t.Fatal(err)
					}
				}
			}
			look := func() string {
				before := s.Counts()
				// That no address is found is an answer, too.
				_, _ = s.Choose(t.Context(), netip.Addr{}, Underlay{})
				if _, err := s.Connected(t.Context()); err != nil {
					t.Fatal(err)
				}
				fill(made + 1)
				made--
				if err := s.DeleteLink(t.Context(), veth(made).Host); err != nil {
					t.Fatal(err)
				}
				now := s.Counts()
				if requests := now.Requests - before.Requests; requests != 2 {
					t.Errorf("a pair of links took %d requests, want 2", requests)
				}
				return fmt.Sprintf("%d lists, %d links", now.Dumps-before.Dumps, now.Read-before.Read)
			}
			fill(5)
			few := look()
			fill(150)
			if many := look(); (few == many) != c.constant {
				t.Errorf("with 5 pairs: %s; with 150: %s; the same is right: %t", few, many, c.constant)
			}
		})
	}
}
