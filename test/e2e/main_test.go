package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// patience bounds whatever has no limit of its own: it is long, as several hosts share few cores.
const patience = 90 * time.Second

// world is the lab that all tests of one run share.
type world struct {
	*lab.Lab
	engine lab.Engine
	tunnel lab.Tunnel
	// empty is the lab's dump before the first test.
	empty string
	// slow says that the machine is emulated: figures of time and size are cut.
	slow bool

	once   sync.Once
	web    *segment
	webErr error
}

// shared starts the lab when the first test asks for it.
var shared = sync.OnceValues(start)

// started is closed when there is a lab to close.
var started = make(chan struct{})

func TestMain(m *testing.M) {
	code := m.Run()
	select {
	case <-started:
		if err := finish(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	default: // no test needed a lab
	}
	os.Exit(code)
}

// need gives the lab; it skips or fails the test where it can't be.
func need(t *testing.T) *world {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "dockerd", "docker", "ip", "nsenter", "busybox", "iperf3", "ping", "ethtool", "tcpdump", "consul")
	w, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.report(t) })
	return w
}

// start starts the lab that the environment describes.
func start() (*world, error) {
	hosts := 3
	if text := os.Getenv("SOCKETPLANE_E2E_HOSTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 2 {
			return nil, fmt.Errorf("SOCKETPLANE_E2E_HOSTS=%q: give a number from 2", text)
		}
		hosts = n
	}
	opts := lab.Options{
		Hosts: hosts, Consul: true,
		Engine: lab.Engine(os.Getenv("SOCKETPLANE_E2E_ENGINE")),
		Tunnel: lab.Tunnel(os.Getenv("SOCKETPLANE_E2E_TUNNEL")),
		Plugin: asPlugin(),
		Log: func(format string, args ...any) {
			fmt.Printf("lab: "+format+"\n", args...)
		},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	close(started)
	w := &world{Lab: l, engine: opts.Engine, tunnel: opts.Tunnel, slow: os.Getenv("SOCKETPLANE_E2E_SLOW") != ""}
	// Agents make docker_gwbridge at their start, which stays.
	if err := testenv.Poll(ctx, 100*time.Millisecond, func() bool {
		return w.each(func(h *lab.Host) error { _, err := h.Docker(ctx, "network", "inspect", "docker_gwbridge"); return err }) == nil
	}); err != nil {
		return w, fmt.Errorf("a host has no docker_gwbridge: %w", err)
	}
	w.empty, err = w.settled(ctx)
	return w, err
}

// asPlugin says whether the agents are Docker's managed plugin.
func asPlugin() bool { return os.Getenv("SOCKETPLANE_E2E_PLUGIN") != "" }

// finish removes what tests shared, demands that nothing is left of the whole run, and closes the lab.
func finish() error {
	w, err := shared()
	if w == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	if err == nil && w.web != nil {
		if err = w.web.remove(ctx); err == nil {
			err = w.sameAs(ctx, w.empty)
		}
		if err != nil {
			err = fmt.Errorf("after all tests: %w", err)
		}
	}
	return errors.Join(err, w.Close())
}

// each does something on all hosts at once.
func (w *world) each(f func(*lab.Host) error) error {
	var g errgroup.Group
	for _, h := range w.Hosts {
		g.Go(func() error { return f(h) })
	}
	return g.Wait()
}

// report shows the logs' ends of a test that failed.
func (w *world) report(t *testing.T) {
	if !t.Failed() {
		return
	}
	for _, h := range w.Hosts {
		var lines []string
		for line := range strings.Lines(h.LogTail("agent", 200)) {
			if !strings.Contains(line, "level=DEBUG") {
				lines = append(lines, line)
			}
		}
		t.Logf("the agent of %s:\n%s", h.Name, strings.Join(lines[max(0, len(lines)-12):], ""))
	}
}

// deadline is a context for a test that ends before the test run does. The limit is a quiet machine's.
func deadline(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	const busy = 2
	ctx, cancel := context.WithTimeout(t.Context(), busy*limit)
	t.Cleanup(cancel)
	return ctx
}

// cleanup is a context for what is done when a test has ended.
func cleanup(t *testing.T, f func(context.Context) error) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := f(ctx); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
}

// eventually polls until check returns nil, and fails the test with its last error.
func eventually(ctx context.Context, t *testing.T, limit time.Duration, check func(context.Context) error) {
	t.Helper()
	if err := testenv.Await(ctx, limit, 50*time.Millisecond, check); err != nil {
		t.Fatal(err)
	}
}
