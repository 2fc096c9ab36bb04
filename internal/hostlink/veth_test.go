package hostlink

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
)

var testMAC = dataplane.MAC{0x02, 0x42, 0x0a, 0x01, 0x00, 0x07}

func testVeth() Veth {
	return Veth{
		Host: LinkName("sph", "n", "e"), Peer: LinkName("spp", "n", "e"),
		PeerMAC: testMAC, MTU: 1450, Alias: OwnerPrefix + "endpoint:n/e",
	}
}

func TestEnsureVethMakesThePair(t *testing.T) {
	s, v := newSpace(t), testVeth()
	ensureVeth(t, s, v)
	host, peer := s.show(v.Host), s.show(v.Peer)
	if host.MTU != 1450 || host.Alias != v.Alias || !host.up() || host.GenMode != "none" || host.Info.Kind != "veth" {
		t.Errorf("host end: %+v", host)
	}
	if peer.MTU != 1450 || peer.up() || peer.Address != testMAC.String() || peer.Alias != "" {
		t.Errorf("peer: %+v", peer)
	}
	for key, want := range map[string]string{
		"net.ipv6.conf." + v.Host + ".disable_ipv6": "1",
		"net.ipv4.conf." + v.Host + ".arp_ignore":   "8",
		"net.ipv4.conf." + v.Host + ".rp_filter":    "1",
		"net.ipv4.conf." + v.Host + ".forwarding":   "0",
	} {
		if got := s.must("sysctl", "-n", key); got != want {
			t.Errorf("%s = %s, want %s", key, got, want)
		}
	}
	s.ip("link", "set", v.Peer, "up")
	if got := s.ip("addr", "show", v.Host); strings.Contains(got, "inet") {
		t.Errorf("the host end has an address: %s", got)
	}

	ensureVeth(t, s, v)
	if again := s.show(v.Host); again.Index != host.Index {
		t.Errorf("a second EnsureVeth made the pair again: index %d, then %d", host.Index, again.Index)
	}
}

// Names that LinkName did not make serve too.
func TestEnsureWithOtherNames(t *testing.T) {
	s, v, x := newSpace(t), testVeth(), testVXLAN()
	v.Host, v.Peer, x.Name = "host0", "peer0", "vx0"
	for range 2 {
		ensureVeth(t, s, v)
		ensureVXLAN(t, s, x)
	}
}

