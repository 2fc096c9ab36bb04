package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/fences"
	"github.com/socketplane/socketplane/test/lab"
)

// patience bounds whatever has no limit of its own: hosts share few cores.
const patience = 90 * time.Second

// world is a lab whose hosts have the managed plugin.
type world struct {
	*lab.Lab
	dir string
}

// prepare makes a lab, and the plugin to be installed on its hosts, with Consul's program if it is given.
func prepare(ctx context.Context, t *testing.T, opts lab.Options, consul ...string) *world {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "dockerd", "docker", "ip", "nsenter", "busybox", "iperf3", "ping", "consul")
	w := &world{dir: t.TempDir() + "/plugin"}
	if err := lab.BuildPlugin(ctx, w.dir, consul...); err != nil {
		t.Fatal(err)
	}
	opts.Consul, opts.NoAgent, opts.Log = true, true, t.Logf
	opts.Engine = lab.Engine(os.Getenv("SOCKETPLANE_E2E_ENGINE"))
	var err error
	if opts.Agent, err = lab.BuildAgent(ctx); err != nil {
		t.Fatal(err)
	}
	if w.Lab, err = lab.Start(ctx, opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range w.Hosts {
				t.Logf("Docker's log on %s:\n%s", h.Name, h.LogTail("dockerd", 40))
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// start makes a lab of two hosts, unless opts say more, with the plugin enabled. The settings are for docker plugin set.
func start(ctx context.Context, t *testing.T, opts lab.Options, settings ...string) *world {
	t.Helper()
	opts.Hosts = max(opts.Hosts, 2)
	w := prepare(ctx, t, opts)
	w.each(t, func(h *lab.Host) error {
		if err := h.CreatePlugin(ctx, w.dir); err != nil {
			return err
		}
		for _, s := range settings {
			if _, err := h.Docker(ctx, "plugin", "set", lab.PluginName, s); err != nil {
				return err
			}
		}
		began := time.Now()
		if err := h.EnablePlugin(ctx); err != nil {
			return err
		}
		t.Logf("docker plugin enable on %s: %v", h.Name, time.Since(began).Round(time.Millisecond))
		return h.WaitPluginReady(ctx)
	})
	return w
}

func (w *world) each(t *testing.T, f func(*lab.Host) error) {
	t.Helper()
	var g errgroup.Group
	for _, h := range w.Hosts {
		g.Go(func() error { return f(h) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// docker runs a command that must succeed.
func docker(ctx context.Context, t *testing.T, h *lab.Host, args ...string) string {
	t.Helper()
	out, err := h.Docker(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// documented runs a document's docker commands, with something in them replaced.
func (w *world) documented(ctx context.Context, t *testing.T, h *lab.Host, document, where string, replace ...string) {
	t.Helper()
	commands, err := fences.Commands(document, where)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range commands {
		words := strings.Fields(strings.NewReplacer(replace...).Replace(line))
		if words[0] != "docker" {
			t.Fatalf("%s: %s is no docker command", document, line)
		}
		docker(ctx, t, h, words[1:]...)
	}
}

// pings demands that a container gets an answer from an address in the end.
func pings(ctx context.Context, t *testing.T, h *lab.Host, container, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error
	if err := testenv.Poll(ctx, 100*time.Millisecond, func() bool {
		if _, err := h.Docker(ctx, "exec", container, "ping", "-n", "-c", "1", "-W", "2", addr); ctx.Err() == nil {
			last = err
		}
		return last == nil
	}); err != nil {
		t.Fatalf("%s on %s does not reach %s: %v", container, h.Name, addr, last)
	}
}

// address is a container's on the network web, once it runs.
func address(ctx context.Context, t *testing.T, h *lab.Host, container string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var addr string
	if err := testenv.Poll(ctx, 100*time.Millisecond, func() bool {
		out, err := h.Docker(ctx, "inspect", "-f", "{{.State.Running}} {{with index .NetworkSettings.Networks \"web\"}}{{.IPAddress}}{{end}}", container)
		running, rest, _ := strings.Cut(strings.TrimSpace(out), " ")
		addr = rest
		return err == nil && running == "true" && addr != ""
	}); err != nil {
		t.Fatalf("%s on %s does not come back: %v", container, h.Name, err)
	}
	return addr
}

// web makes a network of the plain name, with a container on each host that comes back by itself.
func (w *world) web(ctx context.Context, t *testing.T) {
	t.Helper()
	w.each(t, func(h *lab.Host) error {
		if _, err := h.Docker(ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", "10.61.0.0/24", "web"); err != nil {
			return err
		}
		_, err := h.Docker(ctx, "run", "-d", "--restart", "always", "--name", "web", "--network", "web", lab.ImageName)
		return err
	})
}

// talk demands that all containers reach each other.
func (w *world) talk(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, to := range w.Hosts {
		addr := address(ctx, t, to, "web")
		for _, from := range w.Hosts {
			if from != to {
				pings(ctx, t, from, "web", addr)
			}
		}
	}
}

// gone removes everything, and demands that the plugin leaves nothing on the host.
func (w *world) gone(ctx context.Context, t *testing.T) {
	t.Helper()
	w.each(t, func(h *lab.Host) error {
		for _, args := range [][]string{{"rm", "-f", "web"}, {"network", "rm", "web"}, {"plugin", "disable", lab.PluginName}, {"plugin", "rm", lab.PluginName}} {
			if _, err := h.Docker(ctx, args...); err != nil {
				return err
			}
		}
		for _, socket := range []string{lab.PluginSocket, lab.AdminSocket} {
			if _, err := h.Exec(ctx, "test", "!", "-e", socket); err != nil {
				return fmt.Errorf("%s is left on %s", socket, h.Name)
			}
		}
		links, err := h.Exec(ctx, "ip", "-o", "link", "show")
		if err != nil {
			return err
		}
		for line := range strings.Lines(links) {
			if strings.Contains(line, " socketplane0:") || strings.Contains(line, " spe") || strings.Contains(line, " spx") {
				return fmt.Errorf("a link is left on %s: %s", h.Name, line)
			}
		}
		left, err := filepath.Glob(filepath.Join(h.Dir, "var/lib/docker/plugins", strings.Repeat("[0-9a-f]", 64)))
		if err != nil || len(left) > 0 {
			return errors.Join(fmt.Errorf("state is left on %s: %v", h.Name, left), err)
		}
		return nil
	})
}

// waited says whether dockerd has had to ask again for a plugin that was not there, which takes it 15 s each time.
func waited(h *lab.Host) string {
	for line := range strings.Lines(h.LogTail("dockerd", 1<<20)) {
		if strings.Contains(line, "retrying in") && strings.Contains(line, "plugin") {
			return line
		}
	}
	return ""
}

// TestWithoutOpenVSwitch: on hosts that have none, the plugin works by itself; its state outlives disable, and the engine's restart and
// crash, after which containers come back.
func TestWithoutOpenVSwitch(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	w := start(ctx, t, lab.Options{NoOVS: true})
	w.web(ctx, t)
	w.talk(ctx, t)
	h := w.Hosts[0]
	steps := []struct {
		name string
		do   func() error
	}{
		{"disabled_and_enabled", func() error {
			docker(ctx, t, h, "plugin", "disable", "-f", lab.PluginName)
			return h.EnablePlugin(ctx)
		}},
		{"engine_restarted", func() error { return h.RestartDocker(ctx) }},
		{"engine_killed", func() error { h.KillDocker(); return h.StartDocker(ctx) }},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			began := time.Now()
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			t.Logf("took %v", time.Since(began).Round(time.Millisecond))
			if line := waited(h); line != "" {
				t.Errorf("Docker waited for the plugin: %s", line)
			}
			w.talk(ctx, t)
		})
	}
	w.gone(ctx, t)
}

// TestWithHostsOpenVSwitch: the host's is used, and a bridge of somebody else's is left alone.
func TestWithHostsOpenVSwitch(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	w := start(ctx, t, lab.Options{})
	bridge := func(h *lab.Host) string {
		out, err := h.Exec(ctx, "ovs-vsctl", "--timeout=10", "--columns=name,ports,fail_mode,external_ids,other_config", "list", "Bridge", "foreign")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	h := w.Hosts[0]
	if _, err := h.Exec(ctx, "ovs-vsctl", "--timeout=30", "add-br", "foreign", "--", "set", "Bridge", "foreign", "datapath_type=netdev"); err != nil {
		t.Fatal(err)
	}
	before := bridge(h)
	w.web(ctx, t)
	w.talk(ctx, t)
	if out, err := h.Exec(ctx, "ovs-vsctl", "--timeout=10", "list-ports", "socketplane0"); err != nil || strings.TrimSpace(out) == "" {
		t.Errorf("the host's Open vSwitch has no ports of ours: %q, %v", out, err)
	}
	docker(ctx, t, h, "plugin", "disable", "-f", lab.PluginName)
	if _, err := h.Docker(ctx, "exec", "web", "ping", "-n", "-c", "3", "-W", "2", address(ctx, t, w.Hosts[1], "web")); err != nil {
		t.Errorf("with the plugin disabled containers don't talk: %v", err)
	}
	if err := h.EnablePlugin(ctx); err != nil {
		t.Fatal(err)
	}
	w.talk(ctx, t)
	if after := bridge(h); after != before {
		t.Errorf("a foreign bridge was changed:\n%s\nwas:\n%s", after, before)
	}
	w.Consul.Stop() // what the cluster is not told must not keep anything here
	w.gone(ctx, t)
}

// TestDocumentedLife: the plugin's life as docs/install.md tells it.
func TestDocumentedLife(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	w := prepare(ctx, t, lab.Options{Hosts: 1, NoOVS: true})
	h := w.Hosts[0]
	if err := h.CreatePlugin(ctx, w.dir); err != nil {
		t.Fatal(err)
	}
	w.documented(ctx, t, h, "../../docs/install.md", "plugin", "192.0.2.10:8500", w.Consul.Addr)
	for _, socket := range []string{lab.PluginSocket, lab.AdminSocket} {
		if _, err := h.Exec(ctx, "test", "!", "-e", socket); err != nil {
			t.Errorf("%s is left", socket)
		}
	}
	if keys, err := w.Consul.Keys(ctx, "socketplane/v1/networks/"); err != nil || len(keys) > 0 {
		t.Errorf("the cluster still has networks: %v, %v", keys, err)
	}
}
