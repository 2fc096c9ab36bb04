package e2e

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// captureLimit bounds captures that are not ended before.
const captureLimit = 2 * time.Minute

const (
	broadcast = "ff:ff:ff:ff:ff:ff"
	multicast = "01:00:5e:01:02:03"
	testType  = "0x88b5" // for experiments (IEEE 802)
)

// mark is a payload that no other frame has.
func mark() string { return fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()) }

// send sends one frame from a container.
func (c *container) send(ctx context.Context, t *testing.T, dst, etherType, payload string, more ...string) {
	t.Helper()
	c.must(ctx, t, append([]string{"labprobe", "send", "-dst", dst, "-type", etherType, "-payload", payload}, more...)...)
}

// sniffAll captures in many containers at once.
func sniffAll(ctx context.Context, t *testing.T, all []*container) []*sniffer {
	t.Helper()
	sniffers := make([]*sniffer, len(all))
	for i, c := range all {
		sniffers[i] = &sniffer{c.spawn(t, "labprobe", "sniff", "-i", "eth0", "-for", captureLimit.String()), c}
	}
	for _, s := range sniffers {
		s.says(ctx, t, "listening")
	}
	return sniffers
}

// settle sends a last frame a few times, and waits until all those have seen it who must: whatever was sent before
// has arrived then, and so has what would come too often. It is sent once more where a busy machine has lost one.
func settle(ctx context.Context, t *testing.T, from *container, sniffers []*sniffer) {
	t.Helper()
	const times = 3
	last := mark()
	from.send(ctx, t, broadcast, testType, last, "-count", fmt.Sprint(times), "-every", "150ms")
	sent := time.Now()
	for _, s := range sniffers {
		if s.c == from {
			continue
		}
		eventually(ctx, t, patience, func(context.Context) error {
			if n := strings.Count(s.text(), last); n < times {
				if time.Since(sent) > 3*time.Second {
					from.send(ctx, t, broadcast, testType, last)
					sent = time.Now()
				}
				return fmt.Errorf("%s on %s has seen %d of the %d last frames", s.c.name, s.c.h.Name, n, times)
			}
			return nil
		})
	}
}

// TestCoreNetworksAreApart: nothing of one network is seen on another, also when MAC addresses are equal.
func TestCoreNetworksAreApart(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 4*time.Minute)
	red := w.network(ctx, t, "red", "--subnet", "10.61.0.0/24", "--ipv6", "--subnet", "fd61::/64")
	blue := w.network(ctx, t, "blue", "--subnet", "10.62.0.0/24", "--ipv6", "--subnet", "fd62::/64")
	sameMAC := func(i int) []string { return []string{"--mac-address", fmt.Sprintf("02:aa:00:00:00:%02x", i+1)} }
	var reds, blues []*container
	var g errgroup.Group
	g.Go(func() error { reds = red.runOnEach(ctx, t, "red", sameMAC); return nil })
	g.Go(func() error { blues = blue.runOnEach(ctx, t, "blue", sameMAC); return nil })
	if err := g.Wait(); err != nil || reds == nil || blues == nil {
		t.FailNow()
	}
	for i := range reds[1:] {
		reds[0].reachable(ctx, t, reds[i+1].addr, reds[i+1].addr6)
		blues[0].reachable(ctx, t, blues[i+1].addr)
	}
	sniffers := sniffAll(ctx, t, append(append([]*container{}, reds[1:]...), blues...))
	marks := map[string]string{broadcast: mark(), multicast: mark(), reds[1].mac: mark(), "02:aa:00:00:00:77": mark()}
	for dst, payload := range marks {
		reds[0].send(ctx, t, dst, testType, payload)
	}
	reds[0].must(ctx, t, "ping", "-n", "-c", "2", "-i", "0.1", reds[1].addr.String())
	reds[0].must(ctx, t, "ping", "-n", "-c", "2", "-i", "0.1", reds[1].addr6.String())
	if err := reds[0].reaches(ctx, blues[1].addr); err == nil {
		t.Error("a container of one network reaches one of the other")
	}
	settle(ctx, t, reds[0], sniffers[:len(reds)-1])
	settle(ctx, t, blues[0], sniffers[len(reds)-1:])
	for _, s := range sniffers {
		frames := s.frames(t)
		if s.c.name == "red" {
			if s.c == reds[1] && (count(frames, marks[broadcast]) != 1 || count(frames, marks[reds[1].mac]) != 1) {
				t.Errorf("the capture on %s proves nothing: it did not see its own network", s.c.h.Name)
			}
			if count(frames, marks["02:aa:00:00:00:77"]) != 0 {
				t.Errorf("a frame to nobody reached %s", s.c.h.Name)
			}
			continue
		}
		for dst, payload := range marks {
			if count(frames, payload) != 0 {
				t.Errorf("a frame of red to %s was seen in blue on %s", dst, s.c.h.Name)
			}
		}
		for _, f := range frames {
			if strings.Contains(f.Payload, addrHex(reds[0].addr)) || strings.Contains(f.Payload, addrHex(reds[0].addr6)) {
				t.Errorf("a packet of red was seen in blue on %s: %+v", s.c.h.Name, f)
			}
		}
	}
}

