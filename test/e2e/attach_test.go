package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// TestConnectAndDisconnect: a running container joins a second network and leaves it, and the first is not disturbed.
func TestConnectAndDisconnect(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 3*time.Minute)
	all := w.members(ctx, t)
	side := w.network(ctx, t, "side", "--subnet", "10.64.0.0/24", "--ipv6", "--subnet", "fd64::/64")
	peer := w.mustRun(ctx, t, w.Hosts[1], "peer", "--network", side.name)
	roamer := w.mustRun(ctx, t, w.Hosts[0], "roamer", "--network", "web")
	roamer.reachable(ctx, t, all[1].addr)
	ping := roamer.ping(ctx, t, all[1].addr.String())

	if _, err := w.Hosts[0].Docker(ctx, "network", "connect", "--ip", "10.64.0.77", side.name, roamer.name); err != nil {
		t.Fatal(err)
	}
	a, err := roamer.on(ctx, side.name)
	if err != nil {
		t.Fatal(err)
	}
	if a.IPAddress != "10.64.0.77" {
		t.Errorf("address %s instead of the asked one", a.IPAddress)
	}
	roamer.reachable(ctx, t, peer.addr, peer.addr6)
	peer.reachable(ctx, t, netip.MustParseAddr(a.IPAddress), netip.MustParseAddr(a.GlobalIPv6Address))
	// A container on two networks is no way from one to the other.
	if err := peer.reaches(ctx, all[1].addr); err == nil {
		t.Error("a container on two networks joins them")
	}
	if _, err := w.Hosts[0].Docker(ctx, "network", "disconnect", side.name, roamer.name); err != nil {
		t.Fatal(err)
	}
	if out := roamer.must(ctx, t, "ip", "-o", "addr"); strings.Contains(out, "10.64.") || strings.Contains(out, "fd64:") {
		t.Errorf("addresses stay after docker network disconnect: %s", out)
	}
	eventually(ctx, t, 30*time.Second, func(ctx context.Context) error {
		if err := peer.reaches(ctx, netip.MustParseAddr("10.64.0.77")); err == nil {
			return fmt.Errorf("a disconnected container is still reachable")
		}
		return nil
	})
	if _, lost := ping.end(t); lost > 1 { // the machine's one
		t.Errorf("%d pings were lost on the network that was not touched", lost)
	}
	if _, err := w.Hosts[0].Docker(ctx, "network", "connect", side.name, roamer.name); err != nil {
		t.Fatal(err)
	}
	roamer.reachable(ctx, t, peer.addr)
}

// TestCoreAddressesAsAsked: --ip, --ip6 and --mac-address are kept, and an address is given once in the cluster (LESSONS 8, 9).
func TestCoreAddressesAsAsked(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 2*time.Minute)
	all := w.members(ctx, t)
	const mac = "02:cc:00:00:00:01"
	c := w.mustRun(ctx, t, w.Hosts[0], "asked", "--network", "web", "--ip", "10.60.0.210", "--ip6", "fd60::210", "--mac-address", mac)
	if c.addr.String() != "10.60.0.210" || c.addr6.String() != "fd60::210" || c.mac != mac {
		t.Errorf("%v %v %v instead of what was asked for", c.addr, c.addr6, c.mac)
	}
	out := c.must(ctx, t, "ip", "-o", "addr", "show", "dev", "eth0")
	for _, want := range []string{"10.60.0.210/24", "fd60::210/64"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in the container: %s", want, out)
		}
	}
	if got := strings.TrimSpace(c.must(ctx, t, "cat", "/sys/class/net/eth0/address")); got != mac {
		t.Errorf("MAC %s in the container", got)
	}
	for _, other := range all[1:] {
		other.reachable(ctx, t, c.addr, c.addr6)
	}
	last := w.Hosts[len(w.Hosts)-1]
	cleanup(t, func(ctx context.Context) error { return remove(ctx, last, "thief") })
	for _, args := range [][]string{{"--ip", "10.60.0.210"}, {"--ip6", "fd60::210"}, {"--ip", all[0].addr.String()}} {
		_, err := w.run(ctx, last, "thief", append([]string{"--network", "web"}, args...)...)
		wantError(t, err, "in use", w.Hosts[0].Name)
		if err := remove(ctx, last, "thief"); err != nil {
			t.Fatal(err)
		}
	}
	other, err := w.run(ctx, last, "thief", "--network", "web")
	if err != nil {
		t.Fatal(err)
	}
	for _, taken := range append(all, c) {
		if other.addr == taken.addr || other.addr6 == taken.addr6 {
			t.Errorf("%v was given twice", other.addr)
		}
	}
}

// wantError demands an error that has all the words.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; it should say %q", words)
		return
	}
	for _, word := range words {
		if !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(word)) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
}

