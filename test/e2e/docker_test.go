package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

// segment is a Docker network of the same name on several hosts, with what tests put on it.
type segment struct {
	w     *world
	name  string
	hosts []*lab.Host
}

// network creates a network on all hosts for one test.
func (w *world) network(ctx context.Context, t *testing.T, name string, args ...string) *segment {
	t.Helper()
	s := &segment{w: w, name: name, hosts: w.Hosts}
	cleanup(t, s.remove)
	if err := s.create(ctx, args...); err != nil {
		t.Fatal(err)
	}
	return s
}

// create creates the network with our IPAM, unless args name another.
func (s *segment) create(ctx context.Context, args ...string) error {
	if !slices.Contains(args, "--ipam-driver") {
		args = append([]string{"--ipam-driver", "socketplane"}, args...)
	}
	args = append(append([]string{"network", "create", "-d", "socketplane"}, args...), s.name)
	return s.w.each(func(h *lab.Host) error {
		_, err := h.Docker(ctx, args...)
		if err != nil && strings.Contains(err.Error(), "already exists") {
			// Another host's network of this name may have come here by itself.
			if driver, look := h.Docker(ctx, "network", "inspect", "-f", "{{.Driver}}", s.name); look == nil && strings.TrimSpace(driver) == "socketplane" {
				return nil
			}
		}
		return err
	})
}

// remove removes the network with all of its containers from all hosts; what is gone already is no error.
func (s *segment) remove(ctx context.Context) error {
	return s.w.each(func(h *lab.Host) error {
		ids, err := h.Docker(ctx, "ps", "-aq", "--filter", "network="+s.name)
		if err != nil {
			return err
		}
		if fields := strings.Fields(ids); len(fields) > 0 {
			if _, err := h.Docker(ctx, append([]string{"rm", "-f"}, fields...)...); err != nil {
				return err
			}
		}
		if _, err := h.Docker(ctx, "network", "rm", s.name); err != nil && !strings.Contains(strings.ToLower(err.Error()), "not found") &&
			!strings.Contains(err.Error(), "No such network") {
			return err
		}
		return nil
	})
}

// container is a running container.
type container struct {
	h    *lab.Host
	name string
	pid  int // in the host's PID namespace
	// addr, addr6 and mac are those on the network it was started on; addr6 may be invalid.
	addr, addr6 netip.Addr
	mac         string
}

// run starts a container that waits for ever.
func (w *world) run(ctx context.Context, h *lab.Host, name string, args ...string) (*container, error) {
	argv := append(append([]string{"run", "-d", "--name", name}, args...), lab.ImageName)
	if _, err := h.Docker(ctx, argv...); err != nil {
		return nil, err
	}
	return inspect(ctx, h, name)
}