func addrHex(a netip.Addr) string { return hex.EncodeToString(a.AsSlice()) }

// TestCoreFloodsReachEachMemberOnce: a broadcast and a multicast frame come once to each member, and to nobody else.
func TestCoreFloodsReachEachMemberOnce(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 3*time.Minute)
	all := w.members(ctx, t)
	other := w.network(ctx, t, "other", "--subnet", "10.63.0.0/24")
	second := w.mustRun(ctx, t, w.Hosts[0], "second", "--network", "web")
	third := w.mustRun(ctx, t, w.Hosts[1], "third", "--network", "web")
	stranger := w.mustRun(ctx, t, w.Hosts[1], "stranger", "--network", other.name)
	all[0].reachable(ctx, t, second.addr, third.addr)
	third.reachable(ctx, t, second.addr)
	members := append([]*container{second, third}, all...)
	for _, c := range members[1:] {
		c.reachable(ctx, t, all[0].addr)
	}
	sniffers := sniffAll(ctx, t, append(members, stranger))
	marks := map[string]string{broadcast: mark(), multicast: mark(), "33:33:00:00:00:99": mark()}
	for dst, payload := range marks {
		all[0].send(ctx, t, dst, testType, payload)
	}
	settle(ctx, t, all[0], sniffers[:len(members)])
	for _, s := range sniffers {
		frames := s.frames(t)
		want := 1
		if s.c == all[0] || s.c == stranger {
			want = 0
		}
		for dst, payload := range marks {
			if got := count(frames, payload); got != want {
				t.Errorf("%s on %s saw the frame to %s %d times instead of %d", s.c.name, s.c.h.Name, dst, got, want)
			}
		}
	}
}

// TestCoreNeighboursAreAnsweredLocally: ARP for a known address makes no frame on the underlay.
func TestCoreNeighboursAreAnsweredLocally(t *testing.T) {
	w := need(t)
	all := w.members(deadline(t, patience), t)
	neighboursAnsweredLocally(t, w, all, all[1].addr, "who-has")
}

// TestNeighbourDiscoveryIsAnsweredLocally: so it is with IPv6, where the datapath can answer it (in user space).
func TestNeighbourDiscoveryIsAnsweredLocally(t *testing.T) {
	w := need(t)
	all := w.members(deadline(t, patience), t)
	neighboursAnsweredLocally(t, w, all, all[1].addr6, "neighbor solicitation")
}

func neighboursAnsweredLocally(t *testing.T, w *world, all []*container, to netip.Addr, question string) {
	ctx := deadline(t, time.Minute)
	capture := w.capture(ctx, t, all[0].h.Name, "udp port 4789")
	for range 3 {
		all[0].must(ctx, t, "ip", "neigh", "flush", "dev", "eth0")
		all[0].must(ctx, t, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "5", to.String()) // two, as a busy machine may lose one
	}
	// What the capture must have seen anyway: the pings themselves, in VXLAN.
	eventually(ctx, t, patience, func(context.Context) error {
		if n := strings.Count(capture.text(), "echo reply"); n < 3 {
			return fmt.Errorf("%d of 3 answers in the capture: %s", n, capture.text())
		}
		return nil
	})
	for line := range strings.Lines(capture.text()) {
		if strings.Contains(line, question) && strings.Contains(line, to.String()) {
			t.Errorf("on the underlay: %s", line)
		}
	}
}