// TestNamesDoNotMakeLinksOurs: another program's link with a name as ours have it is neither adopted nor deleted; and one that an agent left
// which died before it could set the alias is, by the mark that the kernel takes when it makes a link.
func TestNamesDoNotMakeLinksOurs(t *testing.T) {
	s, v, x := newSpace(t), testVeth(), testVXLAN()
	s.ip("link", "add", v.Host, "type", "veth", "peer", "name", "theirs0")
	s.ip("link", "add", x.Name, "type", "vxlan", "id", "9", "dstport", "4790", "local", "127.0.0.1")
	s.ip("link", "add", "abc0123456789ab", "type", "bridge")
	s.ip("link", "set", "abc0123456789ab", "alias", OwnerPrefix+"no kind of ours")
	before := []int{s.show(v.Host).Index, s.show(x.Name).Index, s.show("abc0123456789ab").Index}
	for what, err := range map[string]error{
		"EnsureVeth": s.EnsureVeth(t.Context(), v), "EnsureVXLAN": s.EnsureVXLAN(t.Context(), x), "DeleteLink of a veth": s.DeleteLink(t.Context(), v.Host),
		"DeleteLink of a device": s.DeleteLink(t.Context(), x.Name), "DeleteLink of another kind": s.DeleteLink(t.Context(), "abc0123456789ab"),
	} {
		if !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if owned, err := s.Owned(t.Context()); err != nil || len(owned) > 0 {
		t.Errorf("owned %+v, %v", owned, err)
	}
	if after := []int{s.show(v.Host).Index, s.show(x.Name).Index, s.show("abc0123456789ab").Index}; !slices.Equal(before, after) {
		t.Errorf("links were %v and are %v", before, after)
	}
	for _, name := range []string{v.Host, x.Name} {
		s.ip("link", "del", name)
	}
	ensureVeth(t, s, v)
	ensureVXLAN(t, s, x)
	for _, name := range []string{v.Host, x.Name} { // as if the alias had never come
		s.ip("link", "set", name, "alias", "")
	}
	owned, err := s.Owned(t.Context())
	if err != nil || len(owned) != 2 || owned[0].Alias != "" || owned[1].Alias != "" {
		t.Errorf("owned %+v, %v", owned, err)
	}
	ensureVeth(t, s, v)
	if got := s.show(v.Host).Alias; got != v.Alias {
		t.Errorf("the alias is %q", got)
	}
	if err := s.DeleteLink(t.Context(), x.Name); err != nil {
		t.Error(err)
	}
}

func TestEnsureVethOffload(t *testing.T) {
	s, v := newSpace(t), testVeth()
	for _, on := range []bool{false, true, false} {
		v.TXChecksum = on
		ensureVeth(t, s, v)
		want := map[bool]string{true: "on", false: "off"}[on]
		for _, name := range []string{v.Host, v.Peer} {
			features := s.must("ethtool", "-k", name)
			for _, f := range []string{"tx-checksumming: ", "tx-tcp-segmentation: ", "tx-tcp6-segmentation: "} {
				if !strings.Contains(features, f+want) {
					t.Errorf("TXChecksum %t: %s has not %s%s:\n%s", on, name, f, want, features)
				}
			}
		}
	}
}

func TestEnsureVethMends(t *testing.T) {
	for _, c := range []struct {
		name   string
		tamper func(s *space, v Veth)
	}{
		{"host-MTU", func(s *space, v Veth) { s.ip("link", "set", v.Host, "mtu", "9000") }},
		{"peer-MTU", func(s *space, v Veth) { s.ip("link", "set", v.Peer, "mtu", "1200") }},
		{"peer-MAC", func(s *space, v Veth) { s.ip("link", "set", v.Peer, "address", "02:00:00:00:00:01") }},
		{"host-down", func(s *space, v Veth) { s.ip("link", "set", v.Host, "down") }},
		{"no-alias", func(s *space, v Veth) { s.ip("link", "set", v.Host, "alias", "") }},
		{"offload", func(s *space, v Veth) { s.must("ethtool", "-K", v.Peer, "tx", "on") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, v := newSpace(t), testVeth()
			ensureVeth(t, s, v)
			index := s.show(v.Host).Index
			c.tamper(s, v)
			ensureVeth(t, s, v)
			host, peer := s.show(v.Host), s.show(v.Peer)
			if host.Index != index || host.MTU != 1450 || host.Alias != v.Alias || !host.up() {
				t.Errorf("host end: %+v", host)
			}
			if peer.MTU != 1450 || peer.Address != testMAC.String() {
				t.Errorf("peer: %+v", peer)
			}
			if !strings.Contains(s.must("ethtool", "-k", v.Peer), "tx-checksumming: off") {
				t.Error("offload is on")
			}
		})
	}
}

func TestEnsureVethWithThePeerInAContainer(t *testing.T) {
	s, container, v := newSpace(t), newSpace(t), testVeth()
	ensureVeth(t, s, v)
	s.ip("link", "set", v.Peer, "netns", container.name)
	container.ip("link", "set", v.Peer, "name", "eth0")
	container.ip("addr", "add", "10.77.0.2/24", "dev", "eth0")
	container.ip("link", "set", "eth0", "up")
	// Another's link has the peer's name and a fitting index by chance: it must not be taken for the peer.
	s.ip("link", "add", v.Peer, "type", "veth", "peer", "name", "other0")
	s.ip("link", "set", v.Host, "mtu", "1300")
	ensureVeth(t, s, v)
	if got := s.show(v.Host); got.MTU != 1450 || !got.up() {
		t.Errorf("host end: %+v", got)
	}
	if got := s.show(v.Peer); got.MTU != 1500 || got.Address == testMAC.String() {
		t.Errorf("another's link was changed: %+v", got)
	}
	if got := container.show("eth0"); got.Address != testMAC.String() || !got.up() {
		t.Errorf("peer: %+v", got)
	}
}

// The host has addresses, and the container's frames reach its stack: it must not answer.
func TestTheHostDoesNotAnswerOnItsEnd(t *testing.T) {
	s, container, v := newSpace(t), newSpace(t), testVeth()
	ensureVeth(t, s, v)
	s.ip("addr", "add", "10.77.0.1/24", "dev", "lo")
	s.ip("link", "set", v.Peer, "netns", container.name)
	container.ip("addr", "add", "10.77.0.2/24", "dev", v.Peer)
	container.ip("link", "set", v.Peer, "up")
	if out, err := container.exec("ping", "-c", "1", "-W", "1", "10.77.0.1"); err == nil {
		t.Fatalf("the host answers: %s", out)
	}
	if got := container.ip("neigh", "show", "10.77.0.1"); strings.Contains(got, "lladdr") {
		t.Errorf("the host answered ARP: %s", got)
	}
	mac := s.show(v.Host).Address
	container.ip("neigh", "replace", "10.77.0.1", "lladdr", mac, "dev", v.Peer)
	if out, err := container.exec("ping", "-c", "1", "-W", "1", "10.77.0.1"); err == nil {
		t.Fatalf("the host answers who knows its MAC: %s", out)
	}
}

func TestEnsureVethCollisions(t *testing.T) {
	for _, c := range []struct {
		name string
		prep func(s *space, v Veth)
		want error
		link func(v Veth) string
	}{
		{"host-name-is-anothers", func(s *space, v Veth) { s.ip("link", "add", v.Host, "type", "bridge") }, ErrForeign, func(v Veth) string { return v.Host }},
		{"host-name-has-anothers-alias", func(s *space, v Veth) {
			s.ip("link", "add", v.Host, "type", "veth", "peer", "name", v.Peer)
			s.ip("link", "set", v.Host, "alias", "mine")
		}, ErrForeign, func(v Veth) string { return v.Host }},
		{"peer-name-is-anothers", func(s *space, v Veth) { s.ip("link", "add", v.Peer, "type", "bridge") }, ErrForeign, func(v Veth) string { return v.Peer }},
		{"other-identity", func(s *space, v Veth) {
			v.Alias = OwnerPrefix + "endpoint:other"
			ensureVeth(s.t, s, v)
		}, ErrDiffers, func(v Veth) string { return v.Host }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, v := newSpace(t), testVeth()
			c.prep(s, v)
			before := s.ip("-d", "-o", "link", "show", c.link(v))
			err := s.EnsureVeth(t.Context(), v)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.link(v)) {
				t.Fatalf("error %v, want %v that names %s", err, c.want, c.link(v))
			}
			if after := s.ip("-d", "-o", "link", "show", c.link(v)); after != before {
				t.Errorf("the link was changed:\n%s\n%s", before, after)
			}
		})
	}
}

func TestEnsureVethRefusesNonsense(t *testing.T) {
	s := newSpace(t)
	for name, change := range map[string]func(*Veth){
		"long-name":    func(v *Veth) { v.Host = "sixteencharacter" },
		"empty-peer":   func(v *Veth) { v.Peer = "" },
		"alien-alias":  func(v *Veth) { v.Alias = "endpoint" },
		"slash":        func(v *Veth) { v.Host = "a/b" },
		"negative-MTU": func(v *Veth) { v.MTU = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			v := testVeth()
			change(&v)
			if err := s.EnsureVeth(t.Context(), v); err == nil {
				t.Fatal("no error")
			}
			if owned, err := s.Owned(t.Context()); err != nil || len(owned) != 0 {
				t.Fatalf("owned %v, %v", owned, err)
			}
		})
	}
}

func ensureVeth(t *testing.T, s *space, v Veth) {
	t.Helper()
	if err := s.EnsureVeth(t.Context(), v); err != nil {
		t.Fatalf("EnsureVeth: %v", err)
	}
}
