package upgrade

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// patience bounds whatever has no limit of its own: it is long, as several hosts share few cores.
const patience = 60 * time.Second

// hosts is how many a cluster has.
const hosts = 3

// world is a cluster of the former release, and what becomes of it.
type world struct {
	*lab.Lab
	t *testing.T
	// former and present are the programs of the two releases.
	former, present string
	// standing are the containers that are there all the time, with what they were given at first.
	standing []*container
	pings    []*pinging
	follows  []*follow
	rounds   int
}

// start starts a cluster whose hosts all have the former release.
func start(ctx context.Context, t *testing.T) *world {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "dockerd", "docker", "ip", "bridge", "nsenter", "busybox", "ping", "consul")
	w := &world{t: t, former: formerAgent(ctx, t)}
	var err error
	if w.present, err = lab.BuildAgent(ctx); err != nil {
		t.Fatal(err)
	}
	w.Lab, err = lab.Start(ctx, lab.Options{
		Hosts: hosts, Consul: true, Agent: w.former, AgentFlags: []string{"--mirror=true", "--default-network=none"}, Log: t.Logf,
		Engine: lab.Engine(os.Getenv("SOCKETPLANE_E2E_ENGINE")), Tunnel: lab.Tunnel(os.Getenv("SOCKETPLANE_E2E_TUNNEL")),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.report()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// change gives a host the agent of another release, on the same state directory and the same Consul. The second host's agent crashes.
func (w *world) change(ctx context.Context, h *lab.Host, binary string) {
	w.t.Helper()
	if h == w.Hosts[1] {
		h.KillAgent()
	} else if err := h.StopAgent(); err != nil {
		w.t.Fatal(err)
	}
	h.UseAgent(binary)
	if err := h.StartAgent(ctx); err != nil {
		w.t.Fatal(err)
	}
	if err := h.WaitReady(ctx); err != nil {
		w.t.Fatal(err)
	}
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

// eventually polls until check returns nil, and fails the test with its last error.
func (w *world) eventually(ctx context.Context, what string, check func(context.Context) error) {
	w.t.Helper()
	if err := until(ctx, check); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// until polls until check returns nil; its last error says why not.
func until(ctx context.Context, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error
	if err := testenv.Poll(ctx, 50*time.Millisecond, func() bool {
		// What was cut off by the deadline says less than what was seen before.
		if now := check(ctx); now == nil || ctx.Err() == nil || last == nil {
			last = now
		}
		return last == nil
	}); err != nil {
		return fmt.Errorf("%w: %w", err, last)
	}
	return nil
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
		w.t.Logf("the agent of %s:\n%s", h.Name, strings.Join(lines[max(0, len(lines)-25):], ""))
	}
}
