package users

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// followTime is how long containers may be cut off after their host's network has changed.
const followTime = 10 * time.Second

// router is the gateway of the lab's underlay, router6 for IPv6.
const (
	router  = "10.99.0.1"
	router6 = "fd99::1"
)

// changes are what happens to the network of h1 while its agent runs: a DHCP renewal, another NIC, another MTU, a cable.
func changes() []struct{ name, vtep, ip string } {
	return []struct{ name, vtep, ip string }{
		{"another address", "10.99.3.1", `addr flush dev eth0 scope global
			addr add 10.99.3.1/16 dev eth0
			route replace default via ` + router},
		{"its NIC goes down and up", "10.99.3.1", `link set eth0 down
			link set eth0 up
			route replace default via ` + router},
		{"another NIC has the default route", "10.99.3.2", `addr add 10.99.3.2/16 dev eth1
			route add default via ` + router + ` dev eth1 metric 5
			addr flush dev eth0 scope global`},
		{"the address moves to another NIC", "10.99.3.2", `addr flush dev eth1 scope global
			addr add 10.99.3.2/16 dev eth0
			route replace default via ` + router},
		{"a smaller MTU", "10.99.3.2", `link set eth0 mtu 1400`},
	}
}

// TestUnderlayChanges: the host's address, NIC and MTU change while its agent runs; containers keep their addresses and talk again.
func TestUnderlayChanges(t *testing.T) {
	ctx := limit(t, 2*time.Minute)
	w := fresh(ctx, t, func(o *lab.Options) {
		o.Hosts = 2
		o.AgentFlags = append(o.AgentFlags, "--advertise=")
	})
	h1 := w.Hosts[0]
	w.docker(ctx, h1, "network", "create", "-d", "socketplane", "--subnet", "10.70.0.0/24", "web")
	w.arrives(ctx, "web")
	all := w.runOnEach(ctx, "web", "c1")
	w.talk(ctx, all)
	w.must(h1.AddNIC(ctx, "eth1", 1500))
	for _, c := range changes() {
		w.must(h1.IP(ctx, strings.Split(c.ip, "\n")...))
		w.follows(ctx, h1, c.name, c.vtep, all)
	}
	if got := w.docker(ctx, h1, "inspect", "-f", "{{(index .NetworkSettings.Networks \"web\").IPAddress}}", "c1"); got != all[0].addr.String() {
		t.Errorf("the container's address is %s, and was %s", got, all[0].addr)
	}
	// Containers to come have what both hosts can carry, and those that run are told of.
	for _, h := range w.Hosts {
		eventually(ctx, t, followTime, func(ctx context.Context) error { return says(ctx, h, "containers get 1350", "info") })
	}
	late := w.runOnEach(ctx, "web", "late")
	for _, c := range late {
		w.must(mtuIs(ctx, c, 1350))
	}
	eventually(ctx, t, followTime, func(ctx context.Context) error {
		return says(ctx, w.Hosts[1], "container c1 on host h1 has MTU 1450", "network", "inspect", "web")
	})
	w.talk(ctx, append(late, all...))
}

// TestUnderlayChangesInOwnCluster is the same where the hosts' agents form the cluster themselves, and then both move to IPv6.
func TestUnderlayChangesInOwnCluster(t *testing.T) {
	ctx := limit(t, 2*time.Minute)
	w := fresh(ctx, t, func(o *lab.Options) {
		o.Hosts, o.Consul, o.Cluster = 2, false, true
		o.AgentFlags = append(o.AgentFlags, "--advertise=")
	})
	h1 := w.Hosts[0]
	eventually(ctx, t, patience, func(ctx context.Context) error { // the hosts find each other first
		_, err := h1.Docker(ctx, "network", "create", "-d", "socketplane", "--subnet", "10.70.0.0/24", "web")
		return err
	})
	w.arrives(ctx, "web")
	all := w.runOnEach(ctx, "web", "c1")
	w.talk(ctx, all)
	const inCluster = 2 * followTime // Consul restarts
	c := changes()[0]
	w.must(h1.IP(ctx, strings.Split(c.ip, "\n")...))
	w.followsWithin(ctx, inCluster, h1, c.name, c.vtep, all)
	for _, h := range w.Hosts {
		w.must(h.IP(ctx, "addr flush dev eth0", fmt.Sprintf("addr add %s/64 dev eth0 nodad", h.Addr6), "route replace ::/0 via "+router6+" dev eth0"))
	}
	w.followsWithin(ctx, 2*inCluster, h1, "IPv6 only", h1.Addr6.String(), all)
	w.copyOfServer(ctx)
}

