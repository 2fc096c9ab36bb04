package kernel

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// TestKernelDatapath is one story on two hosts; its steps depend on each other. The networks are internal, as
// docker_gwbridge is Docker's and costs an emulated machine seconds for each container.
func TestKernelDatapath(t *testing.T) {
	w := newWorld(t)
	t.Run("AgentChooses", w.testChoice)
	before := w.dump()
	var a1, a2, b1, other *container
	w.onBoth(t, func(h *lab.Host) error {
		for name, number := range map[string]string{"web": "77", "other": "78"} {
			_, err := h.Docker(w.ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--internal",
				"--ipv6", "--subnet", "10."+number+".0.0/24", "--subnet", "fd00:"+number+"::/64", name)
			if err != nil {
				return err
			}
		}
		return nil
	})
	w.onBoth(t, func(h *lab.Host) (err error) {
		if h == w.a {
			if a1, err = w.start(h, "a1", "web"); err == nil {
				a2, err = w.start(h, "a2", "web")
			}
			return err
		}
		if b1, err = w.start(h, "b1", "web"); err == nil {
			other, err = w.start(h, "o1", "other")
		}
		return err
	})
	t.Run("NeighboursKnown", func(t *testing.T) { w.testNeighbours(t, a1, b1) })
	t.Run("Ping", func(t *testing.T) { testPing(t, a1, a2, b1) })
	t.Run("Transfer", func(t *testing.T) { testTransfer(t, a1, b1, a2) })
	t.Run("MTU", func(t *testing.T) { testMTU(t, a1, b1) })
	t.Run("Spoofed", func(t *testing.T) { testSpoofed(t, a1, b1) })
	t.Run("Isolated", func(t *testing.T) { testIsolated(t, a1, other) })
	t.Run("BroadcastOnce", func(t *testing.T) { testBroadcast(t, a1, []*container{a2, b1}, other) })
	t.Run("OneTunnelPort", func(t *testing.T) { w.testTunnelPort(t, a1, b1) })
	t.Run("SwitchRestarts", func(t *testing.T) { w.testRestart(t, a1, b1) })
	t.Run("NothingLeft", func(t *testing.T) { w.testNothingLeft(t, before) })
}

