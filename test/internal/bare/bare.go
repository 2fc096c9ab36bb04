// Package bare makes hosts without Docker for tests that speak to the agent themselves: a network namespace with an underlay address, an Open
// vSwitch of its own, and the agent in it.
//
// It owns the namespace, the directory and the processes, until the test ends. It may import test/lab for the agent's binary, internal/testenv and
// test/internal; it must not know what the agent does.
package bare

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/ovs"
	"github.com/socketplane/socketplane/test/internal/libnetwork"
	"github.com/socketplane/socketplane/test/internal/proxy"
)

const (
	// Bridge is the agent's bridge.
	Bridge = "socketplane0"
	// MetricsAddr is where the agent serves its metrics, within the host.
	MetricsAddr = "127.0.0.1:9477"
)

var spaces atomic.Int32

// Host is a host without Docker. Its methods fail the test where they don't return an error; but for those that make or start something they are
// safe for concurrent use.
type Host struct {
	T testing.TB
	// NS is the network namespace's name, Dir the directory of the agent's state, log and sockets.
	NS, Dir string
	OVS     *ovs.Switch
	// Addr is the host's underlay address.
	Addr netip.Addr
	// Patience bounds each wait that has no limit of its own.
	Patience time.Duration

	logged sync.Once // the agent.log of a test that failed
}

// New makes a host with an underlay address, which is removed when the test ends. No agent runs on it yet.
func New(t testing.TB, underlay netip.Prefix, patience time.Duration) *Host {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ip", "nsenter")
	dir, err := os.MkdirTemp("", "sp-bare-") // short, as sockets' paths are limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &Host{T: t, NS: fmt.Sprintf("spbare%d-%d", os.Getpid(), spaces.Add(1)), Dir: dir, Addr: underlay.Addr(), Patience: patience}
	h.Run("ip", "netns", "add", h.NS)
	t.Cleanup(func() { h.Run("ip", "netns", "del", h.NS) })
	h.IP("link", "set", "lo", "up")
	h.IP("link", "add", "eth0", "type", "veth", "peer", "name", "und0")
	h.IP("link", "set", "und0", "up")
	h.IP("link", "set", "eth0", "up")
	h.IP("addr", "add", underlay.String(), "dev", "eth0")
	h.OVS = ovs.Start(t, ovs.InNetNS(h.NetNS()), ovs.WithTSO())
	return h
}

// NetNS is the path of the network namespace's file.
func (h *Host) NetNS() string { return "/run/netns/" + h.NS }

// Path is that of a file in the host's directory.
func (h *Host) Path(name string) string { return filepath.Join(h.Dir, name) }

// Docker calls the agent as Docker does.
func (h *Host) Docker() *libnetwork.Client {
	const atOnce = 128 // tests let up to a hundred containers start at once
	return libnetwork.New(h.Path("plugin.sock"), h.Patience, atOnce)
}

// Get asks the agent's metrics address.
func (h *Host) Get(path string) (status int, text string, err error) {
	client := &http.Client{Timeout: h.Patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return proxy.DialIn(ctx, h.NetNS(), network, addr)
		}}}
	resp, err := client.Get("http://" + MetricsAddr + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// Value is one metric's in the text that an agent serves, by its name and labels as they are written; 0 if there is none.
func Value(text, name string) (v float64) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, _ = fmt.Sscan(rest, &v) // what is no number is none
		}
	}
	return v
}

// IP runs ip in the host.
func (h *Host) IP(args ...string) string {
	h.T.Helper()
	return h.Run("ip", append([]string{"-n", h.NS}, args...)...)
}

// Run runs a program on the machine, which must succeed, and gives what it says.
func (h *Host) Run(name string, args ...string) string {
	h.T.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		h.T.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Eventually polls until what is awaited is true.
func (h *Host) Eventually(what string, is func() error) {
	h.T.Helper()
	h.Within(h.Patience, what, is)
}

// Within is Eventually with a limit of its own.
func (h *Host) Within(limit time.Duration, what string, is func() error) {
	h.T.Helper()
	if err := testenv.Await(h.T.Context(), limit, 20*time.Millisecond, func(context.Context) error { return is() }); err != nil {
		h.T.Fatalf("%s: %v", what, err)
	}
}

// Deadline is a context for a test's calls.
func (h *Host) Deadline(limit time.Duration) context.Context {
	h.T.Helper()
	ctx, cancel := context.WithTimeout(h.T.Context(), limit)
	h.T.Cleanup(cancel)
	return ctx
}
