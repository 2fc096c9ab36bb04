package users

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

// TestCorePlainCommand: the plainest commands on hosts that differ. h2 has two local bridges beforehand, h3 one, h1 none; then
// networks are created on each host in turn, with Docker's own choice of a subnet, and local bridges by the way, as Compose
// projects make them. Docker's own pools never run into a subnet of the cluster, whichever comes first, on any host.
// Reports: moby#26912 (docker_gwbridge in a network's subnet), docker/for-linux#599 (docker_gwbridge that Docker can't make).
func TestCorePlainCommand(t *testing.T) {
	ctx := limit(t, 4*time.Minute)
	w := fresh(ctx, t, func(o *lab.Options) { o.NoAgent = true })
	h1, h2, h3 := w.Hosts[0], w.Hosts[1], w.Hosts[2]
	w.docker(ctx, h2, "network", "create", "local1")
	w.docker(ctx, h2, "network", "create", "local2")
	w.docker(ctx, h3, "network", "create", "--subnet", "172.20.0.0/16", "local1")
	w.startAgents(ctx)
	w.haveGateway(ctx)
	w.told(ctx)

	for i, h := range []*lab.Host{h1, h2, h3} {
		name := fmt.Sprintf("web%d", i)
		w.docker(ctx, h, "network", "create", "-d", "socketplane", name)
		w.arrives(ctx, name)
		// Three Compose projects, on another host each time.
		other := w.Hosts[(i+1)%3]
		w.docker(ctx, other, "network", "create", fmt.Sprintf("project%d", i))
		w.docker(ctx, h, "network", "create", fmt.Sprintf("own%d", i))
		w.told(ctx)
	}
	next := w.nextOfDocker(ctx)
	w.docker(ctx, h2, "network", "create", "-d", "socketplane", "--subnet", next, "named")
	w.arrives(ctx, "named")
	w.eventuallyMarked(ctx, next)
	for i := range 3 {
		w.docker(ctx, h1, "network", "create", fmt.Sprintf("late%d", i))
	}
	w.distinct(ctx)
	for _, name := range []string{"web0", "web1", "web2", "named"} {
		w.talk(ctx, w.runOnEach(ctx, name, name))
	}
	w.distinct(ctx)
	w.outside(ctx, "web0")
}

// TestCoreSubnetOfTheGatewayBridge: a network in the subnet that docker_gwbridge has by default works on hosts whose Docker never
// made that bridge, or makes it itself for the first container, after it was removed by hand. Reports: moby#26912.
func TestCoreSubnetOfTheGatewayBridge(t *testing.T) {
	ctx := limit(t, 3*time.Minute)
	w := fresh(ctx, t, func(o *lab.Options) { o.NoAgent = true })
	w.startAgents(ctx)
	w.haveGateway(ctx)
	used := w.gateways(ctx)
	w.eventuallyRefused(ctx, w.Hosts[0], []string{used[0], "docker_gwbridge", "host h1", "2 other hosts", "--subnet"},
		"network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", used[0], "web")
	// It goes, and comes again elsewhere when a container needs it.
	w.each(func(h *lab.Host) error { _, err := h.Docker(ctx, "network", "rm", "docker_gwbridge"); return err })
	eventually(ctx, t, patience, func(ctx context.Context) error {
		_, err := w.Hosts[0].Docker(ctx, "network", "create", "-d", "socketplane", "--subnet", used[0], "web")
		return err
	})
	w.arrives(ctx, "web")
	w.eventuallyMarked(ctx, used[0])
	w.talk(ctx, w.runOnEach(ctx, "web", "c1"))
	w.distinct(ctx)
	w.outside(ctx, "c1")
}