// onBoth does something on both hosts at once.
func (w *world) onBoth(t *testing.T, f func(*lab.Host) error) {
	t.Helper()
	var group errgroup.Group
	for _, h := range w.Hosts {
		group.Go(func() error { return f(h) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (w *world) testChoice(t *testing.T) {
	for _, h := range w.Hosts {
		var info struct {
			OVS   struct{ Datapath, Tunnel, Error string }
			Hosts []struct {
				Name  string
				Alive bool
			}
		}
		var problem string
		err := testenv.Poll(w.ctx, pollEvery, func() bool {
			out, err := h.SocketPlane(w.ctx, "info", "--format", "json")
			if err == nil {
				err = json.Unmarshal([]byte(out), &info)
			}
			alive := 0
			for _, member := range info.Hosts {
				if member.Alive {
					alive++
				}
			}
			problem = fmt.Sprintf("%v: %+v", err, info)
			return err == nil && info.OVS.Error == "" && alive == len(w.Hosts)
		})
		if err != nil {
			t.Fatalf("%s: %v: %s", h.Name, err, problem)
		}
		if info.OVS.Datapath != "system" || info.OVS.Tunnel != "ovs" {
			t.Errorf("%s: datapath %q and tunnel %q, want system and ovs", h.Name, info.OVS.Datapath, info.OVS.Tunnel)
		}
		if got := w.exec(t, h, "ovs-appctl", "dpif/show"); !strings.HasPrefix(got, "system@ovs-system:") {
			t.Errorf("%s: the switch uses\n%s", h.Name, got)
		}
	}
}

// testNeighbours comes before all other traffic: it sees the first questions.
func (w *world) testNeighbours(t *testing.T, a1, b1 *container) {
	// A host hears of the other's containers a moment after they have begun.
	for h, c := range map[*lab.Host]*container{w.a: b1, w.b: a1} {
		ctx, cancel := context.WithTimeout(w.ctx, patience)
		var flows string
		err := testenv.Poll(ctx, pollEvery, func() bool {
			flows = w.exec(t, h, "ovs-ofctl", "-OOpenFlow14", "--no-stats", "dump-flows", "socketplane0")
			return strings.Contains(flows, "dl_dst="+c.mac)
		})
		cancel()
		if err != nil {
			t.Fatalf("%s does not know %s: %v:\n%s", h.Name, c.name, err, flows)
		}
	}
	wire := w.capture(t)
	for _, to := range []string{b1.ip, b1.ip6} {
		a1.run(t, "ping", "-c", "1", "-W", "20", to)
	}
	wire.says(t, "ICMP6, echo reply") // or it ends before it has read that
	text := wire.stop(t)
	if !strings.Contains(text, "ICMP echo request") || !strings.Contains(text, "ICMP6, echo request") {
		t.Fatalf("the pings are not on the underlay:\n%s", text)
	}
	if strings.Contains(text, "ARP") {
		t.Errorf("ARP goes through the tunnel:\n%s", text)
	}
	// This datapath can't make an advertisement of a solicitation (docs/design/0002): it goes to its target alone.
	if toGroup := regexp.MustCompile(`> 33:33:[0-9a-f:]+, .*neighbor`); toGroup.MatchString(text) {
		t.Errorf("neighbour discovery is flooded:\n%s", text)
	}
	table := a1.run(t, "ip", "neigh", "show")
	for _, peer := range []string{b1.ip, b1.ip6} {
		if want := peer + " dev eth0 lladdr " + b1.mac; !strings.Contains(table, want) {
			t.Errorf("%s has not learnt %s:\n%s", a1.name, want, table)
		}
	}
}

// testPing tries again where an answer is missing: ping awaits the last one for two round trips only, which is not much on a slow machine. A path that
// loses packets does so in each try.
func testPing(t *testing.T, a1, a2, b1 *container) {
	const tries = 4
	for _, pair := range [][2]*container{{a1, a2}, {a1, b1}, {b1, a1}, {b1, a2}} {
		for _, to := range []string{pair[1].ip, pair[1].ip6} {
			for try := range tries {
				out, err := pair[0].try("ping", "-c", "5", "-i", "0.2", "-W", "20", to)
				if err == nil && strings.Contains(out, " 0% packet loss") {
					break
				}
				t.Logf("%s to %s (%s): %v\n%s", pair[0].name, pair[1].name, to, err, out)
				if try == tries-1 {
					t.Errorf("%s to %s (%s): pings are lost in each of %d tries", pair[0].name, pair[1].name, to, tries)
				}
			}
		}
	}
}

func testTransfer(t *testing.T, from, far, near *container) {
	for _, to := range []*container{far, near} {
		for _, ip := range []string{from.ip, from.ip6} {
			addr := netip.AddrPortFrom(netip.MustParseAddr(ip), 7000).String()
			server := from.spawn(t, "labprobe", "serve", "-l", addr, "-n", "16777216", "-for", patience.String())
			server.says(t, "sha256")
			var want struct{ SHA256 string }
			if err := json.Unmarshal([]byte(server.text()), &want); err != nil {
				t.Fatal(err)
			}
			out, err := to.try("labprobe", "fetch", "-from", addr, "-sha256", want.SHA256, "-for", patience.String())
			if err != nil {
				t.Errorf("%s from %s: %v", to.name, addr, err)
			}
			t.Logf("%s from %s: %s", to.name, addr, strings.TrimSpace(out))
			server.stop(t)
		}
	}
}

// testMTU sends the largest packets that fit, and ones of one byte more, which must not leave the container.
func testMTU(t *testing.T, a1, b1 *container) {
	const underlay, vxlan, ipv4, ipv6, icmp = 1500, 50, 20, 40, 8
	for _, c := range []struct {
		to     string
		header int
	}{{b1.ip, ipv4}, {b1.ip6, ipv6}} {
		fits := underlay - vxlan - c.header - icmp
		ping := func(size int) (string, error) {
			return a1.try("ping", "-M", "do", "-c", "1", "-W", "20", "-s", fmt.Sprint(size), c.to)
		}
		if out, err := ping(fits); err != nil {
			t.Errorf("%d bytes to %s: %v\n%s", fits, c.to, err, out)
		}
		if out, err := ping(fits + 1); err == nil || !strings.Contains(out+err.Error(), "essage too long") {
			t.Errorf("%d bytes to %s: %v, want a local refusal\n%s", fits+1, c.to, err, out)
		}
	}
}

// experimental is the payload of frames whose arrival is counted; their EtherType is one for experiments.
var experimental = hex.EncodeToString([]byte("socketplane kernel test"))

func testSpoofed(t *testing.T, a1, b1 *container) {
	seen := b1.spawn(t, "labprobe", "sniff", "-type", "0x88b5", "-payload", experimental, "-count", "2", "-for", patience.String())
	seen.says(t, "listening")
	send := func(src string) {
		a1.run(t, "labprobe", "send", "-src", src, "-dst", b1.mac, "-payload", experimental)
	}
	// The frames before and after show that the one between had its chance.
	send(a1.mac)
	send("02:00:00:00:00:99")
	send(a1.mac)
	seen.says(t, `"count":2`)
	if got := seen.text(); strings.Contains(got, "02:00:00:00:00:99") {
		t.Errorf("a frame from another MAC arrived:\n%s", got)
	}
	a1.run(t, "ip", "addr", "add", "10.77.0.200/24", "dev", "eth0")
	if out, err := a1.try("ping", "-c", "2", "-i", "0.3", "-W", "2", "-I", "10.77.0.200", b1.ip); err == nil {
		t.Errorf("a packet from another address was answered:\n%s", out)
	}
	a1.run(t, "ip", "addr", "del", "10.77.0.200/24", "dev", "eth0")
}

func testIsolated(t *testing.T, a1, other *container) {
	a1.run(t, "ip", "route", "add", "10.78.0.0/24", "dev", "eth0")
	if out, err := a1.try("ping", "-c", "2", "-i", "0.3", "-W", "2", other.ip); err == nil {
		t.Errorf("a container of another network answers:\n%s", out)
	}
	a1.run(t, "ip", "route", "del", "10.78.0.0/24", "dev", "eth0")
	seen := other.spawn(t, "labprobe", "sniff", "-type", "0x88b5", "-for", "5s")
	seen.says(t, "listening")
	a1.run(t, "labprobe", "send", "-dst", other.mac)
	a1.run(t, "labprobe", "send")
	seen.says(t, `"count"`)
	if got := seen.text(); !strings.Contains(got, `"count":0`) {
		t.Errorf("frames of another network arrived:\n%s", got)
	}
}

func testBroadcast(t *testing.T, from *container, members []*container, stranger *container) {
	const frames = 20
	var seen []*background
	for _, c := range append(members, stranger) {
		b := c.spawn(t, "labprobe", "sniff", "-q", "-type", "0x88b5", "-payload", experimental, "-for", "40s")
		b.says(t, "listening")
		seen = append(seen, b)
	}
	from.run(t, "labprobe", "send", "-count", fmt.Sprint(frames), "-every", "20ms", "-payload", experimental)
	for i, b := range seen {
		want := frames
		if i == len(members) {
			want = 0
		}
		b.says(t, `"count"`)
		if got := b.text(); !strings.Contains(got, fmt.Sprintf(`"count":%d}`, want)) {
			t.Errorf("want each of %d frames once: %s: %s", want, b.what, got)
		}
	}
}

// testTunnelPort sends pings meanwhile, as the datapath forgets flows that nothing uses.
func (w *world) testTunnelPort(t *testing.T, a1, b1 *container) {
	ping := a1.spawn(t, "ping", "-i", "0.2", "-w", "300", b1.ip)
	ping.says(t, "bytes from")
	for _, h := range w.Hosts {
		show := w.exec(t, h, "ovs-vsctl", "show")
		if strings.Count(show, "type: vxlan") != 1 || !strings.Contains(show, "remote_ip=flow") || !strings.Contains(show, "key=flow") {
			t.Errorf("%s: want one VXLAN port, driven by flows:\n%s", h.Name, show)
		}
		if strings.Contains(show, "error:") {
			t.Errorf("%s: a port has an error:\n%s", h.Name, show)
		}
		if got := strings.Count(w.exec(t, h, "ip", "-o", "link", "show", "type", "vxlan"), "\n"); got != 1 {
			t.Errorf("%s: %d VXLAN devices, want the switch's own", h.Name, got)
		}
		// A slow machine's revalidators drop flows of few packets, and the next packet brings them back.
		var flows string
		ctx, cancel := context.WithTimeout(w.ctx, patience)
		err := testenv.Poll(ctx, pollEvery, func() bool {
			flows = w.exec(t, h, "ovs-appctl", "dpctl/dump-flows", "system@ovs-system")
			return strings.Contains(flows, "tunnel(tun_id=0x")
		})
		cancel()
		if err != nil {
			t.Errorf("%s: the kernel has no flow for what comes by tunnel: %v:\n%s", h.Name, err, flows)
		}
	}
	ping.stop(t)
}

// testRestart restarts the switch, which forgets its flows but not its datapath.
func (w *world) testRestart(t *testing.T, a1, b1 *container) {
	if err := w.a.RestartOVS(w.ctx); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{b1.ip, b1.ip6} {
		var out string
		err := testenv.Poll(w.ctx, pollEvery, func() bool {
			var err error
			out, err = a1.try("ping", "-c", "2", "-i", "0.3", "-W", "5", to)
			return err == nil
		})
		if err != nil {
			t.Errorf("%s after a restart of the switch: %v\n%s", to, err, out)
		}
	}
}

// dump is what both hosts and the store have, without what differs by chance.
func (w *world) dump() string { return lab.Lasting(w.Dump(w.ctx)) }

func (w *world) testNothingLeft(t *testing.T, before string) {
	w.onBoth(t, func(h *lab.Host) error {
		names := []string{"a1", "a2"}
		if h == w.b {
			names = []string{"b1", "o1"}
		}
		if _, err := h.Docker(w.ctx, append([]string{"rm", "-f"}, names...)...); err != nil {
			return err
		}
		_, err := h.Docker(w.ctx, "network", "rm", "web", "other")
		return err
	})
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	var now string
	err := testenv.Poll(ctx, time.Second, func() bool {
		now = w.dump()
		return now == before
	})
	if err != nil {
		t.Errorf("after removal the dump differs (%v); before:\n%s\nafter:\n%s", err, before, now)
	}
}
