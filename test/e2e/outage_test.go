package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

// answerTime is how long Docker may wait for us: a handler's deadline of 10 s, and Docker's own part on a busy machine.
const answerTime = 20 * time.Second

// TestConsulAway: without Consul running containers keep talking, and what needs it fails in time and says so; an
// agent that restarts meanwhile disturbs nobody.
func TestConsulAway(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 5*time.Minute)
	all := w.members(ctx, t)
	h := w.Hosts[0]
	leaver := w.mustRun(ctx, t, h, "leaver", "--network", "web")
	all[1].reachable(ctx, t, leaver.addr)
	var pings []*pinging
	for _, to := range all[1:] {
		pings = append(pings, all[0].ping(ctx, t, to.addr.String()), to.ping(ctx, t, all[0].addr6.String()))
	}
	w.Consul.Stop()
	stopped := time.Now()
	// The rest of the suite is not to suffer from a failure here.
	cleanup(t, w.Consul.Start)
	cleanup(t, func(ctx context.Context) error { return remove(ctx, h, "nope") })
	cleanup(t, (&segment{w: w, name: "nope", hosts: w.Hosts[:1]}).remove)

	began := time.Now()
	_, err := h.Docker(ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", "10.66.0.0/24", "nope")
	wantError(t, err, "consul", w.Consul.Addr)
	if took := time.Since(began); took > answerTime {
		t.Errorf("docker network create took %v to fail", took)
	}
	began = time.Now()
	_, err = w.run(ctx, h, "nope", "--network", "web", "--ip", "10.60.0.230")
	wantError(t, err, "consul", w.Consul.Addr)
	if took := time.Since(began); took > answerTime {
		t.Errorf("docker run took %v to fail", took)
	}
	began = time.Now()
	if err := remove(ctx, h, "leaver"); err != nil {
		t.Errorf("a container can't be removed: %v", err)
	}
	if took := time.Since(began); took > answerTime {
		t.Errorf("docker rm took %v", took)
	}
	if out, err := h.SocketPlane(ctx, "info"); err != nil || !strings.Contains(strings.ToLower(out), "consul") {
		t.Errorf("socketplane info: %v: %s", err, out)
	}
	w.Hosts[1].KillAgent()
	if err := w.Hosts[1].StartAgent(ctx); err != nil {
		t.Fatal(err)
	}
	waitUntil(ctx, t, stopped.Add(30*time.Second))
	if err := w.Consul.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("Consul was away for %v", time.Since(stopped).Round(time.Second))

	eventually(ctx, t, 30*time.Second, func(ctx context.Context) error {
		if err := remove(ctx, h, "nope"); err != nil {
			return err
		}
		_, err := w.run(ctx, h, "nope", "--network", "web", "--ip", "10.60.0.230")
		return err
	})
	again, err := inspect(ctx, h, "nope")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all[1:] {
		c.reachable(ctx, t, again.addr)
	}
	late := w.network(ctx, t, "nope", "--subnet", "10.66.0.0/24")
	if err := late.remove(ctx); err != nil {
		t.Error(err)
	}
	for _, p := range pings {
		replies, lost := p.end(t)
		t.Logf("%s to %s: %d answers, %d lost", p.from.h.Name, p.to, len(replies), lost)
		// As in TestAgentKilled: one may be lost by what the machine does meanwhile.
		if lost > 1 {
			t.Errorf("%d pings from %s to %s were lost", lost, p.from.h.Name, p.to)
		}
	}
}

