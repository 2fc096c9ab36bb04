package onehost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/ovs"
	"github.com/socketplane/socketplane/test/lab"
)

const (
	bridge      = "socketplane0"
	underlay    = "192.0.2.1"
	metricsAddr = "127.0.0.1:9477"
	// patience bounds whatever has no limit of its own.
	patience = 60 * time.Second
)

var spaces atomic.Int32

// agentBinary builds the agent once.
var agentBinary = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return lab.BuildAgent(ctx)
})

// host is a host without Docker.
type host struct {
	t    *testing.T
	ns   string
	ovs  *ovs.Switch
	dir  string
	proc *testenv.Process
	// flags come after those that every agent of the tests has.
	flags []string
	// env is added to the agent's environment.
	env []string
	// wrap is a program and its arguments that runs the agent.
	wrap []string
}

// newHost makes a host whose agent is not started yet.
func newHost(t *testing.T, flags ...string) *host {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ip", "nsenter")
	dir, err := os.MkdirTemp("", "sp-one-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &host{t: t, ns: fmt.Sprintf("spone%d-%d", os.Getpid(), spaces.Add(1)), dir: dir, flags: flags}
	h.run("ip", "netns", "add", h.ns)
	t.Cleanup(func() { h.run("ip", "netns", "del", h.ns) })
	h.ip("link", "set", "lo", "up")
	h.ip("link", "add", "eth0", "type", "veth", "peer", "name", "und0")
	h.ip("link", "set", "und0", "up")
	h.ip("link", "set", "eth0", "up")
	h.ip("addr", "add", underlay+"/24", "dev", "eth0")
	h.ovs = ovs.Start(t, ovs.InNetNS("/run/netns/"+h.ns), ovs.WithTSO())
	return h
}

// start starts the agent and waits until it is ready; stop or kill end it, at the latest with the test.
func (h *host) start() {
	h.t.Helper()
	h.begin()
	h.ready()
}

// begin starts the agent.
func (h *host) begin() {
	h.t.Helper()
	binary, err := agentBinary()
	if err != nil {
		h.t.Fatal(err)
	}
	argv := append([]string{"nsenter", "--net=/run/netns/" + h.ns}, h.wrap...)
	argv = append(argv, binary, "agent", "--state-dir", h.path("state"), "--plugin-socket", h.path("plugin.sock"),
		"--admin-socket", h.path("admin.sock"), "--ovsdb", h.ovs.DB, "--docker-host", "none", "--advertise", underlay,
		"--name", "one", "--metrics-addr", metricsAddr, "--pprof")
	if !slices.Contains(h.flags, "--store") {
		argv = append(argv, "--store", "bolt")
	}
	p := testenv.NewProcess(h.path("agent.log"), append(argv, h.flags...)...)
	p.Env = append(os.Environ(), h.env...)
	if h.proc == nil {
		h.t.Cleanup(func() {
			h.kill()
			if h.t.Failed() {
				h.t.Logf("the agent:\n%s", testenv.TailFile(h.path("agent.log"), 30))
			}
		})
	}
	h.proc = p
	if err := p.Start(); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) ready() {
	h.t.Helper()
	h.eventually("the agent is ready", func() error {
		if !h.proc.Running() {
			h.t.Fatalf("the agent ended:\n%s", h.log())
		}
		ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Second)
		defer cancel()
		if err := h.admin().Ready(ctx); err != nil {
			return err
		}
		_, _, err := h.get("/healthz") // it listens there a moment after its sockets
		return err
	})
}

func (h *host) stop() {
	h.t.Helper()
	if !h.proc.Stop(20 * time.Second) {
		h.t.Fatalf("the agent does not end:\n%s", h.log())
	}
}

func (h *host) kill() { h.proc.Kill() }

func (h *host) log() string { return testenv.TailFile(h.path("agent.log"), 1000) }

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) admin() *adminapi.Client { return adminapi.NewClient(h.path("admin.sock")) }

// get asks the agent's metrics address.
func (h *host) get(path string) (int, string, error) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, network, addr string) (net.Conn, error) { return h.dial(ctx, network, addr) },
	}}
	resp, err := client.Get("http://" + metricsAddr + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// dial connects from within the host: a socket stays in the namespace in which it was made.
func (h *host) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open("/run/netns/" + h.ns)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		var conn net.Conn
		if err == nil {
			conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, addr)
		}
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// metrics gives the text that the agent serves.
func (h *host) metrics() string {
	h.t.Helper()
	status, text, err := h.get("/metrics")
	if err != nil || status != http.StatusOK {
		h.t.Fatalf("metrics: %d %v", status, err)
	}
	return text
}

// metric is the value of one metric, by its name and labels as they are written; 0 if there is none.
func (h *host) metric(name string) float64 {
	h.t.Helper()
	return value(h.metrics(), name)
}

// value is a metric's in the text that an agent serves.
func value(text, name string) (v float64) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, _ = fmt.Sscan(rest, &v)
		}
	}
	return v
}

func (h *host) ip(args ...string) string {
	h.t.Helper()
	return h.run("ip", append([]string{"-n", h.ns}, args...)...)
}

func (h *host) run(name string, args ...string) string {
	h.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// eventually polls until what is awaited is true.
func (h *host) eventually(what string, is func() error) {
	h.t.Helper()
	h.within(patience, what, is)
}

func (h *host) within(limit time.Duration, what string, is func() error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	defer cancel()
	var last error
	if err := testenv.Poll(ctx, 20*time.Millisecond, func() bool { last = is(); return last == nil }); err != nil {
		h.t.Fatalf("%s: not within %v: %v", what, limit, last)
	}
}

// errNotYet says that what is awaited is not there yet.
var errNotYet = errors.New("not yet")
