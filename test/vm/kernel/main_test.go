package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
	"github.com/socketplane/socketplane/test/vm"
)

// patience bounds a wait inside: under emulation all takes ten times as long.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if !vm.Inside() && !testenv.Strict() {
		fmt.Println("not run, as the VM takes minutes: use make e2e-kernel")
		os.Exit(0)
	}
	vm.Main(m, vm.Options{Timeout: 35 * time.Minute, Env: []string{"SOCKETPLANE_TEST_STRICT=1"}}, func(ctx context.Context, dir string, o *vm.Options) error {
		o.Env = append(o.Env, lab.BuiltVar+"="+dir)
		return lab.Build(ctx, dir)
	})
}

// world is the lab of the test.
type world struct {
	*lab.Lab
	t    *testing.T
	ctx  context.Context
	a, b *lab.Host
}

func newWorld(t *testing.T) *world {
	testenv.Root(t)
	testenv.Need(t, "modprobe", "ovs-vswitchd", "dockerd", "docker", "consul", "tcpdump")
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	t.Cleanup(cancel)
	if out, err := exec.CommandContext(ctx, "modprobe", "openvswitch").CombinedOutput(); err != nil {
		t.Fatalf("modprobe openvswitch: %v: %s", err, out)
	}
	l, err := lab.Start(ctx, lab.Options{Hosts: 2, Tunnel: lab.TunnelAuto, Consul: true, Patience: 4 * patience, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Lab: l, t: t, ctx: ctx, a: l.Hosts[0], b: l.Hosts[1]}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range l.Hosts {
				t.Logf("%s: the agent's log:\n%s", h.Name, h.LogTail("agent", 30))
				t.Logf("%s: the switch's log:\n%s", h.Name, h.LogTail("ovs-vswitchd", 15))
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) exec(t *testing.T, h *lab.Host, args ...string) string {
	t.Helper()
	out, err := h.Exec(w.ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// container is a running container with an address of each family.
type container struct {
	w            *world
	h            *lab.Host
	name, pid    string
	ip, ip6, mac string
}

func (w *world) start(h *lab.Host, name, network string) (*container, error) {
	_, err := h.Docker(w.ctx, "run", "-d", "--name", name, "--network", network, lab.ImageName)
	if err != nil {
		return nil, err
	}
	out, err := h.Docker(w.ctx, "inspect", "-f",
		"{{.State.Pid}}{{range .NetworkSettings.Networks}} {{.IPAddress}} {{.GlobalIPv6Address}} {{.MacAddress}}{{end}}", name)
	f := strings.Fields(out)
	if err != nil || len(f) != 4 {
		return nil, errors.Join(fmt.Errorf("container %s has %q", name, out), err)
	}
	return &container{w: w, h: h, name: name, pid: f[0], ip: f[1], ip6: f[2], mac: f[3]}, nil
}

// enter is the command that runs a program of the image in the container. Under emulation `docker exec` takes seconds.
func (c *container) enter(argv ...string) []string {
	return append([]string{"nsenter", "--target", c.pid, "--net", "--mount"}, argv...)
}

// try runs a program of the image in the container.
func (c *container) try(argv ...string) (string, error) {
	return c.h.Exec(c.w.ctx, c.enter(argv...)...)
}

func (c *container) run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := c.try(argv...)
	if err != nil {
		t.Fatalf("in container %s: %v\n%s", c.name, err, out)
	}
	return out
}