// TestAgentKilled: an agent that crashes and comes back loses no packet, and remembers everything (LESSONS 6).
func TestAgentKilled(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 3*time.Minute)
	all := w.members(ctx, t)
	before, err := w.settled(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ping, ping6 := all[0].ping(ctx, t, all[1].addr.String()), all[1].ping(ctx, t, all[0].addr6.String())
	for _, h := range w.Hosts[:2] {
		h.KillAgent()
		if err := h.StartAgent(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// Docker knows the network still, and so does the agent.
	c := w.mustRun(ctx, t, w.Hosts[0], "after", "--network", "web")
	c.reachable(ctx, t, all[1].addr)
	if err := remove(ctx, w.Hosts[0], "after"); err != nil {
		t.Fatal(err)
	}
	if err := w.sameAs(ctx, before); err != nil {
		t.Error(err)
	}
	for _, p := range []*pinging{ping, ping6} {
		// One may be lost by what the machine does meanwhile; a gap would be many.
		if replies, lost := p.end(t); lost > 1 {
			t.Errorf("%d of %d pings to %s were lost", lost, len(replies)+lost, p.to)
		}
	}
}

// TestOpenVSwitchAway: without Open vSwitch Docker is told what to do, and when it is back everything works again,
// also for containers that ran all the time (LESSONS 14).
func TestOpenVSwitchAway(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 4*time.Minute)
	all := w.members(ctx, t)
	before, err := w.settled(ctx)
	if err != nil {
		t.Fatal(err)
	}
	h := w.Hosts[1]
	h.KillVSwitch()
	h.KillOVSDB()
	back := func(ctx context.Context) error {
		if err := h.StartOVSDB(ctx); err != nil {
			return err
		}
		return h.StartVSwitch(ctx)
	}
	restarted := false
	cleanup(t, func(ctx context.Context) error {
		if restarted {
			return nil
		}
		return back(ctx)
	})
	cleanup(t, (&segment{w: w, name: "early", hosts: []*lab.Host{h}}).remove)
	cleanup(t, func(ctx context.Context) error { return remove(ctx, h, "early") })
	// A moment passes until the agent has noticed.
	began := time.Now()
	eventually(ctx, t, 30*time.Second, func(ctx context.Context) error {
		// With Docker's own addresses, as nothing but the switch is needed then: it may carry the way to Consul, too.
		_, err := h.Docker(ctx, "network", "create", "-d", "socketplane", "--subnet", "10.67.0.0/24", "early")
		if err == nil {
			_, err = h.Docker(ctx, "network", "rm", "early")
			return fmt.Errorf("a network is created without Open vSwitch (%v)", err)
		}
		for _, word := range []string{"Open vSwitch", "start"} {
			if !strings.Contains(err.Error(), word) {
				return fmt.Errorf("the error does not say %q: %w", word, err)
			}
		}
		t.Logf("without Open vSwitch: %v", err)
		return nil
	})
	if _, err := w.run(ctx, h, "early", "--network", "web"); err == nil {
		t.Error("a container starts without Open vSwitch")
	}
	if took := time.Since(began); took > 3*answerTime {
		t.Errorf("the refusals took %v", took)
	}
	if !h.AgentRunning() {
		t.Fatalf("the agent ended: %s", h.LogTail("agent", 20))
	}
	if err := remove(ctx, h, "early"); err != nil {
		t.Error(err)
	}
	if err := back(ctx); err != nil {
		t.Fatal(err)
	}
	restarted = true
	began = time.Now()
	all[0].reachable(ctx, t, all[1].addr, all[1].addr6)
	all[1].reachable(ctx, t, all[0].addr)
	t.Logf("old containers talk %v after the switch's start", time.Since(began).Round(time.Millisecond))
	if err := h.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	c := w.mustRun(ctx, t, h, "late", "--network", "web")
	c.reachable(ctx, t, all[0].addr)
	if err := remove(ctx, h, "late"); err != nil {
		t.Error(err)
	}
	if err := w.sameAs(ctx, before); err != nil {
		t.Error(err)
	}
}

// TestCoreDatabaseEmptied: when the switches' databases are lost on two hosts, bridge, ports and flows come back by themselves, and with
// them the traffic of containers that ran all the time.
func TestCoreDatabaseEmptied(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 4*time.Minute)
	all := w.members(ctx, t)
	before, err := w.settled(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"socketplane0", "dl_dst=" + all[1].mac} {
		if !strings.Contains(before, part) {
			t.Fatalf("the dump does not show %s, so this test proves nothing", part)
		}
	}
	var g errgroup.Group
	for _, h := range w.Hosts[:2] {
		g.Go(func() error { return h.EmptyOVSDB(ctx) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i, c := range all {
		next := all[(i+1)%len(all)]
		c.reachable(ctx, t, next.addr, next.addr6)
	}
	t.Logf("all talk %v after the databases' start", time.Since(began).Round(time.Millisecond))
	if err := w.sameAs(ctx, before); err != nil {
		t.Error(err)
	}
}

// TestCoreNothingIsLeft: after docker rm and docker network rm everything is as before on every host and in
// Consul (LESSONS 5, 7).
func TestCoreNothingIsLeft(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 4*time.Minute)
	before, err := w.settled(ctx)
	if err != nil {
		t.Fatal(err)
	}
	gone := w.network(ctx, t, "gone", "--subnet", "10.68.0.0/24", "--ipv6", "--subnet", "fd68::/64", "--aux-address", "printer=10.68.0.9")
	all := gone.runOnEach(ctx, t, "gone", nil)
	for _, c := range all[1:] {
		all[0].reachable(ctx, t, c.addr, c.addr6)
	}
	during := w.view(ctx)
	for _, part := range []string{"10.68.0.0", "fd68:", gone.name} {
		if !strings.Contains(during, part) {
			t.Errorf("the dump does not show %s, so this test proves nothing", part)
		}
	}
	// One by docker stop and rm, the others by rm -f; with a restart and a start after a stop on the way.
	first := w.Hosts[0]
	for _, args := range [][]string{
		{"restart", "-t", "0", "gone"}, {"stop", "-t", "0", "gone"}, {"start", "gone"}, {"stop", "-t", "0", "gone"}, {"rm", "gone"},
	} {
		if _, err := first.Docker(ctx, args...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := first.Docker(ctx, "network", "rm", "gone"); err != nil {
		t.Fatal(err)
	}
	rest := &segment{w: w, name: "gone", hosts: w.Hosts[1:]}
	if err := rest.remove(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.sameAs(ctx, before); err != nil {
		t.Error(err)
	}
}

// TestDockersOwnAddresses: networks whose addresses Docker chooses work across hosts; what two hosts chose alike
// is refused, with the holder and the cure (LESSONS 8).
func TestDockersOwnAddresses(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 3*time.Minute)
	plain := w.network(ctx, t, "plain", "--ipam-driver", "default", "--subnet", "10.69.0.0/24")
	first := w.mustRun(ctx, t, w.Hosts[0], "plain", "--network", plain.name, "--ip", "10.69.0.10")
	second := w.mustRun(ctx, t, w.Hosts[1], "plain", "--network", plain.name, "--ip", "10.69.0.20")
	first.reachable(ctx, t, second.addr)
	second.reachable(ctx, t, first.addr)
	cleanup(t, func(ctx context.Context) error { return remove(ctx, w.Hosts[1], "twin") })
	_, err := w.run(ctx, w.Hosts[1], "twin", "--network", plain.name, "--ip", "10.69.0.10")
	wantError(t, err, "10.69.0.10", w.Hosts[0].Name, "--ipam-driver socketplane")
	// The refusal leaves the holder alone, and its address is free when it goes.
	first.reachable(ctx, t, second.addr)
	if err := remove(ctx, w.Hosts[0], "plain"); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, 30*time.Second, func(ctx context.Context) error {
		if err := remove(ctx, w.Hosts[1], "twin"); err != nil {
			return err
		}
		_, err := w.run(ctx, w.Hosts[1], "twin", "--network", plain.name, "--ip", "10.69.0.10")
		return err
	})
	// Hosts that ask Docker for a network alike may do so, and one with our addresses can join them.
	if len(w.Hosts) > 2 {
		third, err := w.run(ctx, w.Hosts[2], "plain", "--network", plain.name, "--ip", "10.69.0.30")
		if err != nil {
			t.Fatal(err)
		}
		third.reachable(ctx, t, second.addr)
	}
}