// TestSubnetInUse: a subnet that any host of the cluster uses is refused at once, with the same answer on every host. Reports:
// weaveworks/weave#1076 (a bridge of the host's own), weaveworks/weave#1276 (an explicit subnet is not checked).
func TestSubnetInUse(t *testing.T) {
	ctx := limit(t, 2*time.Minute)
	w := fresh(ctx, t, nil)
	w.haveGateway(ctx)
	h1, h2, h3 := w.Hosts[0], w.Hosts[1], w.Hosts[2]
	w.docker(ctx, h3, "network", "create", "--subnet", "10.77.0.0/24", "shop_default")
	if _, err := h2.Exec(ctx, "ip", "link", "add", "weave", "type", "bridge"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"addr", "add", "10.78.0.1/16", "dev", "weave"}, {"link", "set", "weave", "up"}} {
		if _, err := h2.Exec(ctx, append([]string{"ip"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		subnet string
		words  []string
	}{
		{"10.99.0.0/16", []string{"10.99.0.0/16", "eth0", "host h1", "2 other hosts", "choose another --subnet"}},
		{"10.99.5.0/24", []string{"10.99.0.0/16", "host h1"}},
		{"10.77.0.0/24", []string{"host h3", "Docker network shop_default", "docker network rm shop_default"}},
		{"10.76.0.0/15", []string{"host h3", "Docker network shop_default"}},
		{"10.78.3.0/24", []string{"host h2", "interface weave"}},
		{"172.17.0.0/16", []string{"Docker network bridge"}},
	} {
		for _, h := range []*lab.Host{h1, h2, h3} {
			for _, ipam := range []string{"default", "socketplane"} {
				w.eventuallyRefused(ctx, h, c.words, "network", "create", "-d", "socketplane", "--ipam-driver", ipam, "--subnet", c.subnet, "web")
			}
			if out, err := h.SocketPlane(ctx, "network", "create", "web", c.subnet); err == nil || !strings.Contains(err.Error(), c.words[0]) {
				t.Errorf("%s: socketplane network create web %s: %v %s", h.Name, c.subnet, err, out)
			}
		}
	}
	for _, h := range w.Hosts {
		if names := w.docker(ctx, h, "network", "ls", "--filter", "driver=socketplane", "--format", "{{.Name}}"); strings.Contains(names, "web") {
			t.Errorf("%s has %s after it was refused", h.Name, names)
		}
	}
	// The cure works.
	w.docker(ctx, h3, "network", "rm", "shop_default")
	eventually(ctx, t, patience, func(ctx context.Context) error {
		_, err := h1.Docker(ctx, "network", "create", "-d", "socketplane", "--subnet", "10.77.0.0/24", "web")
		return err
	})
	w.arrives(ctx, "web")
	w.talk(ctx, w.runOnEach(ctx, "web", "c1"))
}

// told waits until each host knows what the others use: that is when Docker there sees it as used, or has it itself.
func (w *world) told(ctx context.Context) {
	w.t.Helper()
	eventually(ctx, w.t, 5*time.Second, func(ctx context.Context) error {
		for _, from := range w.Hosts {
			ids, err := from.Docker(ctx, "network", "ls", "-q", "--filter", "driver=bridge")
			if err != nil {
				return err
			}
			out, err := from.Docker(ctx, append([]string{"network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}}{{end}}"}, strings.Fields(ids)...)...)
			if err != nil {
				return err
			}
			for _, to := range w.Hosts {
				routes, err := to.Exec(ctx, "ip", "-4", "route", "show", "scope", "link")
				if err != nil {
					return err
				}
				for _, subnet := range strings.Fields(out) {
					if !strings.Contains(routes, subnet+" ") {
						return fmt.Errorf("%s does not know that %s uses %s:\n%s", to.Name, from.Name, subnet, routes)
					}
				}
			}
		}
		return nil
	})
}

// eventuallyRefused waits until what is refused is refused with these words: the hosts tell each other within a second.
func (w *world) eventuallyRefused(ctx context.Context, h *lab.Host, words []string, args ...string) {
	w.t.Helper()
	eventually(ctx, w.t, 15*time.Second, func(ctx context.Context) error {
		out, err := h.Docker(ctx, args...)
		if err == nil {
			_, _ = h.Docker(ctx, "network", "rm", args[len(args)-1])
			return fmt.Errorf("%s: docker %s was not refused: %s", h.Name, strings.Join(args, " "), out)
		}
		for _, word := range words {
			// Docker's own address management knows the networks of its host, and says so first.
			if !strings.Contains(err.Error(), word) && !strings.Contains(err.Error(), "Pool overlaps with other one on this address space") {
				return fmt.Errorf("%s: the error does not say %q: %w", h.Name, word, err)
			}
		}
		return nil
	})
}

// haveGateway waits until all hosts have docker_gwbridge.
func (w *world) haveGateway(ctx context.Context) {
	w.t.Helper()
	eventually(ctx, w.t, patience, func(ctx context.Context) error {
		for _, h := range w.Hosts {
			if _, err := subnets(ctx, h, "docker_gwbridge"); err != nil {
				return err
			}
		}
		return nil
	})
}

// gateways are the subnets of docker_gwbridge on the hosts.
func (w *world) gateways(ctx context.Context) []string {
	w.t.Helper()
	var all []string
	for _, h := range w.Hosts {
		s, err := subnets(ctx, h, "docker_gwbridge")
		if err != nil || len(s) != 1 {
			w.t.Fatalf("docker_gwbridge of %s: %v %v", h.Name, s, err)
		}
		all = append(all, s[0])
	}
	return all
}

// eventuallyMarked waits until Docker's allocator sees a subnet as used on all hosts.
func (w *world) eventuallyMarked(ctx context.Context, subnet string) {
	w.t.Helper()
	eventually(ctx, w.t, 15*time.Second, func(ctx context.Context) error {
		for _, h := range w.Hosts {
			out, err := h.Exec(ctx, "ip", "-4", "route", "show", "scope", "link")
			if err != nil || !strings.Contains(out, subnet+" ") {
				return fmt.Errorf("%s does not reserve %s: %w\n%s", h.Name, subnet, err, out)
			}
		}
		return nil
	})
}

// distinct demands that on each host no two networks of Docker overlap, whatever their drivers.
func (w *world) distinct(ctx context.Context) {
	w.t.Helper()
	for _, h := range w.Hosts {
		ids := strings.Fields(w.docker(ctx, h, "network", "ls", "-q"))
		out := w.docker(ctx, h, append([]string{"network", "inspect", "-f", "{{.Name}}{{range .IPAM.Config}} {{.Subnet}}{{end}}"}, ids...)...)
		seen := map[netip.Prefix]string{}
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			for _, text := range f[1:] {
				p := netip.MustParsePrefix(text)
				for q, name := range seen {
					if p.Overlaps(q) {
						w.t.Errorf("%s: %s has %s and %s has %s", h.Name, f[0], p, name, q)
					}
				}
				seen[p] = f[0]
			}
		}
	}
}

// nextOfDocker is the first of Docker's own pools that no network of any host uses: the one that Docker would take next. How far it has got depends on how
// soon hosts hear of each other's subnets.
func (w *world) nextOfDocker(ctx context.Context) string {
	w.t.Helper()
	used := map[netip.Prefix]bool{}
	for _, h := range w.Hosts {
		ids := strings.Fields(w.docker(ctx, h, "network", "ls", "-q"))
		out := w.docker(ctx, h, append([]string{"network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}"}, ids...)...)
		for _, text := range strings.Fields(out) {
			used[netip.MustParsePrefix(text)] = true
		}
	}
	for second := byte(18); second < 32; second++ {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, second, 0, 0}), 16); !used[p] {
			return p.String()
		}
	}
	w.t.Fatal("all of Docker's pools are used")
	return ""
}

// outside demands that containers of this name reach what is beyond the hosts, by docker_gwbridge.
func (w *world) outside(ctx context.Context, name string) {
	w.t.Helper()
	var group errgroup.Group
	for _, h := range w.Hosts {
		group.Go(func() error {
			_, err := h.Docker(ctx, "exec", name, "ping", "-n", "-c", "1", "-W", "5", w.Outside.String())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		w.t.Error(err)
	}
	if g := w.gateways(ctx); len(g) != len(w.Hosts) {
		w.t.Errorf("docker_gwbridge: %v", slices.Compact(g))
	}
}