// copyOfServer replaces one host's disk by a copy of the server's, in a cluster of two that the hosts' agents form: it is refused, both say why, and the first
// host's agent goes on. Reports: weave#3263, consul#9467.
func (w *world) copyOfServer(ctx context.Context) {
	w.t.Helper()
	first, copied := w.Hosts[0], w.Hosts[1]
	members, err := first.SocketPlane(ctx, "cluster", "members")
	w.must(err)
	for line := range strings.Lines(members) {
		if strings.Contains(line, "leader") && strings.HasPrefix(line, copied.Name+" ") {
			first, copied = copied, first
		}
	}
	w.must(copied.StopAgent())
	_, err = copied.Exec(ctx, "sh", "-c", "kill $(pidof consul)")
	w.must(err)
	w.must(copied.Wipe())
	const state = "var/lib/socketplane"
	w.must(os.CopyFS(filepath.Join(copied.Dir, state), os.DirFS(filepath.Join(first.Dir, state))))
	w.must(copied.StartAgent(ctx))
	w.refused(ctx, copied, []string{"another machine has this host's id", first.Addr6.String(), copied.Addr6.String(), "socketplane clean"},
		"run", "--rm", "--network", "web", lab.ImageName, "true")
	eventually(ctx, w.t, patience, func(ctx context.Context) error {
		out, _ := first.SocketPlane(ctx, "doctor", "--format", "json") // which fails where anything is wrong
		if !strings.Contains(out, copied.Addr6.String()+" has this host's id") {
			return fmt.Errorf("doctor of the first host: %s", out)
		}
		return nil
	})
	w.docker(ctx, first, "run", "--rm", "--network", "web", lab.ImageName, "true")
}

// follows waits until a host's tunnels end at vtep, for all hosts, and containers talk.
func (w *world) follows(ctx context.Context, h *lab.Host, what, vtep string, all []*container) {
	w.t.Helper()
	w.followsWithin(ctx, followTime, h, what, vtep, all)
}

func (w *world) followsWithin(ctx context.Context, within time.Duration, h *lab.Host, what, vtep string, all []*container) {
	w.t.Helper()
	began := time.Now()
	eventually(ctx, w.t, within, func(ctx context.Context) error {
		out, err := h.SocketPlane(ctx, "info")
		if err == nil && !strings.Contains(out, vtep) {
			err = fmt.Errorf("%s: info says\n%s", what, out)
		}
		return err
	})
	for _, from := range all {
		for _, to := range all {
			if from != to {
				eventually(ctx, w.t, within, func(ctx context.Context) error {
					_, err := from.exec(ctx, "ping", "-n", "-c", "1", "-W", "1", to.addr.String())
					if err != nil {
						err = fmt.Errorf("after %s: %w", what, err)
					}
					return err
				})
			}
		}
	}
	w.t.Logf("%s: containers talk after %v", what, time.Since(began).Round(10*time.Millisecond))
}

// says says whether the command line's answer on a host has these words, whatever its lines.
func says(ctx context.Context, h *lab.Host, words string, command ...string) error {
	out, err := h.SocketPlane(ctx, command...)
	if text := strings.Join(strings.Fields(out), " "); err == nil && !strings.Contains(text, words) {
		err = fmt.Errorf("%s: %v does not say %q:\n%s", h.Name, command, words, out)
	}
	return err
}

// mtuIs says whether the container's interface on the network has this MTU.
func mtuIs(ctx context.Context, c *container, want int) error { return linkMTUIs(ctx, c, "eth0", want) }

// linkMTUIs says whether an interface of the container has this MTU.
func linkMTUIs(ctx context.Context, c *container, dev string, want int) error {
	out, err := c.exec(ctx, "cat", "/sys/class/net/"+dev+"/mtu")
	if err == nil && strings.TrimSpace(out) != fmt.Sprint(want) {
		err = fmt.Errorf("%s of %s on %s has MTU %s, want %d", dev, c.name, c.h.Name, strings.TrimSpace(out), want)
	}
	return err
}

