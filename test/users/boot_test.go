package users

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// dockerBoots is how long Docker's boot may take with an agent that can't start: it waits 15 s for each network whose plugin does not answer.
const dockerBoots = 14 * time.Second

// TestCoreBootWithoutAddress covers weave#2222, weave#3009, moby#33871 and moby#47289: a host boots without an address. Docker boots at once all the same,
// calls for our networks are refused with the cause, and when the address comes the agent works without a restart, and containers with a restart
// policy run, which Docker starts only at its boot.
func TestCoreBootWithoutAddress(t *testing.T) {
	ctx := limit(t, 4*time.Minute)
	w := fresh(ctx, t, func(o *lab.Options) { o.Hosts = 2; o.Tunnel = lab.TunnelKernel })
	w.each(func(h *lab.Host) error { return h.WaitReady(ctx) })
	h, other := w.Hosts[0], w.Hosts[1]
	// Docker chooses the addresses of the one, SocketPlane those of the other: different calls are refused first.
	w.docker(ctx, h, "network", "create", "-d", "socketplane", "--subnet", "10.74.0.0/24", "docks")
	w.docker(ctx, h, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", "10.75.0.0/24", "ours")
	for _, network := range []string{"docks", "ours"} {
		w.arrives(ctx, network)
		w.run(ctx, h, "always-"+network, "--network", network, "--restart", "always")
		w.run(ctx, h, "never-"+network, "--network", network)
		far := w.run(ctx, other, "far-"+network, "--network", network)
		found(ctx, t, h, "always-"+network).reaches(ctx, t, far.addr)
	}
	w.run(ctx, h, "fixed", "--network", "ours", "--ip", "10.75.0.77", "--restart", "unless-stopped")
	w.run(ctx, h, "stopped", "--network", "ours", "--restart", "unless-stopped")
	w.docker(ctx, h, "stop", "-t", "0", "stopped")

	var began time.Time
	err := h.Reboot(ctx, func(ctx context.Context) error {
		if _, err := h.Exec(ctx, "ip", "address", "flush", "dev", "eth0"); err != nil {
			return err
		}
		began = time.Now()
		return h.StartAgent(ctx)
	})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > dockerBoots {
		t.Errorf("Docker's boot took %v", took)
	} else {
		t.Logf("Docker's boot took %v", took.Round(time.Millisecond))
	}
	for _, name := range []string{"always-docks", "always-ours", "fixed"} {
		if said := w.docker(ctx, h, "inspect", "-f", "{{.State.Running}} {{.State.Error}}", name); !strings.HasPrefix(said, "false") ||
			!strings.Contains(said, "--advertise") {
			t.Errorf("%s: Docker says %q", name, said)
		}
	}
	w.refused(ctx, h, []string{"not ready", h.Addr.String(), "--advertise"}, "run", "-d", "--name", "new", "--network", "ours", "--restart", "always", lab.ImageName)
	for _, command := range []string{"info", "doctor"} {
		out, err := h.SocketPlane(ctx, command)
		if said := strings.Join(strings.Fields(fmt.Sprint(out, err)), " "); !strings.Contains(said, "--advertise") || !strings.Contains(said, h.Addr.String()) {
			t.Errorf("socketplane %s: %s", command, said)
		}
	}

	if _, err := h.Exec(ctx, "ip", "address", "add", h.Addr.String()+"/16", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	came := time.Now()
	eventually(ctx, t, patience, func(ctx context.Context) error {
		for _, name := range []string{"always-docks", "always-ours", "fixed"} {
			if out, err := h.Docker(ctx, "inspect", "-f", "{{.State.Running}}", name); err != nil || strings.TrimSpace(out) != "true" {
				return fmt.Errorf("%s runs: %s, %v", name, out, err)
			}
		}
		return nil
	})
	t.Logf("containers ran %v after the address", time.Since(came).Round(time.Millisecond))
	for _, network := range []string{"docks", "ours"} {
		found(ctx, t, h, "always-"+network).reaches(ctx, t, found(ctx, t, other, "far-"+network).addr)
	}
	if c := found(ctx, t, h, "fixed"); c.addr.String() != "10.75.0.77" {
		t.Errorf("the container with a fixed address has %v", c.addr)
	}
	// What Docker was not to start, or a user was told about, is left as it is.
	for _, name := range []string{"never-docks", "never-ours", "stopped", "new"} {
		if out := w.docker(ctx, h, "inspect", "-f", "{{.State.Running}}", name); out != "false" {
			t.Errorf("%s runs", name)
		}
	}
	w.docker(ctx, h, "run", "--rm", "--network", "ours", lab.ImageName, "true")
	// Where Docker chooses addresses no container starts without the store. Docker tries once, and the agent when the store is back.
	w.Consul.Stop()
	w.refused(ctx, h, []string{"store unavailable"}, "restart", "-t", "0", "always-docks")
	if err := w.Consul.Start(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, patience, func(ctx context.Context) error {
		out, err := h.Docker(ctx, "inspect", "-f", "{{.State.Running}} {{.State.Error}}", "always-docks")
		if err == nil && !strings.HasPrefix(out, "true") {
			err = fmt.Errorf("always-docks runs: %s", out)
		}
		return err
	})
}

// found is a running container as it is now.
func found(ctx context.Context, t *testing.T, h *lab.Host, name string) *container {
	t.Helper()
	c, err := running(ctx, h, name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