// TestCoreFalseSendersReachNobody: frames with another's MAC or address are dropped where they are sent.
func TestCoreFalseSendersReachNobody(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 2*time.Minute)
	all := w.members(ctx, t)
	liar := w.mustRun(ctx, t, w.Hosts[0], "liar", "--network", "web")
	victim := all[1]
	liar.reachable(ctx, t, victim.addr, victim.addr6, all[0].addr)
	victim.reachable(ctx, t, liar.addr)
	hw := func(mac string) []byte { m, _ := net.ParseMAC(mac); return m }
	type lie struct {
		name, etherType, payload, mark string
		more                           []string
		arrives                        bool
	}
	var lies []lie
	add := func(name, etherType string, payload []byte, arrives bool, more ...string) {
		lies = append(lies, lie{name, etherType, hex.EncodeToString(payload), hex.EncodeToString(payload), more, arrives})
	}
	random := func() []byte { b, _ := hex.DecodeString(mark()); return b }
	add("own MAC", testType, random(), true)
	add("another's MAC", testType, random(), false, "-src", victim.mac)
	add("nobody's MAC", testType, random(), false, "-src", "02:bb:00:00:00:01")
	add("a group MAC", testType, random(), false, "-src", "03:bb:00:00:00:01")
	add("own IPv4", "0x0800", ipv4(liar.addr, netip.MustParseAddr("255.255.255.255")), true)
	add("another's IPv4", "0x0800", ipv4(victim.addr, netip.MustParseAddr("255.255.255.255")), false)
	add("another's MAC and IPv4", "0x0800", ipv4(victim.addr, netip.MustParseAddr("255.255.255.255")), false, "-src", victim.mac)
	add("own IPv6", "0x86dd", ipv6(liar.addr6, 17, make([]byte, 16)), true)
	add("another's IPv6", "0x86dd", ipv6(victim.addr6, 17, make([]byte, 16)), false)
	add("ARP for another's IPv4", "0x0806", arp(2, hw(liar.mac), victim.addr, hw(broadcast), victim.addr), false)
	add("ARP for another's MAC", "0x0806", arp(2, hw(victim.mac), liar.addr, hw(broadcast), liar.addr), false)
	add("ARP question as another", "0x0806", arp(1, hw(liar.mac), victim.addr, make([]byte, 6), netip.MustParseAddr("10.60.0.250")), false)
	add("ND for another's IPv6", "0x86dd", advertisement(liar.addr6, victim.addr6, hw(liar.mac)), false)
	add("ND as another", "0x86dd", advertisement(victim.addr6, victim.addr6, hw(victim.mac)), false)
	sniffers := sniffAll(ctx, t, all)
	for _, l := range lies {
		for _, dst := range []string{broadcast, victim.mac, all[0].mac} {
			liar.send(ctx, t, dst, l.etherType, l.payload, l.more...)
		}
	}
	settle(ctx, t, liar, sniffers)
	for _, s := range sniffers {
		frames := s.frames(t)
		for _, l := range lies {
			got := count(frames, l.mark[:min(len(l.mark), 128)])
			switch {
			case !l.arrives && got > 0:
				t.Errorf("with %s: %d frames reached %s on %s", l.name, got, s.c.name, s.c.h.Name)
			case l.arrives && got == 0:
				t.Errorf("with %s: nothing reached %s on %s, so this test proves nothing", l.name, s.c.name, s.c.h.Name)
			}
		}
	}
	victim.reachable(ctx, t, liar.addr)
	all[0].reachable(ctx, t, victim.addr)
}

// ipv4 is a UDP packet without a checksum (RFC 768 allows it) and a random identification.
func ipv4(src, dst netip.Addr) []byte {
	b := []byte{0x45, 0, 0, 36, byte(rand.Uint32()), byte(rand.Uint32()), 0, 0, 64, 17, 0, 0}
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, 0x1b, 0x58, 0x1b, 0x58, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)
}

// ipv6 is a packet to all nodes, with a random flow label.
func ipv6(src netip.Addr, next byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, 6<<28|rand.Uint32N(1<<20))
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(body))), next, 255)
	b = append(b, src.AsSlice()...)
	return append(append(b, netip.MustParseAddr("ff02::1").AsSlice()...), body...)
}

// arp is an ARP packet (RFC 826).
func arp(op byte, senderMAC []byte, sender netip.Addr, targetMAC []byte, target netip.Addr) []byte {
	b := append([]byte{0, 1, 8, 0, 6, 4, 0, op}, senderMAC...)
	b = append(append(b, sender.AsSlice()...), targetMAC...)
	return append(b, target.AsSlice()...)
}

// advertisement is an unsolicited neighbour advertisement with its target's link-layer address (RFC 4861, 4.4).
func advertisement(src, target netip.Addr, mac []byte) []byte {
	body := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, target.AsSlice()...)
	body = append(append(body, 2, 1), mac...)
	pseudo := append(src.AsSlice(), netip.MustParseAddr("ff02::1").AsSlice()...)
	pseudo = append(pseudo, 0, 0, 0, byte(len(body)), 0, 0, 0, 58)
	binary.BigEndian.PutUint16(body[2:], checksum(append(pseudo, body...)))
	return ipv6(src, 58, body)
}

// checksum is the Internet's (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