// mustRun is run for one test, which removes the container.
func (w *world) mustRun(ctx context.Context, t *testing.T, h *lab.Host, name string, args ...string) *container {
	t.Helper()
	cleanup(t, func(ctx context.Context) error { return remove(ctx, h, name) })
	c, err := w.run(ctx, h, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// remove removes a container that may be gone.
func remove(ctx context.Context, h *lab.Host, name string) error {
	if _, err := h.Docker(ctx, "rm", "-f", name); err != nil && !strings.Contains(err.Error(), "No such container") {
		return err
	}
	return nil
}

// runOnEach starts a container of the given name on every host of a network, for one test.
func (s *segment) runOnEach(ctx context.Context, t *testing.T, name string, args func(i int) []string) []*container {
	t.Helper()
	all := make([]*container, len(s.hosts))
	var g errgroup.Group
	for i, h := range s.hosts {
		g.Go(func() (err error) {
			argv := []string{"--network", s.name}
			if args != nil {
				argv = append(argv, args(i)...)
			}
			all[i], err = s.w.run(ctx, h, name, argv...)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

// attachment is what docker inspect says of a container on a network.
type attachment struct {
	IPAddress, GlobalIPv6Address, MacAddress string
}

func inspect(ctx context.Context, h *lab.Host, name string) (*container, error) {
	out, err := h.Docker(ctx, "inspect", "-f", "{{.State.Pid}} {{json .NetworkSettings.Networks}}", name)
	if err != nil {
		return nil, err
	}
	pid, text, _ := strings.Cut(out, " ")
	var nets map[string]attachment
	if err := json.Unmarshal([]byte(text), &nets); err != nil {
		return nil, fmt.Errorf("docker inspect %s: %w: %s", name, err, out)
	}
	c := &container{h: h, name: name}
	if c.pid, err = strconv.Atoi(pid); err != nil || c.pid == 0 {
		return nil, fmt.Errorf("container %s does not run: %s", name, out)
	}
	for _, n := range nets {
		c.mac = n.MacAddress
		c.addr, _ = netip.ParseAddr(n.IPAddress)
		c.addr6, _ = netip.ParseAddr(n.GlobalIPv6Address)
	}
	return c, nil
}

// on is the container as it is on one of its networks.
func (c *container) on(ctx context.Context, network string) (attachment, error) {
	var nets map[string]attachment
	out, err := c.h.Docker(ctx, "inspect", "-f", "{{json .NetworkSettings.Networks}}", c.name)
	if err == nil {
		err = json.Unmarshal([]byte(out), &nets)
	}
	a, ok := nets[network]
	if err == nil && !ok {
		err = fmt.Errorf("container %s is not on %s", c.name, network)
	}
	return a, err
}

// exec runs a program of the image in the container's namespaces. It does not go through Docker, which takes
// many times as long.
func (c *container) exec(ctx context.Context, argv ...string) (string, error) {
	out, err := c.h.Exec(ctx, append(c.enter(), argv...)...)
	if err != nil {
		return out, fmt.Errorf("%s: %w", c.name, err)
	}
	return out, nil
}

func (c *container) enter() []string {
	return []string{"nsenter", "--target", strconv.Itoa(c.pid), "--mount", "--net", "--uts"}
}

// must runs a program that must succeed.
func (c *container) must(ctx context.Context, t *testing.T, argv ...string) string {
	t.Helper()
	out, err := c.exec(ctx, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// reaches says whether one ping is answered.
func (c *container) reaches(ctx context.Context, to netip.Addr) error {
	_, err := c.exec(ctx, "ping", "-n", "-c", "1", "-W", "1", to.String())
	return err
}

// reachable waits until one ping is answered, as other hosts learn of a container a moment after it started.
func (c *container) reachable(ctx context.Context, t *testing.T, to ...netip.Addr) {
	t.Helper()
	for _, addr := range to {
		eventually(ctx, t, patience, func(ctx context.Context) error { return c.reaches(ctx, addr) })
	}
}

// members are the containers of the network "web", one on each host, which tests share and don't change.
func (w *world) members(ctx context.Context, t *testing.T) []*container {
	t.Helper()
	w.once.Do(func() {
		w.web = &segment{w: w, name: "web", hosts: w.Hosts}
		w.webErr = w.web.create(ctx, "--subnet", "10.60.0.0/24", "--ipv6", "--subnet", "fd60::/64")
		if w.webErr == nil {
			w.webErr = w.each(func(h *lab.Host) error { _, err := w.run(ctx, h, "web", "--network", "web"); return err })
		}
	})
	if w.webErr != nil {
		t.Fatalf("the shared network: %v", w.webErr)
	}
	all := make([]*container, len(w.Hosts))
	for i, h := range w.Hosts {
		c, err := inspect(ctx, h, "web")
		if err != nil {
			t.Fatal(err)
		}
		all[i] = c
	}
	for _, c := range all[1:] {
		all[0].reachable(ctx, t, c.addr, c.addr6)
		c.reachable(ctx, t, all[0].addr)
	}
	return all
}
