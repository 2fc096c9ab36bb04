package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/proxy"
	"github.com/socketplane/socketplane/test/lab"
)

// world is the lab with what is known of it.
type world struct {
	*lab.Lab
	t     *testing.T
	front front
	// struck is the server of Consul that a fault has struck.
	struck *lab.Consul
	// empty is the lab's dump before the first container.
	empty string
	// addrs are those that containers have, as far as users know.
	addrs  ledger
	tunnel lab.Tunnel
	// last is what was last found wrong after a fault.
	last error
	// worst is the longest time that the lab took to settle.
	worst time.Duration
}

// steadyContainers are there on each host all the time. Two of them are on one network: they need no tunnel.
var steadyContainers = map[string]string{"red-a": "red", "red-b": "red", "blue-a": "blue"}

const proxyPort = ":8501"

// start starts the lab: agents reach Consul through the proxy, and have their state on a disk of their own.
func start(ctx context.Context, t *testing.T) *world {
	t.Helper()
	tunnel := lab.Tunnel(os.Getenv("SOCKETPLANE_E2E_TUNNEL"))
	l, err := lab.Start(ctx, lab.Options{
		Hosts: hosts, Consul: true, Servers: servers, NoAgent: true, Log: t.Logf, Engine: lab.Engine(os.Getenv("SOCKETPLANE_E2E_ENGINE")), Tunnel: tunnel,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{Lab: l, t: t, tunnel: tunnel}
	w.addrs.holders = map[string]string{}
	host, _, _ := strings.Cut(l.Consul.Addr, ":")
	listener, err := proxy.ListenIn("/run/netns/"+filepath.Base(l.Dir())+"-und", host+proxyPort)
	if err != nil {
		t.Fatal(err)
	}
	w.front.Proxy = proxy.New(t, listener, w.dialConsul, lateBy)
	err = w.each(func(h *lab.Host) error {
		if _, err := h.Exec(ctx, "mount", "-t", "tmpfs", "-o", "mode=0700,size="+diskSize, "tmpfs", stateDir); err != nil {
			return err
		}
		return w.startAgent(ctx, h)
	})
	if err == nil {
		err = w.furnish(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// startAgent starts an agent that follows the cluster's networks, as agents do by default.
func (w *world) startAgent(ctx context.Context, h *lab.Host) error {
	host, _, _ := strings.Cut(w.Consul.Addr, ":")
	return errors.Join(h.StartAgent(ctx, "--consul-addr", host+proxyPort, "--mirror=true", "--default-network", "none",
		"--garbage-grace", grace.String(), "--metrics-addr", metricsAddr), h.WaitReady(ctx))
}

// furnish makes the networks and containers that are there all the time.
func (w *world) furnish(ctx context.Context) error {
	if err := w.waitFor(ctx, quietLimit, func(ctx context.Context) error {
		before := w.view(ctx)
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
		w.empty = w.view(ctx)
		if different := lab.Compare(before, w.empty); different != "" {
			return fmt.Errorf("the empty lab does not come to rest:\n%s", different)
		}
		return nil
	}); err != nil {
		return err
	}
	return w.createSteady(ctx)
}

func (w *world) createSteady(ctx context.Context) error {
	for i, name := range steady {
		_, err := w.Hosts[i].Docker(ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane",
			"--subnet", fmt.Sprintf("10.%d.0.0/24", 61+i), name)
		if err != nil {
			return err
		}
	}
	return w.each(func(h *lab.Host) error {
		for container, network := range steadyContainers {
			err := w.waitFor(ctx, time.Minute, func(ctx context.Context) error {
				_, err := h.Docker(ctx, "network", "inspect", network)
				return err
			})
			if err == nil {
				_, err = h.Docker(ctx, "run", "-d", "--restart", "always", "--name", container, "--network", network, lab.ImageName)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// removeAll removes every container and every network of ours from all hosts.
func (w *world) removeAll(ctx context.Context) error {
	err := w.each(func(h *lab.Host) error {
		ids, err := h.Docker(ctx, "ps", "-aq")
		if fields := strings.Fields(ids); err == nil && len(fields) > 0 {
			_, err = h.Docker(ctx, append([]string{"rm", "-f"}, fields...)...)
		}
		return err
	})
	if err != nil {
		return err
	}
	// A network that is removed where it was made goes from the other hosts by itself, unless one is late.
	return w.waitFor(ctx, quietLimit, func(ctx context.Context) error {
		return w.each(func(h *lab.Host) error {
			names, err := h.Docker(ctx, "network", "ls", "--filter", "driver=socketplane", "--format", "{{.Name}}")
			for _, name := range strings.Fields(names) {
				_, gone := h.Docker(ctx, "network", "rm", name)
				err = errors.Join(err, gone, fmt.Errorf("%s has %s", h.Name, name))
			}
			return err
		})
	})
}

// view is the lab's dump and Docker's containers, without what differs by chance.
func (w *world) view(ctx context.Context) string {
	var b strings.Builder
	b.WriteString(lab.Lasting(w.Dump(ctx)))
	for _, h := range w.Hosts {
		fmt.Fprintf(&b, "== %s: docker containers\n", h.Name)
		out, err := h.Docker(ctx, "ps", "-a", "--format", "{{.Names}}")
		names := strings.Fields(out)
		slices.Sort(names)
		fmt.Fprintf(&b, "%s\n", strings.Join(names, "\n"))
		if err != nil {
			fmt.Fprintf(&b, "! %v\n", err)
		}
	}
	return b.String()
}

// each does something on all hosts at once.
func (w *world) each(f func(*lab.Host) error) error {
	errs := make([]error, len(w.Hosts))
	var g errgroup.Group
	for i, h := range w.Hosts {
		g.Go(func() error { errs[i] = f(h); return nil })
	}
	_ = g.Wait()
	return errors.Join(errs...)
}

// waitFor polls until check returns nil, and returns its last error after the limit.
func (w *world) waitFor(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	return testenv.Await(ctx, limit, 100*time.Millisecond, check)
}

// pause lets a time pass that a fault prescribes.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
