package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// soon is how quickly a network that was created on one host must be on the others.
const soon = time.Second

// TestOnce: create once, use everywhere. It has a lab of its own, whose agents follow the cluster's networks.
func TestOnce(t *testing.T) {
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "dockerd", "docker", "ip", "nsenter", "busybox", "iperf3", "ping", "ethtool", "consul")
	ctx := deadline(t, 35*time.Minute)
	l, err := lab.Start(ctx, lab.Options{
		Hosts: 3, Consul: true, Engine: lab.Engine(os.Getenv("SOCKETPLANE_E2E_ENGINE")),
		AgentFlags: []string{"--mirror=true"}, Log: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &once{&world{Lab: l}}
	for _, test := range []struct {
		name string
		run  func(context.Context, *testing.T)
	}{
		{"the_first_network", w.firstNetwork},
		{"docker_network_create", w.dockerCreates},
		{"socketplane_network_create", w.commandCreates},
		{"removed_where_it_is_not_used", w.removed},
		{"let_go_where_others_use_it", w.away},
		{"one_name_on_all_hosts_at_once", w.oneName},
		{"conflicts_are_told_and_mended", w.conflicts},
		{"a_host_that_was_away", w.wasAway},
		{"containers_are_told", w.told},
		{"compose", w.compose},
		{"restart_always", w.restartAlways},
		{"killed_in_the_middle", w.killed},
		{"fifty_at_once", w.fifty},
	} {
		if !t.Run(test.name, func(t *testing.T) {
			t.Cleanup(func() { w.report(t) })
			test.run(deadline(t, 15*time.Minute), t)
		}) {
			return // what follows would fail for this one's reason
		}
	}
}

// once is a world whose agents make networks everywhere.
type once struct{ *world }

// dockerNetwork is what `docker network inspect` says.
type dockerNetwork struct {
	Name, Driver         string
	Internal, EnableIPv6 bool
	Labels, Options      map[string]string
	IPAM                 struct {
		Driver string
		Config []map[string]any
	}
}

func (w *once) inspect(ctx context.Context, h *lab.Host, name string) (n dockerNetwork, err error) {
	out, err := h.Docker(ctx, "network", "inspect", name)
	if err != nil {
		return n, err
	}
	var all []dockerNetwork
	if err = json.Unmarshal([]byte(out), &all); err != nil {
		return n, err
	}
	return all[0], nil
}

// names are the networks of our driver on a host.
func (w *once) names(ctx context.Context, h *lab.Host) ([]string, error) {
	out, err := h.Docker(ctx, "network", "ls", "--filter", "driver=socketplane", "--format", "{{.Name}}")
	names := strings.Fields(out)
	slices.Sort(names)
	return names, err
}

// have waits until every host has exactly these networks beside the first one.
func (w *once) have(ctx context.Context, t *testing.T, limit time.Duration, hosts []*lab.Host, want ...string) {
	t.Helper()
	want = append([]string{"socketplane"}, want...)
	slices.Sort(want)
	eventually(ctx, t, limit, func(ctx context.Context) error {
		for _, h := range hosts {
			got, err := w.names(ctx, h)
			if err != nil {
				return err
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("%s has %v, not %v", h.Name, got, want)
			}
		}
		return nil
	})
}

// only waits until nothing but the first network is left on any host, and nothing of others in Consul.
func (w *once) only(ctx context.Context, t *testing.T, limit time.Duration) {
	t.Helper()
	w.have(ctx, t, limit, w.Hosts)
	eventually(ctx, t, limit, func(ctx context.Context) error {
		keys, err := w.Consul.Keys(ctx, "socketplane/")
		if err != nil {
			return err
		}
		count := map[string]int{}
		for key := range keys {
			switch parts := strings.Split(key, "/"); parts[2] {
			case "blocks": // of which the first network has as many as its hosts keep spare addresses in
				count["blocks of "+parts[3]] = 1
			default:
				count[parts[2]]++
			}
		}
		for key := range keys {
			if pool, ok := strings.CutPrefix(key, "socketplane/v1/pools/"); ok {
				delete(count, "blocks of "+pool) // there is one pool, as is demanded below
			}
		}
		want := map[string]int{"declared": 1, "default-made": 1, "hosts": 2 * len(w.Hosts), "names": 1, "networks": 1,
			"pools": 1, "pools-revision": 1, "vnis": 1}
		if !maps.Equal(count, want) {
			return fmt.Errorf("consul has %v, not %v: %v", count, want, slices.Sorted(maps.Keys(keys)))
		}
		return nil
	})
	for _, h := range w.Hosts {
		out, err := h.Exec(ctx, "ovs-vsctl", "list-ports", "socketplane0")
		if err != nil || strings.TrimSpace(out) != "" {
			t.Errorf("%s has ports: %v %s", h.Name, err, out)
		}
	}
}

// talk demands that a container of each host on a network reaches the others'.
func (w *once) talk(ctx context.Context, t *testing.T, network string, hosts ...*lab.Host) {
	t.Helper()
	var all []*container
	for _, h := range hosts {
		c, err := w.run(ctx, h, "talk-"+network, "--network", network)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	for _, c := range all[1:] {
		all[0].reachable(ctx, t, c.addr)
		c.reachable(ctx, t, all[0].addr)
		if c.addr6.IsValid() {
			all[0].reachable(ctx, t, c.addr6)
		}
	}
	for _, c := range all {
		if err := remove(ctx, c.h, c.name); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *once) firstNetwork(ctx context.Context, t *testing.T) {
	w.have(ctx, t, 20*time.Second, w.Hosts)
	var g errgroup.Group
	for _, h := range w.Hosts {
		g.Go(func() error {
			_, err := h.SocketPlane(ctx, "run", "-d", "--name", "first", lab.ImageName)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var all []*container
	for _, h := range w.Hosts {
		c, err := inspect(ctx, h, "first")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	all[0].reachable(ctx, t, all[1].addr, all[2].addr)
	for _, h := range w.Hosts {
		if err := remove(ctx, h, "first"); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *once) dockerCreates(ctx context.Context, t *testing.T) {
	ours := []string{"--ipam-driver", "socketplane"}
	for i, tt := range []struct {
		name string
		args []string
	}{
		{"ours", ours},
		{"dockers", nil},
		{"dockers-subnet", []string{"--subnet", "10.80.0.0/24"}},
		{"subnet", append(ours, "--subnet", "10.81.0.0/24", "--gateway", "10.81.0.9")},
		{"range", append(ours, "--subnet", "10.82.0.0/24", "--ip-range", "10.82.0.128/25", "--aux-address", "router=10.82.0.130")},
		{"six", append(ours, "--ipv6", "--subnet", "10.83.0.0/24", "--subnet", "fd83::/64")},
		{"dockers-six", []string{"--ipv6", "--subnet", "10.84.0.0/24", "--subnet", "fd84::/64"}},
		{"internal", append(ours, "--internal", "--label", "tier=back", "--label", "x=", "-o", "mtu=1400")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from := w.Hosts[i%len(w.Hosts)]
			if _, err := from.Docker(ctx, append(append([]string{"network", "create", "-d", "socketplane"}, tt.args...), tt.name)...); err != nil {
				t.Fatal(err)
			}
			w.have(ctx, t, 10*time.Second, w.Hosts, tt.name)
			w.quick(ctx, t, from, tt.name)
			want, err := w.inspect(ctx, from, tt.name)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range w.Hosts {
				got, err := w.inspect(ctx, h, tt.name)
				if err != nil {
					t.Fatal(err)
				}
				got.IPAM.Driver = want.IPAM.Driver // copies have ours
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s has\n%+v, %s\n%+v", h.Name, got, from.Name, want)
				}
			}
			w.talk(ctx, t, tt.name, from, w.Hosts[(i+1)%len(w.Hosts)])
			if _, err := from.Docker(ctx, "network", "rm", tt.name); err != nil {
				t.Fatal(err)
			}
			w.only(ctx, t, 30*time.Second)
		})
	}
}

// quick compares when the hosts' Dockers began to make a network; they have one clock. What `docker network ls` takes on a
// busy machine is not ours.
func (w *once) quick(ctx context.Context, t *testing.T, from *lab.Host, name string) {
	t.Helper()
	created := func(h *lab.Host) time.Time {
		at, err := time.Parse(time.RFC3339Nano, w.docker(ctx, t, h, "network", "inspect", "-f", `{{.Created.Format "2006-01-02T15:04:05.999999999Z07:00"}}`, name))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	first := created(from)
	for _, h := range w.Hosts {
		if took := created(h).Sub(first); took > soon {
			t.Errorf("%s has it %v after %s", h.Name, took, from.Name)
		} else if h != from {
			t.Logf("%s has it %v after %s", h.Name, took.Round(time.Millisecond), from.Name)
		}
	}
}

func (w *once) commandCreates(ctx context.Context, t *testing.T) {
	h := w.Hosts[1]
	out, err := h.SocketPlane(ctx, "network", "create", "--ipv6", "--label", "a=b", "--ip-range", "10.85.1.0/24", "--aux-address", "x=10.85.1.1",
		"cli", "10.85.0.0/16")
	if err != nil || out != "cli\n" {
		t.Fatalf("%v %q", err, out)
	}
	w.have(ctx, t, 10*time.Second, w.Hosts, "cli") // the command has waited
	for _, h := range w.Hosts {
		n, err := w.inspect(ctx, h, "cli")
		if err != nil || n.Labels["a"] != "b" || !n.EnableIPv6 || len(n.IPAM.Config) != 2 {
			t.Errorf("%s: %v %+v", h.Name, err, n)
		}
	}
	w.talk(ctx, t, "cli", w.Hosts...)
	if out, err := h.SocketPlane(ctx, "network", "create", "cli"); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("created twice: %v %s", err, out)
	}
	if out, err := w.Hosts[2].SocketPlane(ctx, "network", "rm", "cli"); err != nil || out != "cli\n" {
		t.Errorf("%v %q", err, out)
	}
	w.only(ctx, t, 30*time.Second)
}

func (w *once) removed(ctx context.Context, t *testing.T) {
	w.docker(ctx, t, w.Hosts[0], "network", "create", "-d", "socketplane", "--subnet", "10.86.0.0/24", "gone")
	w.have(ctx, t, 20*time.Second, w.Hosts, "gone")
	began := time.Now()
	w.docker(ctx, t, w.Hosts[2], "network", "rm", "gone")
	w.have(ctx, t, 10*time.Second, w.Hosts)
	t.Logf("gone from all hosts %v after docker network rm began", time.Since(began))
	w.only(ctx, t, 30*time.Second)
}

func (w *once) docker(ctx context.Context, t *testing.T, h *lab.Host, args ...string) string {
	t.Helper()
	out, err := h.Docker(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (w *once) away(ctx context.Context, t *testing.T) {
	h1, h2 := w.Hosts[0], w.Hosts[1]
	w.docker(ctx, t, h1, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "used")
	w.have(ctx, t, 20*time.Second, w.Hosts, "used")
	w.docker(ctx, t, h2, "run", "-d", "--name", "user", "--network", "used", lab.ImageName)
	w.endpoints(ctx, t, "used", 1)
	w.docker(ctx, t, h1, "network", "rm", "used")
	w.have(ctx, t, 10*time.Second, w.Hosts[:1])
	w.have(ctx, t, 10*time.Second, w.Hosts[1:], "used")
	out, err := h1.SocketPlane(ctx, "network", "rm", "used")
	if err == nil || !strings.Contains(err.Error(), "used by containers on h2") {
		t.Errorf("removed in use: %v %s", err, out)
	}
	if out, err := h1.SocketPlane(ctx, "network", "inspect", "used"); err != nil || !strings.Contains(out, "away") {
		t.Errorf("%v %s", err, out)
	}
	// It stays away, also over a restart.
	if err := h1.RestartAgent(ctx); err != nil {
		t.Fatal(err)
	}
	w.have(ctx, t, 10*time.Second, w.Hosts[:1])
	if _, err := h1.SocketPlane(ctx, "network", "attach", "used"); err != nil {
		t.Fatal(err)
	}
	w.have(ctx, t, 10*time.Second, w.Hosts, "used")
	w.docker(ctx, t, h2, "rm", "-f", "user")
	w.endpoints(ctx, t, "used", 0)
	w.docker(ctx, t, h1, "network", "rm", "used")
	w.only(ctx, t, 30*time.Second)
}

// endpoints waits until the cluster has so many endpoints on a network.
func (w *once) endpoints(ctx context.Context, t *testing.T, network string, n int) {
	t.Helper()
	w.endpointsWithin(ctx, t, 10*time.Second, network, n)
}

func (w *once) endpointsWithin(ctx context.Context, t *testing.T, limit time.Duration, network string, n int) {
	t.Helper()
	eventually(ctx, t, limit, func(ctx context.Context) error {
		out, err := w.Hosts[0].SocketPlane(ctx, "endpoint", "ls", "--quiet", "--network", network)
		if err != nil || len(strings.Fields(out)) != n {
			return fmt.Errorf("endpoints are not %d: %v %s", n, err, out)
		}
		return nil
	})
}

func (w *once) oneName(ctx context.Context, t *testing.T) {
	var g errgroup.Group
	var made atomic.Int32
	for i, h := range w.Hosts {
		g.Go(func() error {
			_, err := h.Docker(ctx, "network", "create", "-d", "socketplane", "--subnet", fmt.Sprintf("10.9%d.0.0/24", i), "same")
			if err != nil && strings.Contains(err.Error(), "already exists") {
				return nil // another host's was faster here
			}
			made.Add(1)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var subnet string
	eventually(ctx, t, 20*time.Second, func(ctx context.Context) error {
		seen := map[string]bool{}
		for _, h := range w.Hosts {
			names, err := w.names(ctx, h)
			if err != nil || !slices.Equal(names, []string{"same", "socketplane"}) {
				return fmt.Errorf("%s has %v: %w", h.Name, names, err)
			}
			n, err := w.inspect(ctx, h, "same")
			if err != nil {
				return err
			}
			subnet = fmt.Sprint(n.IPAM.Config[0]["Subnet"])
			seen[subnet] = true
		}
		if len(seen) != 1 {
			return fmt.Errorf("there are the subnets %v", seen)
		}
		return nil
	})
	told := ""
	for _, h := range w.Hosts {
		told += h.LogTail("agent", 1000)
	}
	t.Logf("%d of %d hosts created it before they had it", made.Load(), len(w.Hosts))
	if made.Load() > 1 && !strings.Contains(told, "another host created a network of this name first") {
		t.Error("no log tells of the networks that gave way")
	}
	w.talk(ctx, t, "same", w.Hosts...)
	w.docker(ctx, t, w.Hosts[0], "network", "rm", "same")
	w.only(ctx, t, 30*time.Second)
}

func (w *once) conflicts(ctx context.Context, t *testing.T) {
	h1, h2, h3 := w.Hosts[0], w.Hosts[1], w.Hosts[2]
	w.docker(ctx, t, h2, "network", "create", "odd")
	w.docker(ctx, t, h3, "network", "create", "--subnet", "10.95.0.0/24", "mine")
	_, err := h1.SocketPlane(ctx, "network", "create", "--wait", "2s", "odd", "10.95.0.0/16")
	if err == nil || !strings.Contains(err.Error(), "not yet on h2, h3") {
		t.Errorf("create: %v", err)
	}
	for h, words := range map[*lab.Host]string{h2: "driver bridge", h3: "overlaps 10.95.0.0/24"} {
		eventually(ctx, t, 30*time.Second, func(ctx context.Context) error {
			for _, args := range [][]string{{"network", "inspect", "odd", "--format", "json"}, {"doctor", "--quiet", "--format", "json"}} {
				out, err := h.SocketPlane(ctx, args...)
				if !strings.Contains(out, words) {
					return fmt.Errorf("%s %v: %w %s", h.Name, args, err, out)
				}
			}
			return nil
		})
	}
	w.have(ctx, t, 10*time.Second, []*lab.Host{h3})
	w.docker(ctx, t, h2, "network", "rm", "odd")
	w.docker(ctx, t, h3, "network", "rm", "mine")
	w.have(ctx, t, 30*time.Second, w.Hosts, "odd")
	if out, err := h2.SocketPlane(ctx, "doctor", "--quiet"); err != nil {
		t.Errorf("doctor: %v %s", err, out)
	}
	if _, err := h1.SocketPlane(ctx, "network", "rm", "odd"); err != nil {
		t.Fatal(err)
	}
	w.only(ctx, t, 30*time.Second)
}

func (w *once) wasAway(ctx context.Context, t *testing.T) {
	h1, h3 := w.Hosts[0], w.Hosts[2]
	for _, name := range []string{"stays", "goes", "kept"} {
		w.docker(ctx, t, h1, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", name)
	}
	w.have(ctx, t, 20*time.Second, w.Hosts, "stays", "goes", "kept")
	if err := h3.StopAgent(); err != nil {
		t.Fatal(err)
	}
	w.docker(ctx, t, h1, "network", "rm", "goes")
	w.docker(ctx, t, h1, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "late")
	w.have(ctx, t, 10*time.Second, w.Hosts[:2], "stays", "kept", "late")
	w.have(ctx, t, 10*time.Second, w.Hosts[2:], "stays", "goes", "kept")
	if err := h3.StartAgent(ctx); err != nil {
		t.Fatal(err)
	}
	w.have(ctx, t, 20*time.Second, w.Hosts, "stays", "kept", "late")
	// A network that is removed while a container uses it on a host whose endpoints nobody can know of.
	w.docker(ctx, t, h3, "run", "-d", "--name", "keeper", "--network", "kept", lab.ImageName)
	w.endpoints(ctx, t, "kept", 1)
	// The same for a host that is off as a whole.
	if err := h3.StopAgent(); err != nil {
		t.Fatal(err)
	}
	if err := h3.StopDocker(); err != nil {
		t.Fatal(err)
	}
	w.docker(ctx, t, h1, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "later")
	w.docker(ctx, t, h1, "network", "rm", "stays")
	var g errgroup.Group
	g.Go(func() error { return h3.StartDocker(ctx) })
	g.Go(func() error { return h3.StartAgent(ctx) })
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	w.have(ctx, t, 30*time.Second, w.Hosts, "kept", "late", "later")
	w.docker(ctx, t, h3, "rm", "-f", "keeper")
	// Docker stopped the container while nobody could be told: the endpoint is found to be gone.
	w.endpointsWithin(ctx, t, 90*time.Second, "kept", 0)
	for _, name := range []string{"kept", "late", "later"} {
		w.docker(ctx, t, h1, "network", "rm", name)
	}
	w.only(ctx, t, 30*time.Second)
}

func (w *once) told(ctx context.Context, t *testing.T) {
	h := w.Hosts[1]
	w.docker(ctx, t, h, "run", "-d", "--name", "named", "--network", "socketplane", "--network-alias", "db",
		"--label", "com.docker.compose.service=database", lab.ImageName)
	shown := func(name string) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			out, err := w.Hosts[2].SocketPlane(ctx, "info", name)
			if err != nil || !strings.Contains(out, "com.docker.compose.service=database") || !strings.Contains(out, "Aliases   db") {
				return fmt.Errorf("%w %s", err, out)
			}
			return nil
		}
	}
	eventually(ctx, t, 10*time.Second, shown("named"))
	w.docker(ctx, t, h, "rename", "named", "renamed")
	eventually(ctx, t, 10*time.Second, shown("renamed"))
	w.docker(ctx, t, h, "rm", "-f", "renamed")
	w.endpoints(ctx, t, "socketplane", 0)
}

// composeFile is used on every host.
const composeFile = `version: "3.5"
services:
  front:
    image: ` + lab.ImageName + `
    networks:
      back:
        aliases: [www]
networks:
  back:
    driver: socketplane
    labels: {tier: back}
    ipam:
      driver: socketplane
`

// compose uses one Compose file on three hosts: first on one, then on the others at once, and takes it down everywhere.
func (w *once) compose(ctx context.Context, t *testing.T) {
	testenv.Need(t, "docker-compose")
	file := filepath.Join(t.TempDir(), "docker-compose.yml")
	if err := os.WriteFile(file, []byte(composeFile), 0o600); err != nil {
		t.Fatal(err)
	}
	compose := func(h *lab.Host, args ...string) error {
		cmd := exec.CommandContext(ctx, "docker-compose", append([]string{"-p", "shop", "-f", file}, args...)...)
		// This Compose asks for an API version of its time, which current engines have no more.
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+h.DockerHost(), "COMPOSE_API_VERSION=auto")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("docker-compose %v on %s: %w: %s", args, h.Name, err, out)
		}
		return nil
	}
	if err := compose(w.Hosts[0], "up", "-d"); err != nil {
		t.Fatal(err)
	}
	w.have(ctx, t, 20*time.Second, w.Hosts, "shop_back")
	var g errgroup.Group
	for _, h := range w.Hosts[1:] {
		g.Go(func() error { return compose(h, "up", "-d") })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var all []*container
	for _, h := range w.Hosts {
		names := w.docker(ctx, t, h, "ps", "--format", "{{.Names}}", "--filter", "label=com.docker.compose.project=shop")
		c, err := inspect(ctx, h, names)
		if err != nil {
			t.Fatalf("%s has %q: %v", h.Name, names, err)
		}
		all = append(all, c)
	}
	all[0].reachable(ctx, t, all[1].addr, all[2].addr)
	eventually(ctx, t, 10*time.Second, func(ctx context.Context) error {
		out, err := w.Hosts[0].SocketPlane(ctx, "endpoint", "ls", "--network", "shop_back", "--format", "json")
		if n := strings.Count(out, `"com.docker.compose.service": "front"`); err != nil || n != 3 || strings.Count(out, `"www"`) != 3 {
			return fmt.Errorf("%d endpoints tell their service: %v %s", n, err, out)
		}
		return nil
	})
	for i, h := range w.Hosts { // the network stays where it is used
		if err := compose(h, "down"); err != nil {
			t.Fatal(err)
		}
		w.endpoints(ctx, t, "shop_back", max(0, len(w.Hosts)-1-i))
	}
	w.only(ctx, t, 30*time.Second)
}

func (w *once) restartAlways(ctx context.Context, t *testing.T) {
	w.docker(ctx, t, w.Hosts[0], "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "always")
	w.have(ctx, t, 20*time.Second, w.Hosts, "always")
	for _, h := range w.Hosts {
		w.docker(ctx, t, h, "run", "-d", "--restart", "always", "--name", "phoenix", "--network", "always", lab.ImageName)
	}
	for _, tt := range []struct {
		name  string
		start func(*lab.Host) error
	}{
		{"Docker before the agent", func(h *lab.Host) error {
			// Docker asks for its plugin for up to 15 s before it serves; the agent comes in that time.
			var g errgroup.Group
			g.Go(func() error { return h.StartDocker(ctx) })
			g.Go(func() error {
				waitUntil(ctx, t, time.Now().Add(2*time.Second))
				return h.StartAgent(ctx)
			})
			return g.Wait()
		}},
		{"the agent before Docker", func(h *lab.Host) error {
			if err := h.StartAgent(ctx); err != nil {
				return err
			}
			return h.StartDocker(ctx)
		}},
		{"both at once", func(h *lab.Host) error {
			var g errgroup.Group
			g.Go(func() error { return h.StartDocker(ctx) })
			g.Go(func() error { return h.StartAgent(ctx) })
			return g.Wait()
		}},
	} {
		err := w.each(func(h *lab.Host) error {
			h.KillAgent()
			h.KillDocker()
			return tt.start(h)
		})
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		var all []*container
		for _, h := range w.Hosts {
			eventually(ctx, t, time.Minute, func(ctx context.Context) error {
				c, err := inspect(ctx, h, "phoenix")
				if err == nil && !c.addr.IsValid() {
					err = fmt.Errorf("%s: %s: it has no address", tt.name, h.Name)
				}
				if err == nil {
					all = append(all, c)
				}
				return err
			})
		}
		all[0].reachable(ctx, t, all[1].addr, all[2].addr)
		w.have(ctx, t, 20*time.Second, w.Hosts, "always")
	}
	for _, h := range w.Hosts {
		w.docker(ctx, t, h, "rm", "-f", "phoenix")
	}
	w.endpoints(ctx, t, "always", 0)
	w.docker(ctx, t, w.Hosts[0], "network", "rm", "always")
	w.only(ctx, t, 30*time.Second)
}

// killed creates and removes networks while agents and Docker are killed: the list converges.
func (w *once) killed(ctx context.Context, t *testing.T) {
	const n = 12
	var names []string
	for i := range n {
		names = append(names, "k"+strconv.Itoa(i))
	}
	create := func(h *lab.Host, from int) {
		for i := from; i < n; i += 3 {
			// It fails while this host's agent or Docker is down: it is created again below.
			_, _ = h.Docker(ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", names[i])
		}
	}
	crash := func(i int) error {
		h := w.Hosts[i]
		if i != 1 {
			h.KillAgent()
		}
		var g errgroup.Group
		if i != 0 {
			h.KillDocker()
			// Docker asks for its plugin for 15 s a network before it serves: neither waits for the other.
			g.Go(func() error { return h.StartDocker(ctx) })
		}
		if i != 1 {
			g.Go(func() error { return h.StartAgent(ctx) })
		}
		return g.Wait()
	}
	// What a dockerd leaves that dies between asking for a subnet and creating its network.
	if _, err := newSocket(w.Hosts[2]).call(ctx, "IpamDriver.RequestPool", object{"AddressSpace": "socketplane", "Pool": "10.199.0.0/24"}); err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for i, h := range w.Hosts {
		g.Go(func() error { create(h, i); return nil })
	}
	waitUntil(ctx, t, time.Now().Add(700*time.Millisecond))
	if err := w.crashAll(crash); err != nil {
		t.Fatal(err)
	}
	_ = g.Wait()
	for i, h := range w.Hosts {
		create(h, i)
	}
	w.have(ctx, t, time.Minute, w.Hosts, names...)
	for i, h := range w.Hosts {
		g.Go(func() error {
			for k := i; k < n; k += 3 {
				_, _ = h.Docker(ctx, "network", "rm", names[k])
			}
			return nil
		})
	}
	waitUntil(ctx, t, time.Now().Add(500*time.Millisecond))
	if err := w.crashAll(crash); err != nil {
		t.Fatal(err)
	}
	_ = g.Wait()
	eventually(ctx, t, time.Minute, func(ctx context.Context) error {
		for _, name := range names {
			if _, err := w.Hosts[0].SocketPlane(ctx, "network", "rm", name); err != nil && !strings.Contains(err.Error(), "no network") {
				return err
			}
		}
		return nil
	})
	w.only(ctx, t, 2*time.Minute) // what Docker asked for and forgot is given back after 40 s
}

func (w *once) crashAll(crash func(int) error) error {
	var g errgroup.Group
	for i := range w.Hosts {
		g.Go(func() error { return crash(i) })
	}
	return g.Wait()
}

// fifty creates 50 networks on three hosts at once and removes them, each on another host than it was created on.
func (w *once) fifty(ctx context.Context, t *testing.T) {
	const n = 50
	rounds := 2
	if os.Getenv("SOCKETPLANE_TEST_LONG") != "" {
		rounds = 10
	}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("n%02d", i))
	}
	onAll := func(shift int, do func(h *lab.Host, name string) error) error {
		var g errgroup.Group
		for k, h := range w.Hosts {
			g.Go(func() error {
				for i := k; i < n; i += len(w.Hosts) {
					if err := do(h, names[(i+shift)%n]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return g.Wait()
	}
	for round := range rounds {
		began := time.Now()
		err := onAll(0, func(h *lab.Host, name string) error {
			_, err := h.Docker(ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", name)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		created := time.Since(began)
		w.have(ctx, t, time.Minute, w.Hosts, names...)
		settled := time.Since(began) - created
		began = time.Now()
		err = onAll(1, func(h *lab.Host, name string) error {
			_, err := h.Docker(ctx, "network", "rm", name)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		removed := time.Since(began)
		w.only(ctx, t, time.Minute)
		t.Logf("round %d: created in %v, everywhere %v later; removed in %v, nothing left %v later", round, created.Round(time.Millisecond),
			settled.Round(time.Millisecond), removed.Round(time.Millisecond), (time.Since(began) - removed).Round(time.Millisecond))
	}
}
