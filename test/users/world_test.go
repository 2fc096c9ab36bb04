package users

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// patience bounds the wait for whatever has no limit of its own. It is long, as several hosts share few cores.
const patience = 60 * time.Second

// world is a lab of fresh hosts, which belongs to one test.
type world struct {
	*lab.Lab
	t      *testing.T
	engine lab.Engine
}

// fresh starts a lab of three fresh hosts with a Consul server, and agents that follow the cluster's networks; change, which
// may be nil, changes the lab's options. The lab is closed when the test ends.
func fresh(ctx context.Context, t *testing.T, change func(*lab.Options)) *world {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "dockerd", "docker", "ip", "nsenter", "busybox", "ping", "consul")
	opts := lab.Options{
		Hosts: 3, Consul: true, AgentFlags: []string{"--mirror=true"}, Log: t.Logf,
		Engine: lab.Engine(os.Getenv("SOCKETPLANE_E2E_ENGINE")), Tunnel: lab.Tunnel(os.Getenv("SOCKETPLANE_E2E_TUNNEL")),
	}
	if change != nil {
		change(&opts)
	}
	l, err := lab.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Lab: l, t: t, engine: opts.Engine}
	t.Cleanup(func() {
		w.report()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// startAgents starts the agents of a lab that began without them, and waits until networks work.
func (w *world) startAgents(ctx context.Context, flags ...string) {
	w.t.Helper()
	w.each(func(h *lab.Host) error {
		if err := h.StartAgent(ctx, flags...); err != nil {
			return err
		}
		return h.WaitReady(ctx)
	})
}

// each does something on all hosts at once.
func (w *world) each(do func(*lab.Host) error) {
	w.t.Helper()
	var group errgroup.Group
	for _, h := range w.Hosts {
		group.Go(func() error { return do(h) })
	}
	if err := group.Wait(); err != nil {
		w.t.Fatal(err)
	}
}

// report shows the ends of the agents' logs if the test has failed.
func (w *world) report() {
	if !w.t.Failed() {
		return
	}
	for _, h := range w.Hosts {
		var lines []string
		for line := range strings.Lines(h.LogTail("agent", 400)) {
			if !strings.Contains(line, "level=DEBUG") {
				lines = append(lines, line)
			}
		}
		w.t.Logf("the agent of %s:\n%s", h.Name, strings.Join(lines[max(0, len(lines)-20):], ""))
	}
}

// limit is a context for a test. The duration is a quiet machine's.
func limit(t *testing.T, quiet time.Duration) context.Context {
	t.Helper()
	const busy = 2
	ctx, cancel := context.WithTimeout(t.Context(), busy*quiet)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until check returns nil, and fails the test with its last error.
func eventually(ctx context.Context, t *testing.T, within time.Duration, check func(context.Context) error) {
	t.Helper()
	if err := testenv.Await(ctx, within, 50*time.Millisecond, check); err != nil {
		t.Fatal(err)
	}
}

// docker runs a docker command that must succeed on a host.
func (w *world) docker(ctx context.Context, h *lab.Host, args ...string) string {
	w.t.Helper()
	out, err := h.Docker(ctx, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// refused runs a docker command that must fail on a host, with all the words in its error.
func (w *world) refused(ctx context.Context, h *lab.Host, words []string, args ...string) {
	w.t.Helper()
	out, err := h.Docker(ctx, args...)
	if err == nil {
		w.t.Fatalf("%s: docker %s was not refused: %s", h.Name, strings.Join(args, " "), out)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			w.t.Errorf("%s: the error does not say %q: %v", h.Name, word, err)
		}
	}
}

// subnets are the subnets of a Docker network of a host.
func subnets(ctx context.Context, h *lab.Host, network string) ([]string, error) {
	out, err := h.Docker(ctx, "network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", network)
	return strings.Fields(out), err
}

// arrives waits until all hosts have a network with the same subnets, and returns them.
func (w *world) arrives(ctx context.Context, network string) []string {
	w.t.Helper()
	var first []string
	eventually(ctx, w.t, patience, func(ctx context.Context) error {
		for i, h := range w.Hosts {
			here, err := subnets(ctx, h, network)
			if err != nil {
				return err
			}
			if i == 0 {
				first = here
			} else if fmt.Sprint(here) != fmt.Sprint(first) {
				return fmt.Errorf("%s has %s with %v, %s with %v", h.Name, network, here, w.Hosts[0].Name, first)
			}
		}
		return nil
	})
	return first
}

// container is a running container.
type container struct {
	h    *lab.Host
	name string
	pid  int // in the host's PID namespace
	// addr and addr6 are those on the network that it was started on; one of them may be invalid.
	addr, addr6 netip.Addr
}

// run starts a container that waits for ever, with docker run's arguments.
func (w *world) run(ctx context.Context, h *lab.Host, name string, args ...string) *container {
	w.t.Helper()
	c, err := run(ctx, h, name, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func run(ctx context.Context, h *lab.Host, name string, args ...string) (*container, error) {
	argv := append(append([]string{"run", "-d", "--name", name}, args...), lab.ImageName)
	if _, err := h.Docker(ctx, argv...); err != nil {
		return nil, err
	}
	return running(ctx, h, name)
}

// running is a container that runs already.
func running(ctx context.Context, h *lab.Host, name string) (*container, error) {
	out, err := h.Docker(ctx, "inspect", "-f", "{{.State.Pid}} {{json .NetworkSettings.Networks}}", name)
	if err != nil {
		return nil, err
	}
	pid, text, _ := strings.Cut(out, " ")
	var nets map[string]struct{ IPAddress, GlobalIPv6Address string }
	if err := json.Unmarshal([]byte(text), &nets); err != nil {
		return nil, fmt.Errorf("docker inspect %s: %w: %s", name, err, out)
	}
	c := &container{h: h, name: name}
	if c.pid, err = strconv.Atoi(pid); err != nil || c.pid == 0 {
		return nil, fmt.Errorf("container %s does not run: %s", name, out)
	}
	for _, n := range nets {
		c.addr, _ = netip.ParseAddr(n.IPAddress)
		c.addr6, _ = netip.ParseAddr(n.GlobalIPv6Address)
	}
	return c, nil
}

// runOnEach starts a container of the same name on a network on every host, at once.
func (w *world) runOnEach(ctx context.Context, network, name string) []*container {
	w.t.Helper()
	all := make([]*container, len(w.Hosts))
	var group errgroup.Group
	for i, h := range w.Hosts {
		group.Go(func() (err error) {
			all[i], err = run(ctx, h, name, "--network", network)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// exec runs a program of the image in the container's namespaces, without Docker.
func (c *container) exec(ctx context.Context, argv ...string) (string, error) {
	enter := []string{"nsenter", "--target", strconv.Itoa(c.pid), "--mount", "--net", "--uts"}
	out, err := c.h.Exec(ctx, append(enter, argv...)...)
	if err != nil {
		return out, fmt.Errorf("%s on %s: %w", c.name, c.h.Name, err)
	}
	return out, nil
}

// reaches waits until a ping is answered: other hosts learn of a container a moment after it started.
func (c *container) reaches(ctx context.Context, t *testing.T, to netip.Addr) {
	t.Helper()
	eventually(ctx, t, patience, func(ctx context.Context) error {
		_, err := c.exec(ctx, "ping", "-n", "-c", "1", "-W", "1", to.String())
		return err
	})
}

// talk demands that all containers reach each other.
func (w *world) talk(ctx context.Context, all []*container) {
	w.t.Helper()
	for _, from := range all {
		for _, to := range all {
			if from == to {
				continue
			}
			for _, addr := range []netip.Addr{to.addr, to.addr6} {
				if addr.IsValid() {
					from.reaches(ctx, w.t, addr)
				}
			}
		}
	}
}
