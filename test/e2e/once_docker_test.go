package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

// risen waits until every host has its phoenix with addresses on the network, and all of them reach each other.
func (w *once) risen(ctx context.Context, t *testing.T, network string) []*container {
	t.Helper()
	all := make([]*container, len(w.Hosts))
	eventually(ctx, t, patience, func(ctx context.Context) error {
		return w.each(func(h *lab.Host) error {
			c, err := inspect(ctx, h, "phoenix")
			if err != nil {
				return err
			}
			if _, err := c.on(ctx, network); err != nil || !c.addr.IsValid() || !c.addr6.IsValid() {
				return fmt.Errorf("%s: the container came back with %v and %v: %w", h.Name, c.addr, c.addr6, err)
			}
			for i := range w.Hosts {
				if w.Hosts[i] == h {
					all[i] = c
				}
			}
			return nil
		})
	})
	for i, c := range all {
		next := all[(i+1)%len(all)]
		c.reachable(ctx, t, next.addr, next.addr6)
	}
	return all
}

// phoenixes makes a network and a container on every host that Docker always starts again.
func (w *once) phoenixes(ctx context.Context, t *testing.T, network string) []*container {
	t.Helper()
	w.docker(ctx, t, w.Hosts[0], "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane",
		"--subnet", "10.61.0.0/24", "--ipv6", "--subnet", "fd61::/64", network)
	w.have(ctx, t, 30*time.Second, w.Hosts, network)
	if err := w.each(func(h *lab.Host) error {
		_, err := w.run(ctx, h, "phoenix", "--restart", "always", "--network", network)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return w.risen(ctx, t, network)
}

// ashes removes them.
func (w *once) ashes(ctx context.Context, t *testing.T, network string) {
	t.Helper()
	for _, h := range w.Hosts {
		w.docker(ctx, t, h, "rm", "-f", "phoenix")
	}
	w.endpoints(ctx, t, network, 0)
	w.docker(ctx, t, w.Hosts[0], "network", "rm", network)
	w.only(ctx, t, 30*time.Second)
}

// dockerRestarts: Docker ends and starts again on all hosts at once. Containers that ran on have not noticed; the others come back with
// their network; there is just what they need.
func (w *once) dockerRestarts(ctx context.Context, t *testing.T) {
	const network = "daemons"
	stop := func(h *lab.Host) error { return h.StopDocker() }
	kill := func(h *lab.Host) error { h.KillDocker(); return nil }
	w.phoenixes(ctx, t, network)
	for _, tt := range []struct {
		name  string
		end   func(*lab.Host) error
		flags []string // of the daemon that ends, and the one that starts
	}{
		{"stopped", stop, nil},
		{"killed", kill, nil},
		{"stopped, with live-restore", stop, []string{lab.LiveRestore}},
		{"killed, with live-restore", kill, []string{lab.LiveRestore}},
	} {
		began := time.Now()
		restart := func() {
			t.Helper()
			if err := w.each(func(h *lab.Host) error { return errors.Join(tt.end(h), h.StartDocker(ctx, tt.flags...)) }); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
		}
		if tt.flags != nil {
			restart() // to have the flag
		}
		before := w.risen(ctx, t, network)
		var pings []*pinging
		if tt.flags != nil {
			pings = append(pings, before[0].ping(ctx, t, before[1].addr.String()), before[1].ping(ctx, t, before[0].addr6.String()))
		}
		restart()
		for i, c := range w.risen(ctx, t, network) {
			ranOn := c.pid == before[i].pid
			if ranOn != (tt.flags != nil) {
				t.Errorf("%s: %s: the container ran on: %v", tt.name, c.h.Name, ranOn)
			}
			if ranOn && (c.addr != before[i].addr || c.addr6 != before[i].addr6 || c.mac != before[i].mac) {
				t.Errorf("%s: %s has %v %v %s now, it had %v %v %s", tt.name, c.h.Name, c.addr, c.addr6, c.mac, before[i].addr, before[i].addr6, before[i].mac)
			}
		}
		for _, p := range pings {
			replies, lost := p.end(t)
			t.Logf("%s: %d answers, %d lost", tt.name, len(replies), lost)
			if lost > 1 { // as in TestAgentKilled: one may be the machine's, a gap would be many
				t.Errorf("%s: %d pings to %s were lost", tt.name, lost, p.to)
			}
		}
		eventually(ctx, t, patience, func(ctx context.Context) error { return w.exact(ctx, network) })
		w.have(ctx, t, 30*time.Second, w.Hosts, network)
		t.Logf("%s: %v", tt.name, time.Since(began).Round(time.Second))
	}
	w.fresh(ctx, t)
	if err := w.each(func(h *lab.Host) error { return h.RestartDocker(ctx) }); err != nil { // without live-restore
		t.Fatal(err)
	}
	w.ashes(ctx, t, network)
}

// hostsReboot: all hosts lose power at once and start again; whether agent or Docker comes first, neither waits for the other for ever.
func (w *once) hostsReboot(ctx context.Context, t *testing.T) {
	const network = "power"
	w.phoenixes(ctx, t, network)
	for _, tt := range []struct {
		name   string
		reboot func(*lab.Host) error
	}{
		{"the agent before Docker", func(h *lab.Host) error {
			if asPlugin() {
				return errors.Join(h.Reboot(ctx), h.StartAgent(ctx)) // Docker starts it: the only order that there is
			}
			return h.Reboot(ctx, func(ctx context.Context) error { return h.StartAgent(ctx) })
		}},
		{"Docker before the agent", func(h *lab.Host) error {
			// Docker asks for its plugin for up to 15 s before it serves; the agent comes in that time.
			var g errgroup.Group
			err := h.Reboot(ctx, func(context.Context) error {
				g.Go(func() error {
					waitUntil(ctx, t, time.Now().Add(2*time.Second))
					return h.StartAgent(ctx)
				})
				return nil
			})
			return errors.Join(err, g.Wait())
		}},
	} {
		began := time.Now()
		if err := w.each(func(h *lab.Host) error { return errors.Join(tt.reboot(h), h.WaitReady(ctx)) }); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		w.risen(ctx, t, network)
		t.Logf("%s: the containers talk again %v after the power failure", tt.name, time.Since(began).Round(time.Second))
		eventually(ctx, t, patience, func(ctx context.Context) error { return w.exact(ctx, network) })
		w.have(ctx, t, 30*time.Second, w.Hosts, network)
		t.Logf("%s: %v", tt.name, time.Since(began).Round(time.Second))
	}
	w.fresh(ctx, t)
	w.ashes(ctx, t, network)
}
