package discovery

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
)

func TestMain(m *testing.M) { leaks.Main(m) }

// segments numbers them within this test program.
var segments atomic.Int32

// segment is a bridge in a namespace of its own, with hosts in namespaces of theirs.
type segment struct {
	t    *testing.T
	name string
	n    int
}

func newSegment(t *testing.T) *segment {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ip")
	s := &segment{t: t, name: fmt.Sprintf("spmd%d-%d", os.Getpid(), segments.Add(1))}
	s.space(s.name)
	ip(t, "-n", s.name, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
	ip(t, "-n", s.name, "link", "set", "br0", "up")
	return s
}

func (s *segment) space(name string) {
	ip(s.t, "netns", "add", name)
	s.t.Cleanup(func() { ip(s.t, "netns", "del", name) })
}

// host is a host of a segment with a service that runs until stop.
type host struct {
	*Service
	space string
	addr  netip.Addr
	wakes atomic.Int64
	stop  func()
}

// host adds a host whose interface has addr, given as a prefix.
func (s *segment) host(addr string) *host {
	s.t.Helper()
	s.n++
	p := netip.MustParsePrefix(addr)
	h := &host{space: fmt.Sprintf("%sh%d", s.name, s.n), addr: p.Addr()}
	s.space(h.space)
	port := fmt.Sprintf("p%d", s.n)
	ip(s.t, "-n", s.name, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", h.space)
	ip(s.t, "-n", s.name, "link", "set", port, "master", "br0", "up")
	ip(s.t, "-n", h.space, "addr", "add", addr, "dev", "eth0", "nodad")
	ip(s.t, "-n", h.space, "link", "set", "eth0", "up")
	h.Service = New(Options{Host: fmt.Sprintf("host%d", s.n), Dev: "eth0", Addr: h.addr, Logger: slog.New(slog.DiscardHandler),
		Wake: func() { h.wakes.Add(1) }})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromName(h.space)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = h.Run(ctx)
		}
		done <- err
	}()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(h.stop)
	return h
}

func (h *host) say(state State, cluster string) {
	h.Announce(Announcement{Host: h.opts.Host, Name: "n-" + h.opts.Host, State: state, Cluster: cluster, Addr: h.addr, Port: 4780})
}

// sees renders the peers: "host1 candidate host2 member:c1".
func (h *host) sees() string {
	var out []string
	for _, p := range h.Peers() {
		text := p.Host + " " + string(p.State)
		if p.Cluster != "" {
			text += ":" + p.Cluster
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func expect(t *testing.T, h *host, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := testenv.Poll(ctx, 10*time.Millisecond, func() bool { return h.sees() == want }); err != nil {
		t.Fatalf("%s sees %q, want %q", h.opts.Host, h.sees(), want)
	}
}

// TestSegment: hosts hear of each other, of changes, of who comes later, of who leaves and of who dies.
func TestSegment(t *testing.T) {
	for _, c := range []struct{ name, format string }{{"ipv4", "10.1.0.%d/24"}, {"ipv6", "fd00::%d/64"}} {
		t.Run(c.name, func(t *testing.T) {
			s := newSegment(t)
			a, b := s.host(fmt.Sprintf(c.format, 1)), s.host(fmt.Sprintf(c.format, 2))
			a.say(Candidate, "")
			b.say(Candidate, "")
			expect(t, a, "host2 candidate")
			expect(t, b, "host1 candidate")
			first := a.Peers()[0]
			if first.Addr != b.addr || first.Port != 4780 || first.Name != "n-host2" || first.Locked {
				t.Errorf("the peer is %+v", first)
			}
			if a.wakes.Load() == 0 {
				t.Error("nobody was woken")
			}
			b.say(Founding, "c1")
			expect(t, a, "host2 founding:c1")
			b.say(Member, "c1")
			expect(t, a, "host2 member:c1")
			if again := a.Peers()[0]; again.First != first.First {
				t.Error("a host that says something new is taken for a new one")
			}
			late := s.host(fmt.Sprintf(c.format, 3))
			began := time.Now()
			expect(t, late, "host1 candidate host2 member:c1")
			t.Logf("a late host knows all after %v", time.Since(began))
			late.say(Candidate, "")
			expect(t, b, "host1 candidate host3 candidate")
			a.stop()
			expect(t, b, "host3 candidate")
			ip(t, "-n", late.space, "link", "set", "eth0", "down")
			expect(t, b, "") // its time to live
			ip(t, "-n", late.space, "link", "set", "eth0", "up")
			if c.name == "ipv6" {
				ip(t, "-n", late.space, "addr", "add", late.addr.String()+"/64", "dev", "eth0", "nodad")
			}
			expect(t, b, "host3 candidate")
		})
	}
}

// TestAtRest: members of a cluster hardly say anything, however often they are asked.
func TestAtRest(t *testing.T) {
	s := newSegment(t)
	a, b := s.host("10.1.0.1/24"), s.host("10.1.0.2/24")
	a.say(Member, "c1")
	b.say(Member, "c1")
	expect(t, a, "host2 member:c1")
	expect(t, b, "host1 member:c1")
	s.calm(a) // what is measured is what comes after the start's burst
	const span = 4 * time.Second
	before := s.sent(a)
	<-time.After(span)
	if n := s.sent(a) - before; n > 1 {
		t.Errorf("%d packets in %v at rest", n, span)
	}
	before = s.sent(a)
	began := time.Now()
	question, err := query()
	if err != nil {
		t.Fatal(err)
	}
	asker := s.host("10.1.0.3/24")
	expect(t, asker, "host1 member:c1 host2 member:c1")
	ctx, cancel := context.WithTimeout(context.Background(), span)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.GetFromName(asker.space)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		sock, openErr := open(ctx, "eth0", asker.addr)
		for err == nil && openErr == nil && ctx.Err() == nil {
			err = sock.send(question)
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Millisecond):
			}
		}
		if openErr == nil {
			sock.conn.Close()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	n := s.sent(a) - before
	took := time.Since(began) // a busy machine's span is longer
	if most := int(took/answerPause) + 8; n > most {
		t.Errorf("a flood of questions drew %d packets in %v, want %d at most", n, took, most)
	}
}

// calm waits until a host has said nothing for a while: its last packets may be late on a busy machine.
func (s *segment) calm(h *host) {
	s.t.Helper()
	const quiet = 1500 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	last, since := -1, time.Now()
	if err := testenv.Poll(ctx, 100*time.Millisecond, func() bool {
		if n := s.sent(h); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > quiet
	}); err != nil {
		s.t.Fatalf("it goes on talking after its start: %d packets", last)
	}
}

// sent counts the multicast datagrams that a host has sent.
func (s *segment) sent(h *host) int {
	s.t.Helper()
	text := ip(s.t, "netns", "exec", h.space, "cat", "/proc/net/netstat")
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "IpExt:") && i+1 < len(lines) {
			names, values := strings.Fields(line), strings.Fields(lines[i+1])
			for j, name := range names {
				if name == "OutMcastPkts" {
					n, err := strconv.Atoi(values[j])
					if err != nil {
						s.t.Fatal(err)
					}
					return n
				}
			}
		}
	}
	s.t.Fatal("no OutMcastPkts")
	return 0
}

