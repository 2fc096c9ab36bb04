package doctor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// setup is a host as users have them, on which nothing is wrong.
type setup struct {
	name       string
	make, undo func(context.Context) error
}

// TestHealthy: hosts that are well, each in another way, have no alarm.
func TestHealthy(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	w := newWard(ctx, t, lab.Options{Hosts: 2, Consul: true, AgentFlags: []string{"--mirror=true"}})
	t.Run("before-the-first-container", func(t *testing.T) { w.stays(ctx, t) })
	w.patients(ctx, "socketplane")
	for _, s := range w.setups() {
		t.Run(strings.ReplaceAll(s.name, " ", "-"), func(t *testing.T) {
			if err := s.make(ctx); err != nil {
				t.Fatal(err)
			}
			w.stays(ctx, t)
			if err := s.undo(ctx); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// stays waits until all hosts are well, and looks again a moment later.
func (w *ward) stays(ctx context.Context, t *testing.T) {
	t.Helper()
	w.recovers(ctx, t)
	for _, h := range w.Hosts {
		if err := well(ctx, h); err != nil {
			t.Error(err)
		}
	}
}

func (w *ward) setups() []setup {
	h1, h2 := w.Hosts[0], w.Hosts[1]
	return []setup{
		{"several NICs", on(h1, sh(`for n in 2 3; do ip link add nic$n type veth peer name far$n; ip addr add 172.29.$n.1/24 dev nic$n; ip link set nic$n up; ip link set far$n up; done
			ip route add 172.28.0.0/16 via 172.29.2.9; ip link add unused type veth peer name unplugged`)), on(h1, sh("ip link del nic2; ip link del nic3; ip link del unused"))},
		{"a VPN's half default routes", on(h1, sh(`ip link add vpn0 type veth peer name vpn0far; ip addr add 172.29.9.2/32 dev vpn0; ip link set vpn0 up; ip link set vpn0far up
			ip route add 0.0.0.0/1 dev vpn0; ip route add 128.0.0.0/1 dev vpn0`)), on(h1, sh("ip link del vpn0"))},
		{"a firewall that lets through", on(h1, []string{"nft", `add table inet wall; add chain inet wall in { type filter hook input priority 0; policy drop; };
			add rule inet wall in ct state established,related accept; add rule inet wall in iif lo accept; add rule inet wall in meta l4proto { icmp, icmpv6 } accept;
			add rule inet wall in udp dport 4789 accept`}), on(h1, []string{"nft", "delete", "table", "inet", "wall"})},
		{"a firewall that drops ICMP", on(h2, []string{"nft", `add table inet wall; add chain inet wall in { type filter hook input priority 0; };
			add rule inet wall in icmp type echo-request drop`}), on(h2, []string{"nft", "delete", "table", "inet", "wall"})},
		{"a firewall that drops timestamps", on(h2, []string{"nft", `add table inet wall; add chain inet wall in { type filter hook input priority 0; };
			add rule inet wall in icmp type timestamp-request drop`}), on(h2, []string{"nft", "delete", "table", "inet", "wall"})},
		{"strict reverse path filters", on(h1, sh("for f in all default eth0; do echo 1 >/proc/sys/net/ipv4/conf/$f/rp_filter; done")),
			on(h1, sh("for f in all default eth0; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done"))},
		{"bridges of others", on(h1, sh(`ip link add br0 type bridge; ip addr add 172.29.10.1/24 dev br0; ip link set br0 up
			ovs-vsctl --timeout=20 add-br br-other -- set Bridge br-other datapath_type=netdev`)), on(h1, sh("ip link del br0; ovs-vsctl --timeout=20 del-br br-other"))},
		{"other networks of Docker", w.dockers(h1, []string{"network", "create", "one"}, []string{"network", "create", "two"},
			[]string{"run", "-d", "--name", "other", "--network", "one", "-p", "8080:80", lab.ImageName}),
			w.dockers(h1, []string{"rm", "-f", "other"}, []string{"network", "rm", "one", "two"})},
		{"networks of all kinds", w.dockers(h1, []string{"network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--internal", "inner"},
			[]string{"network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", "172.27.5.0/24", "named"}),
			w.dockers(h1, []string{"network", "rm", "inner", "named"})},
		{"no network in common", w.dockers(h2, []string{"rm", "-f", "patient"}), w.dockers(h2, []string{"run", "-d", "--name", "patient", "--network", "socketplane", lab.ImageName})},
		{"a restarted agent", restart(h1), func(context.Context) error { return nil }},
		{"a restarted Docker", func(ctx context.Context) error { return h1.RestartDocker(ctx) }, w.dockers(h1, []string{"start", "patient"})},
		{"a larger MTU here", both(on(h1, sh("ip link set eth0 mtu 9000; ip link set docker_gwbridge mtu 9000")), func(ctx context.Context) error {
			return testenv.Poll(ctx, 50*time.Millisecond, func() bool {
				out, err := h1.SocketPlane(ctx, "info")
				return err == nil && strings.Contains(out, "MTU 9000") // the agent has noticed
			})
		}), on(h1, sh("ip link set eth0 mtu 1500; ip link set docker_gwbridge mtu 1500"))},
		{"a smaller MTU everywhere", func(ctx context.Context) error { return w.mtu(ctx, 1400) }, func(ctx context.Context) error { return w.mtu(ctx, 1500) }},
	}
}

// dockers runs docker commands on a host.
func (w *ward) dockers(h *lab.Host, commands ...[]string) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, args := range commands {
			if _, err := h.Docker(ctx, args...); err != nil {
				return err
			}
		}
		return nil
	}
}

// mtu gives the underlay another MTU, waits until the agents know what containers get, and restarts those that run, as doctor says.
func (w *ward) mtu(ctx context.Context, bytes int) error {
	for _, h := range w.Hosts {
		if err := on(h, sh(fmt.Sprintf("ip link set eth0 mtu %d; ip link set docker_gwbridge mtu %d", bytes, bytes)))(ctx); err != nil {
			return err
		}
	}
	want := fmt.Sprintf("containers get %d", bytes-50) // less what VXLAN takes
	for _, h := range w.Hosts {
		agreed := func() bool {
			out, err := h.SocketPlane(ctx, "info")
			return err == nil && strings.Contains(strings.Join(strings.Fields(out), " "), want)
		}
		if err := testenv.Poll(ctx, 50*time.Millisecond, agreed); err != nil {
			return fmt.Errorf("%s: 'socketplane info' does not say %q: %w", h.Name, want, err)
		}
		if _, err := h.Docker(ctx, "restart", "-t", "0", "patient"); err != nil {
			return err
		}
	}
	return nil
}

// TestHealthyIPv6: two hosts that form their own cluster on an underlay of IPv6 with jumbo frames.
func TestHealthyIPv6(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	w := newWard(ctx, t, lab.Options{Hosts: 2, Cluster: true, MTU: 9000, NoAgent: true, AgentFlags: []string{"--mirror=true"}})
	for _, h := range w.Hosts {
		if err := h.StartAgent(ctx, "--advertise", h.Addr6.String()); err != nil {
			t.Fatal(err)
		}
	}
	w.stays(ctx, t)
	w.patients(ctx, "socketplane")
	for _, h := range w.Hosts {
		w.must(ctx, h, "ip", "link", "set", "docker_gwbridge", "mtu", "9000")
		w.must(ctx, h, "ip", "addr", "del", h.Addr.String()+"/16", "dev", "eth0")
	}
	w.stays(ctx, t)
	w.treat(ctx, t, sickness{name: "the cluster's Consul is stopped by a signal", harm: on(w.Hosts[0], sh("kill -STOP $(pidof consul)")),
		check: "store", state: "error", words: []string{"Consul (process", "stopped by a signal", "kill -CONT"}})
	d, err := diagnose(ctx, w.Hosts[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, word := range map[string]string{"clocks": "not applicable", "way to h2": "came back through the tunnel", "cluster": "2 hosts", "reverse path filter": "not applicable"} {
		if c, _ := d.find(name); !strings.Contains(c.Text, word) {
			t.Errorf("%s does not say %q: %s", name, word, c.Text)
		}
	}
}

// TestHealthyAlone: one host, without Docker's API.
func TestHealthyAlone(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	w := newWard(ctx, t, lab.Options{Hosts: 1, Consul: true, NoDocker: true})
	w.stays(ctx, t)
	d, err := diagnose(ctx, w.Hosts[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Docker", "networks", "way to other hosts", "docker_gwbridge", "cluster"} {
		if c, _ := d.find(name); !c.NotApplicable {
			t.Errorf("%s is not left out with a reason: %+v", name, c)
		}
	}
}