// TestHostsOfDifferentMTU: large transfers between a host of 9000 and one of 1500 bytes arrive whole, and connections of containers leave
// no entries of conntrack for the tunnel. Reports: moby#33133, libnetwork#1021, antrea#5940 (MTU), moby#8795 (conntrack).
func TestHostsOfDifferentMTU(t *testing.T) {
	ctx := limit(t, 2*time.Minute)
	w := fresh(ctx, t, func(o *lab.Options) { o.Hosts, o.MTU, o.NoAgent = 2, 9000, true })
	h1, h2 := w.Hosts[0], w.Hosts[1]
	w.must(h2.IP(ctx, "link set eth0 mtu 1500"))
	w.startAgents(ctx)
	w.docker(ctx, h1, "network", "create", "-d", "socketplane", "--subnet", "10.70.0.0/24", "web")
	w.arrives(ctx, "web")
	all := w.runOnEach(ctx, "web", "c1")
	w.talk(ctx, all)
	for i, c := range all {
		if err := mtuIs(ctx, c, 1450); err != nil {
			t.Error(err)
		}
		// The agent made docker_gwbridge, with the MTU of its host's NIC.
		if err := linkMTUIs(ctx, c, "eth1", []int{9000, 1500}[i]); err != nil {
			t.Error(err)
		}
		to := all[1-i].addr.String()
		if out, err := c.exec(ctx, "ping", "-n", "-c", "5", "-i", "0.2", "-W", "2", "-s", "20000", to); err != nil || !strings.Contains(out, " 0% packet loss") {
			t.Errorf("datagrams of 20,000 bytes from %s: %v\n%s", c.h.Name, err, out)
		}
	}
	w.transfer(ctx, all[0], all[1], 64)
	w.transfer(ctx, all[1], all[0], 64)
	const connections = 300
	before := w.tracked(ctx, h1)
	w.connect(ctx, all[0], all[1], connections)
	if after := w.tracked(ctx, h1); after-before > connections/10 {
		t.Errorf("%d connections of containers left %d entries of conntrack on their host", connections, after-before)
	}
	// The smaller host grows: containers to come follow.
	w.must(h2.IP(ctx, "link set eth0 mtu 9000"))
	eventually(ctx, t, followTime, func(ctx context.Context) error {
		w.docker(ctx, h1, "rm", "-f", "late")
		late, err := run(ctx, h1, "late", "--network", "web")
		if err != nil {
			return err
		}
		return mtuIs(ctx, late, 8950)
	})
}

// transfer sends some megabytes, all of which must arrive, at no less than 20 Mbit/s.
func (w *world) transfer(ctx context.Context, from, to *container, megabytes int) {
	w.t.Helper()
	if _, err := to.exec(ctx, "iperf3", "-s", "-1", "-D"); err != nil {
		w.t.Fatal(err)
	}
	began := time.Now()
	eventually(ctx, w.t, patience, func(ctx context.Context) error { // the server listens a moment later
		_, err := from.exec(ctx, "iperf3", "-c", to.addr.String(), "-n", fmt.Sprint(megabytes, "M"))
		return err
	})
	took := time.Since(began)
	rate := float64(megabytes) * 8 / took.Seconds()
	w.t.Logf("%d MB from %s to %s in %v: %.0f Mbit/s", megabytes, from.h.Name, to.h.Name, took.Round(time.Millisecond), rate)
	if rate < 20 {
		w.t.Errorf("only %.1f Mbit/s from %s to %s", rate, from.h.Name, to.h.Name)
	}
}

// connect opens TCP connections, one after the other; that they are refused is an answer, too.
func (w *world) connect(ctx context.Context, from, to *container, count int) {
	w.t.Helper()
	script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do nc -w 1 %s 9 </dev/null >/dev/null 2>&1; i=$((i+1)); done", count, to.addr)
	if _, err := from.exec(ctx, "sh", "-c", script); err != nil {
		w.t.Fatal(err)
	}
}

// tracked counts the entries of conntrack in the host's namespace.
func (w *world) tracked(ctx context.Context, h *lab.Host) int {
	w.t.Helper()
	out, err := h.Exec(ctx, "cat", "/proc/sys/net/netfilter/nf_conntrack_count")
	n := 0
	if err == nil {
		_, err = fmt.Sscan(out, &n)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}