func TestMessages(t *testing.T) {
	full := Announcement{Host: "0123abcd", Name: "web-1", State: Member, Cluster: "c0ffee", Locked: true,
		Addr: netip.MustParseAddr("10.0.0.1"), Port: 4780}
	change := func(f func(*Announcement)) Announcement {
		a := full
		f(&a)
		return a
	}
	for _, c := range []struct {
		name string
		a    Announcement
		ok   bool
		want Announcement
	}{
		{"member", full, true, full},
		{"candidate", change(func(a *Announcement) { a.State, a.Cluster, a.Locked = Candidate, "", false }), true,
			change(func(a *Announcement) { a.State, a.Cluster, a.Locked = Candidate, "", false })},
		{"ipv6", change(func(a *Announcement) { a.Addr = netip.MustParseAddr("fd00::1") }), true,
			change(func(a *Announcement) { a.Addr = netip.MustParseAddr("fd00::1") })},
		{"name-is-cut", change(func(a *Announcement) { a.Name = "a\x1b[2J" + strings.Repeat("é", 60) }), true,
			change(func(a *Announcement) { a.Name = "a[2J" + strings.Repeat("é", 29) })},
		{"member-of-nothing", change(func(a *Announcement) { a.Cluster = "" }), false, Announcement{}},
		{"odd-cluster", change(func(a *Announcement) { a.Cluster = "../x" }), false, Announcement{}},
		{"unknown-state", change(func(a *Announcement) { a.State = "king" }), false, Announcement{}},
		{"no-port", change(func(a *Announcement) { a.Port = 0 }), false, Announcement{}},
		{"multicast-address", change(func(a *Announcement) { a.Addr = netip.MustParseAddr("224.0.0.1") }), false, Announcement{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			packet, err := encode(c.a, 100*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			h := decode(packet)
			if h.ok != c.ok || c.ok && (h.peer != c.want || h.ttl != 100*time.Second) {
				t.Errorf("decoded %+v, want %+v (%t)", h, c.want, c.ok)
			}
		})
	}
	q, err := query()
	if err != nil || !decode(q).asks {
		t.Errorf("the question is not understood: %v", err)
	}
}

// TestTwinsAreSaidOnce: others that say that they have this host's id are logged once each, however often and from however many addresses it is said.
func TestTwinsAreSaidOnce(t *testing.T) {
	var out bytes.Buffer
	s := New(Options{Host: "0123abcd", Addr: netip.MustParseAddr("10.0.0.1"), Wake: func() {}, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	says := func(last byte) {
		s.note(heard{ok: true, ttl: time.Minute, peer: Announcement{Host: "0123abcd", State: Member, Cluster: "c0ffee", Addr: netip.AddrFrom4([4]byte{10, 0, 0, last}), Port: 4780}})
	}
	for range 10 {
		says(1)
		says(2)
		says(3)
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines about two others:\n%s", n, out.String())
	}
	for i := range 250 {
		says(byte(i))
	}
	if n := strings.Count(out.String(), "\n"); n > maxTwins {
		t.Errorf("%d lines about whoever says so", n)
	}
}

// FuzzDecode: anybody on the segment can send anything.
func FuzzDecode(f *testing.F) {
	packet, err := encode(Announcement{Host: "0123abcd", Name: "web-1", State: Member, Cluster: "c0ffee", Addr: netip.MustParseAddr("10.0.0.1"), Port: 4780}, time.Minute)
	if err != nil {
		f.Fatal(err)
	}
	question, err := query()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packet)
	f.Add(question)
	f.Fuzz(func(t *testing.T, packet []byte) {
		h := decode(packet)
		if h.ok && (!plain(h.peer.Host) || !h.peer.Addr.IsValid() || h.peer.Port == 0 || len(h.peer.Name) > maxText) {
			t.Errorf("took %+v", h.peer)
		}
	})
}