// TestInternalNetworkHasNoWayOut: --internal has no default route and no docker_gwbridge, and works across hosts.
func TestInternalNetworkHasNoWayOut(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 2*time.Minute)
	inner := w.network(ctx, t, "inner", "--internal", "--subnet", "10.65.0.0/24")
	all := inner.runOnEach(ctx, t, "inner", nil)
	for _, c := range all[1:] {
		c.reachable(ctx, t, all[0].addr)
	}
	if out := all[0].must(ctx, t, "ip", "route"); strings.Contains(out, "default") {
		t.Errorf("routes of an internal network: %s", out)
	}
	if out := all[0].must(ctx, t, "ip", "-o", "link"); strings.Contains(out, "eth1") {
		t.Errorf("links of an internal network: %s", out)
	}
	for _, out := range []netip.Addr{w.Outside, w.Hosts[0].Addr} {
		if err := all[0].reaches(ctx, out); err == nil {
			t.Errorf("a container of an internal network reaches %s", out)
		}
	}
}

// TestTheWayOut: a published port is reached from outside and shown by docker, and containers reach the outside.
func TestTheWayOut(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 2*time.Minute)
	all := w.members(ctx, t)
	for _, c := range all {
		c.reachable(ctx, t, w.Outside)
	}
	server := w.mustRun(ctx, t, w.Hosts[0], "server", "--network", "web", "-p", "18080:7000")
	serve := server.spawn(t, "labprobe", "serve", "-l", ":7000", "-n", "100000", "-for", "90s")
	serve.says(ctx, t, "sha256")
	if out, err := w.Hosts[0].Docker(ctx, "ps", "--filter", "name=server", "--format", "{{.Ports}}"); err != nil || !strings.Contains(out, "18080->7000/tcp") {
		t.Errorf("docker ps shows %q, %v", out, err)
	}
	eventually(ctx, t, patience, func(ctx context.Context) error {
		return w.fetchFromUnderlay(ctx, w.Hosts[0], "18080")
	})
	// The port is the publishing host's alone, and inside the network it is the container's.
	all[1].reachable(ctx, t, server.addr)
	all[1].must(ctx, t, "labprobe", "fetch", "-from", server.addr.String()+":7000", "-for", "60s")
	if err := w.fetchFromUnderlay(ctx, w.Hosts[1], "18080"); err == nil {
		t.Error("a host that published nothing serves the port")
	}
}

// fetchFromUnderlay fetches from a port of a host, from beyond all hosts.
func (w *world) fetchFromUnderlay(ctx context.Context, h *lab.Host, port string) error {
	probe, err := lab.BuildProbe(ctx) // built already, with the lab
	if err != nil {
		return err
	}
	_, err = w.underlay(ctx, probe, "fetch", "-from", h.Addr.String()+":"+port, "-for", "5s")
	return err
}

// TestCoreStaticAddressMoves: a container stops on one host and starts on another with the same address and
// another MAC; one that never stopped pinging has it back within a second (LESSONS 9, 11).
func TestCoreStaticAddressMoves(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 4*time.Minute)
	all := w.members(ctx, t)
	hosts, watcher := w.Hosts[:2], all[len(all)-1]
	start := func(round int) *container {
		return w.mustRun(ctx, t, hosts[round%2], "mover", "--network", "web", "--ip", "10.60.0.220", "--ip6", "fd60::220",
			"--mac-address", fmt.Sprintf("02:dd:00:00:00:%02x", round+1))
	}
	old := start(0)
	watcher.reachable(ctx, t, old.addr, old.addr6)
	const limit, tries = time.Second, 4
	// There and back. It takes a tenth of a second, and neighbours that keep a stale entry would need half a minute; a machine
	// that stands still for a second is given another try.
	for round, quick := 1, 0; quick < 2; round++ {
		ping, ping6 := watcher.ping(ctx, t, "10.60.0.220"), watcher.ping(ctx, t, "fd60::220")
		if err := remove(ctx, old.h, old.name); err != nil {
			t.Fatal(err)
		}
		removed := time.Now()
		old = start(round)
		began := startedAt(ctx, t, old)
		watcher.reachable(ctx, t, old.addr, old.addr6)
		slowest := max(ping.back(ctx, t, removed).Sub(began), ping6.back(ctx, t, removed).Sub(began))
		t.Logf("moved to %s: both answer %v after the start", old.h.Name, slowest.Round(time.Millisecond))
		if slowest <= limit {
			quick++
		} else if round == tries {
			t.Fatalf("of %d moves %d took no more than %v", round, quick, limit)
		}
	}
}

// startedAt is when Docker began to run a container.
func startedAt(ctx context.Context, t *testing.T, c *container) time.Time {
	t.Helper()
	out, err := c.h.Docker(ctx, "inspect", "-f", "{{.State.StartedAt}}", c.name)
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// back waits for an answer that came after a moment, ends the ping, and gives that answer's time.
func (p *pinging) back(ctx context.Context, t *testing.T, after time.Time) (at time.Time) {
	t.Helper()
	eventually(ctx, t, patience, func(context.Context) error {
		for _, r := range replies(t, p.text()) {
			if r.at.After(after) {
				at = r.at
				return nil
			}
		}
		return fmt.Errorf("%s answers no ping of the one that never stopped", p.to)
	})
	p.end(t)
	return at
}
