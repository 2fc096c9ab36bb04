package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

func (w *once) wasAway(ctx context.Context, t *testing.T) {
	h1, h3 := w.Hosts[0], w.Hosts[2]
	for _, name := range []string{"stays", "goes", "kept"} {
		w.docker(ctx, t, h1, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", name)
	}
	w.have(ctx, t, 30*time.Second, w.Hosts, "stays", "goes", "kept")
	if err := h3.StopAgent(); err != nil {
		t.Fatal(err)
	}
	w.docker(ctx, t, h1, "network", "rm", "goes")
	w.finds(ctx, t, h1, "stale state", "warning", "network goes is removed, but 1 hosts still have it", "socketplane host rm")
	w.docker(ctx, t, h1, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "late")
	w.have(ctx, t, 30*time.Second, w.Hosts[:2], "stays", "kept", "late")
	w.have(ctx, t, 30*time.Second, w.Hosts[2:], "stays", "goes", "kept")
	if err := h3.StartAgent(ctx); err != nil {
		t.Fatal(err)
	}
	w.have(ctx, t, 30*time.Second, w.Hosts, "stays", "kept", "late")
	w.talk(ctx, t, "late", w.Hosts...)
	w.docker(ctx, t, h3, "run", "-d", "--name", "keeper", "--network", "kept", lab.ImageName)
	w.endpoints(ctx, t, "kept", 1)
	// The same for a host that is off as a whole.
	if err := h3.PowerOff(); err != nil {
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

func (w *once) restartAlways(ctx context.Context, t *testing.T) {
	w.docker(ctx, t, w.Hosts[0], "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "always")
	w.have(ctx, t, 30*time.Second, w.Hosts, "always")
	for _, h := range w.Hosts {
		w.docker(ctx, t, h, "run", "-d", "--restart", "always", "--name", "phoenix", "--network", "always", lab.ImageName)
	}
	for _, tt := range []struct {
		name  string
		start func(*lab.Host) error
	}{
		{"Docker before the agent", func(h *lab.Host) error {
			// Docker asks for its plugin for up to 15 s before it serves; the agent comes in that time. A managed one comes with Docker.
			var g errgroup.Group
			g.Go(func() error { return h.ReviveDocker(ctx) })
			g.Go(func() error {
				waitUntil(ctx, t, time.Now().Add(2*time.Second))
				return h.StartAgent(ctx)
			})
			return g.Wait()
		}},
		{"the agent before Docker", func(h *lab.Host) error {
			if asPlugin() {
				return errors.Join(h.ReviveDocker(ctx), h.StartAgent(ctx)) // the only order that there is
			}
			if err := h.StartAgent(ctx); err != nil {
				return err
			}
			return h.ReviveDocker(ctx)
		}},
		{"both at once", func(h *lab.Host) error {
			var g errgroup.Group
			g.Go(func() error { return h.ReviveDocker(ctx) })
			g.Go(func() error { return h.StartAgent(ctx) })
			return g.Wait()
		}},
	} {
		err := w.each(func(h *lab.Host) error {
			h.KillAgent() // a managed one is being started again when Docker dies
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
		w.have(ctx, t, 30*time.Second, w.Hosts, "always")
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
			g.Go(func() error { return h.ReviveDocker(ctx) })
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
		for k := i; k < n; k += 3 {
			eventually(ctx, t, patience, func(ctx context.Context) error {
				_, err := h.Docker(ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", names[k])
				if err != nil && strings.Contains(err.Error(), "already exists") {
					return nil
				}
				return err
			})
		}
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
