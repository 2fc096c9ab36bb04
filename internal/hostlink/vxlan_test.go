package hostlink

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
)

func testVXLAN() VXLAN {
	return VXLAN{
		Name: LinkName("spx", "net1"), VNI: 4711, Local: netip.MustParseAddr("192.0.2.1"), Port: 4789,
		MTU: 1450, Alias: OwnerPrefix + "tunnel:net1",
	}
}

func TestEnsureVXLAN(t *testing.T) {
	for _, local := range []string{"192.0.2.1", "2001:db8::1"} {
		t.Run(local, func(t *testing.T) {
			s, v := newSpace(t), testVXLAN()
			v.Local = netip.MustParseAddr(local)
			ensureVXLAN(t, s, v)
			got := s.show(v.Name)
			if got.Info.Kind != "vxlan" || got.MTU != 1450 || !got.up() || got.Alias != v.Alias || got.GenMode != "none" {
				t.Errorf("%+v", got)
			}
			family := map[bool]string{true: "local", false: "local6"}[v.Local.Is4()]
			for key, want := range map[string]any{
				"id": 4711.0, family: local, "port": 4789.0, "learning": false,
				"udp_csum": true, "udp_zero_csum6_tx": false, "udp_zero_csum6_rx": false,
			} {
				if got.Info.Data[key] != want {
					t.Errorf("%s is %v, want %v", key, got.Info.Data[key], want)
				}
			}
			v.MTU = 1400
			ensureVXLAN(t, s, v)
			if again := s.show(v.Name); again.Index != got.Index || again.MTU != 1400 {
				t.Errorf("mended: %+v", again)
			}
		})
	}
}

func TestEnsureVXLANDiffers(t *testing.T) {
	s := newSpace(t)
	ensureVXLAN(t, s, testVXLAN())
	s.ip("link", "add", "under0", "type", "bridge")
	for attribute, change := range map[string]func(*VXLAN){
		"VNI":                      func(v *VXLAN) { v.VNI = 5 },
		"local address":            func(v *VXLAN) { v.Local = netip.MustParseAddr("192.0.2.9") },
		"UDP port":                 func(v *VXLAN) { v.Port = 8472 },
		"alias":                    func(v *VXLAN) { v.Alias = OwnerPrefix + "tunnel:net2" },
		"underlay interface index": func(v *VXLAN) { v.UnderlayDev = "under0" },
	} {
		t.Run(strings.ReplaceAll(attribute, " ", "-"), func(t *testing.T) {
			before := s.ip("-d", "-o", "link", "show", testVXLAN().Name)
			v := testVXLAN()
			change(&v)
			err := s.EnsureVXLAN(t.Context(), v)
			differs := new(DiffersError)
			if !errors.Is(err, ErrDiffers) || !errors.As(err, &differs) || differs.Attribute != attribute {
				t.Fatalf("error %v, want one about %s", err, attribute)
			}
			if after := s.ip("-d", "-o", "link", "show", v.Name); after != before {
				t.Errorf("changed:\n%s\n%s", before, after)
			}
		})
	}
}

func TestEnsureVXLANCollisions(t *testing.T) {
	for _, c := range []struct {
		name string
		prep func(s *space)
		want error
		text string
	}{
		{"VNI", func(s *space) { s.ip("link", "add", "alien", "type", "vxlan", "id", "4711", "dstport", "4789") }, ErrVNITaken, "link alien"},
		{"VNI-of-a-device-that-moved", func(s *space) {
			s.ip("link", "add", "alien", "type", "vxlan", "id", "4711", "dstport", "4789")
			s.ip("link", "set", "alien", "netns", newSpace(s.t).name)
		}, ErrVNITaken, "moved to another network namespace"},
		{"port", func(s *space) {
			s.ip("link", "add", "alien", "type", "vxlan", "external", "dstport", "4789")
			s.ip("link", "set", "alien", "up")
		}, nil, "link alien"},
		{"name", func(s *space) { s.ip("link", "add", testVXLAN().Name, "type", "bridge") }, ErrForeign, "kind bridge"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSpace(t)
			c.prep(s)
			err := s.EnsureVXLAN(t.Context(), testVXLAN())
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("error %v, want %v with %q", err, c.want, c.text)
			}
			t.Log(err)
		})
	}
}

// Two namespaces with an underlay between them carry each other's frames by SyncFDB alone: nothing is learned.
func TestTrafficBySyncFDB(t *testing.T) {
	for _, c := range []struct{ name, a, b, bits string }{
		{"underlay-IPv4", "192.0.2.1", "192.0.2.2", "24"},
		{"underlay-IPv6", "2001:db8::1", "2001:db8::2", "64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newSpace(t), newSpace(t)
			a.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b.name)
			macs := make([]dataplane.MAC, 2)
			for i, h := range []struct {
				s    *space
				addr string
			}{{a, c.a}, {b, c.b}} {
				h.s.ip("addr", "add", h.addr+"/"+c.bits, "dev", "eth0", "nodad")
				h.s.ip("link", "set", "eth0", "up")
				v := testVXLAN()
				v.Local, v.MTU = netip.MustParseAddr(h.addr), 1430
				ensureVXLAN(t, h.s, v)
				macs[i] = withAddresses(h.s, v.Name, i+1)
			}
			dev := testVXLAN().Name
			toA, toB := netip.MustParseAddr(c.a), netip.MustParseAddr(c.b)
			flood := dataplane.MAC{}
			syncFDB(t, a, dev, 2, 0, []FDBEntry{{macs[1], toB}, {flood, toB}})
			syncFDB(t, b, dev, 2, 0, []FDBEntry{{macs[0], toA}, {flood, toA}})
			ping(t, a, "10.9.0.2")
			ping(t, a, "fd00:9::2")

			// Without the flood entry neighbours can't be found, known ones are still reached.
			syncFDB(t, a, dev, 0, 1, []FDBEntry{{macs[1], toB}})
			ping(t, a, "10.9.0.2")
			a.ip("neigh", "flush", "dev", dev)
			if out, err := a.exec("ping", "-c", "1", "-W", "1", "10.9.0.2"); err == nil {
				t.Errorf("ARP got through without a flood entry: %s", out)
			}
			syncFDB(t, a, dev, 1, 0, []FDBEntry{{macs[1], toB}, {flood, toB}})
			eventually(t, "ping after the flood entry is back", func() bool {
				_, err := a.exec("ping", "-c", "1", "-W", "1", "10.9.0.2")
				return err == nil
			})
		})
	}
}

// withAddresses gives a device what a container's interface would have, and the host's end must not: it takes
// the quietness back, as this test has no switch.
func withAddresses(s *space, dev string, host int) dataplane.MAC {
	s.must("sysctl", "-qw", "net.ipv6.conf."+dev+".disable_ipv6=0", "net.ipv4.conf."+dev+".arp_ignore=0")
	s.ip("addr", "add", fmt.Sprintf("10.9.0.%d/24", host), "dev", dev)
	s.ip("addr", "add", fmt.Sprintf("fd00:9::%d/64", host), "dev", dev, "nodad")
	mac := dataplane.MAC{2, 0, 0, 0, 0, byte(host)}
	s.ip("link", "set", dev, "address", mac.String())
	return mac
}

func ping(t *testing.T, s *space, addr string) {
	t.Helper()
	if out, err := s.exec("ping", "-c", "2", "-i", "0.1", "-W", "3", addr); err != nil {
		t.Fatalf("ping %s: %v\n%s", addr, err, out)
	}
}

func TestSyncFDB(t *testing.T) {
	s, v := newSpace(t), testVXLAN()
	ensureVXLAN(t, s, v)
	h := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }
	m, flood := dataplane.MAC{2, 0, 0, 0, 0, 9}, dataplane.MAC{}
	steps := []struct {
		name           string
		want           []FDBEntry
		added, removed int
	}{
		{"floods-to-three", []FDBEntry{{flood, h(2)}, {flood, h(3)}, {flood, h(4)}}, 3, 0},
		{"again", []FDBEntry{{flood, h(4)}, {flood, h(3)}, {flood, h(2)}, {flood, h(2)}}, 0, 0},
		{"one-less-and-a-MAC", []FDBEntry{{flood, h(2)}, {flood, h(4)}, {m, h(2)}}, 1, 1},
		{"MAC-moves", []FDBEntry{{flood, h(2)}, {flood, h(4)}, {m, h(4)}}, 1, 0},
		{"mapped-address", []FDBEntry{{flood, h(2)}, {flood, h(4)}, {m, netip.MustParseAddr("::ffff:192.0.2.4")}}, 0, 0},
		{"only-floods-change", []FDBEntry{{flood, h(5)}, {m, h(4)}}, 1, 2},
		{"none", nil, 0, 2},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			syncFDB(t, s, v.Name, step.added, step.removed, step.want)
			wanted := map[string]bool{}
			for _, e := range step.want {
				wanted[fmt.Sprintf("%s dst %s self permanent", e.MAC, e.Dst.Unmap())] = true
			}
			shown := strings.Split(s.must("bridge", "fdb", "show", "dev", v.Name), "\n")
			for _, line := range shown {
				if line = strings.TrimSpace(line); line != "" && !wanted[line] {
					t.Errorf("has %q", line)
				}
				delete(wanted, line)
			}
			if len(wanted) > 0 {
				t.Errorf("lacks %v of\n%s", wanted, strings.Join(shown, "\n"))
			}
		})
	}
}

func TestSyncFDBMendsAndLeavesAlone(t *testing.T) {
	s, v := newSpace(t), testVXLAN()
	ensureVXLAN(t, s, v)
	s.ip("link", "add", "br0", "type", "bridge")
	s.ip("link", "set", v.Name, "master", "br0")
	s.must("bridge", "fdb", "add", "02:00:00:00:00:77", "dev", v.Name, "master", "static")
	s.must("bridge", "fdb", "add", "02:00:00:00:00:99", "dev", v.Name, "dst", "192.0.2.66", "self", "dynamic")
	ours := FDBEntry{dataplane.MAC{2, 0, 0, 0, 0, 0x99}, netip.MustParseAddr("192.0.2.66")}
	syncFDB(t, s, v.Name, 1, 0, []FDBEntry{ours})
	got := s.must("bridge", "fdb", "show", "dev", v.Name)
	if !strings.Contains(got, "02:00:00:00:00:99 dst 192.0.2.66 self permanent") {
		t.Errorf("the dynamic entry was not made permanent:\n%s", got)
	}
	if !strings.Contains(got, "02:00:00:00:00:77") {
		t.Errorf("the bridge's entry is gone:\n%s", got)
	}
}

func TestSyncFDBErrors(t *testing.T) {
	s, v := newSpace(t), testVXLAN()
	ensureVXLAN(t, s, v)
	s.ip("link", "add", "alien", "type", "vxlan", "id", "9", "dstport", "4789")
	good, m := netip.MustParseAddr("192.0.2.2"), dataplane.MAC{2, 1, 1, 1, 1, 1}
	if _, _, err := s.SyncFDB(t.Context(), "nothere", nil); !errors.Is(err, ErrNoLink) {
		t.Errorf("absent device: %v", err)
	}
	if _, _, err := s.SyncFDB(t.Context(), "alien", nil); !errors.Is(err, ErrForeign) {
		t.Errorf("another's device: %v", err)
	}
	if _, _, err := s.SyncFDB(t.Context(), v.Name, []FDBEntry{{m, good}, {m, netip.MustParseAddr("192.0.2.3")}}); err == nil {
		t.Error("one MAC on two hosts: no error")
	}
	if _, _, err := s.SyncFDB(t.Context(), v.Name, []FDBEntry{{m, netip.Addr{}}}); err == nil {
		t.Error("no destination: no error")
	}
	// The kernel refuses one entry (other family); those around it are made, and the text names it.
	n, _, err := s.SyncFDB(t.Context(), v.Name, []FDBEntry{
		{m, good}, {dataplane.MAC{2, 6, 6, 6, 6, 6}, netip.MustParseAddr("2001:db8::1")}, {dataplane.MAC{2, 1, 1, 1, 1, 2}, good},
	})
	if n != 2 || err == nil || !strings.Contains(err.Error(), "02:06:06:06:06:06") || strings.Contains(err.Error(), "02:01") {
		t.Errorf("added %d, %v", n, err)
	}
}

func TestSyncFDBThousand(t *testing.T) {
	s, v := newSpace(t), testVXLAN()
	ensureVXLAN(t, s, v)
	want := make([]FDBEntry, 1000)
	for i := range want {
		want[i] = FDBEntry{dataplane.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}, netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + i%200)})}
	}
	for _, step := range []struct {
		name           string
		want           []FDBEntry
		added, removed int
	}{{"add", want, 1000, 0}, {"unchanged", want, 0, 0}, {"remove", nil, 0, 1000}} {
		start := time.Now()
		syncFDB(t, s, v.Name, step.added, step.removed, step.want)
		t.Logf("%s, 1000 entries: %v", step.name, time.Since(start))
	}
}

func ensureVXLAN(t *testing.T, s *space, v VXLAN) {
	t.Helper()
	if err := s.EnsureVXLAN(t.Context(), v); err != nil {
		t.Fatalf("EnsureVXLAN: %v", err)
	}
}

func syncFDB(t *testing.T, s *space, dev string, added, removed int, want []FDBEntry) {
	t.Helper()
	a, r, err := s.SyncFDB(t.Context(), dev, want)
	if err != nil || a != added || r != removed {
		t.Fatalf("SyncFDB added %d, removed %d, %v; want %d and %d", a, r, err, added, removed)
	}
}

// TestOtherVXLANs: a device is exclusive if, and only if, the kernel lets none of ours beside it.
func TestOtherVXLANs(t *testing.T) {
	for name, c := range map[string]struct {
		args string
		want bool
	}{
		"flannel": {"id 1 nolearning", false}, "cilium": {"external", true}, "group policies": {"id 1 gbp", true},
		"no checksums over IPv6": {"id 1 udp6zerocsumrx", true}, "no checksums": {"id 1 noudpcsum proxy", false},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			s := newSpace(t)
			s.ip(append([]string{"link", "add", "other0", "type", "vxlan", "dstport", "4789"}, strings.Fields(c.args)...)...)
			s.ip("link", "set", "other0", "up")
			others, err := s.OtherVXLANs(t.Context(), 4789)
			if err != nil || len(others) != 1 || others[0].Name != "other0" {
				t.Fatalf("others are %v, %v", others, err)
			}
			if others[0].Exclusive != c.want {
				t.Errorf("exclusive is %t, want %t", others[0].Exclusive, c.want)
			}
			if err := s.EnsureVXLAN(t.Context(), testVXLAN()); (err != nil) != c.want {
				t.Errorf("the kernel says %v", err)
			}
		})
	}
}
