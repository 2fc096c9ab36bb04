package scale

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/ovs"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/test/internal/proxy"
	"github.com/socketplane/socketplane/test/internal/tally"
	"github.com/socketplane/socketplane/test/lab"
)

const (
	bridge      = "socketplane0"
	underlay    = "198.18.0.1"
	metricsAddr = "127.0.0.1:9477"
	// patience bounds whatever has no limit of its own; at 1,000 hosts an agent may need it.
	patience = 3 * time.Minute
)

var spaces atomic.Int32

// agentBinary is the agent that is looked at.
var agentBinary = sync.OnceValues(func() (string, error) {
	if given := os.Getenv(AgentVar); given != "" {
		return given, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return lab.BuildAgent(ctx)
})

// host is a host without Docker, whose agent meets its store and its switch through proxies that count.
type host struct {
	t      testing.TB
	ns     string
	ovs    *ovs.Switch
	server *testenv.ConsulServer
	dir    string
	proc   *testenv.Process
	// consul, db and flows are what its agent asked of Consul, of Open vSwitch's database and of the bridge.
	consul, db, flows *tally.Counter
}

// newHost makes a host, whose agent is not started yet.
func newHost(t testing.TB) *host {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ip", "nsenter")
	server := testenv.Consul(t)
	dir, err := os.MkdirTemp("", "sp-scale-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &host{t: t, ns: fmt.Sprintf("spscale%d-%d", os.Getpid(), spaces.Add(1)), server: server, dir: dir}
	h.run("ip", "netns", "add", h.ns)
	t.Cleanup(func() { h.run("ip", "netns", "del", h.ns) })
	h.ip("link", "set", "lo", "up")
	h.ip("link", "add", "eth0", "type", "veth", "peer", "name", "und0")
	h.ip("link", "set", "und0", "up")
	h.ip("link", "set", "eth0", "up")
	h.ip("addr", "add", underlay+"/15", "dev", "eth0")
	h.ovs = ovs.Start(t, ovs.InNetNS(h.netns()), ovs.WithTSO())
	h.consul = tally.Consul(t, h.listen("consul.sock"), to("unix", server.Socket), store.Root)
	h.db = tally.OVSDB(t, h.listen("db.sock"), to("unix", strings.TrimPrefix(h.ovs.DB, "unix:")))
	// The agent looks for the bridge's socket beside the database's.
	h.flows = tally.OpenFlow(t, h.listen(bridge+".mgmt"), to("unix", h.ovs.Mgmt(bridge)))
	return h
}

func to(network, addr string) tally.Dial {
	return func() (net.Conn, error) { return net.Dial(network, addr) }
}

func (h *host) listen(name string) net.Listener {
	h.t.Helper()
	l, err := net.Listen("unix", h.path(name))
	if err != nil {
		h.t.Fatal(err)
	}
	return l
}

// begin starts the agent.
func (h *host) begin() {
	h.t.Helper()
	binary, err := agentBinary()
	if err != nil {
		h.t.Fatal(err)
	}
	p := testenv.NewProcess(h.path("agent.log"), "nsenter", "--net="+h.netns(), binary, "agent", "--state-dir", h.path("state"),
		"--plugin-socket", h.path("plugin.sock"), "--admin-socket", h.path("admin.sock"), "--ovsdb", "unix:"+h.path("db.sock"),
		"--docker-host", "none", "--advertise", underlay, "--name", "one", "--metrics-addr", metricsAddr, "--pprof",
		"--default-network", "none", "--store", "consul", "--consul-addr", "unix://"+h.path("consul.sock"))
	if h.proc == nil {
		h.t.Cleanup(func() {
			h.proc.Kill()
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

// start starts the agent and waits until it is ready.
func (h *host) start() {
	h.t.Helper()
	h.begin()
	h.eventually("the agent is ready", func() error {
		if !h.proc.Running() {
			h.t.Fatalf("the agent ended:\n%s", testenv.TailFile(h.path("agent.log"), 50))
		}
		ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Second)
		defer cancel()
		return adminapi.NewClient(h.path("admin.sock")).Ready(ctx)
	})
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) netns() string { return "/run/netns/" + h.ns }

// metric is the value of one of the agent's metrics, by its name and labels as they are written; 0 if there is none.
func (h *host) metric(name string) (v float64) {
	h.t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return proxy.DialIn(ctx, h.netns(), network, addr)
		}}}
	resp, err := client.Get("http://" + metricsAddr + "/metrics")
	if err != nil {
		return 0 // it listens there a moment after its sockets
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, _ = fmt.Sscan(rest, &v)
		}
	}
	return v
}

// counts is everything that was counted so far, by the program that was asked.
func (h *host) counts() tally.Counts {
	all := tally.Counts{}
	for _, c := range []struct {
		program string
		*tally.Counter
	}{{"consul", h.consul}, {"ovsdb", h.db}, {"openflow", h.flows}} {
		for name, n := range c.Counts() {
			all[c.program+": "+name] = n
		}
	}
	return all
}

// withKernel is counts, with what the agent says that it asked of the kernel, for which there is no proxy.
func (h *host) withKernel() tally.Counts {
	h.t.Helper()
	all := h.counts()
	all["netlink: lists"] = int64(h.metric("socketplane_netlink_lists_total"))
	all["netlink: forwarding changes"] = int64(h.metric("socketplane_forwarding_changes_total"))
	return all
}

var flowCount = regexp.MustCompile(`flow_count=(\d+)`)

// flowsTo counts the switch's flows to MACs that begin with two bytes.
func (h *host) flowsTo(prefix string) int {
	h.t.Helper()
	out, _ := exec.Command("ovs-ofctl", "-O", "OpenFlow14", "--timeout=60", "dump-aggregate", "unix:"+h.ovs.Mgmt(bridge),
		"dl_dst="+prefix+":00:00:00:00/ff:ff:00:00:00:00").CombinedOutput() // the bridge may not be there yet
	m := flowCount.FindSubmatch(out)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1])) // digits
	return n
}

// cli runs our command line against the agent.
func (h *host) cli(ctx context.Context, args ...string) (string, error) {
	binary, err := agentBinary()
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, append(args, "--admin-socket", h.path("admin.sock"))...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("socketplane %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

func (h *host) ip(args ...string) { h.run("ip", append([]string{"-n", h.ns}, args...)...) }

func (h *host) run(name string, args ...string) {
	h.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		h.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// eventually polls until what is awaited is true.
func (h *host) eventually(what string, is func() error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	var last error
	if err := testenv.Poll(ctx, 20*time.Millisecond, func() bool { last = is(); return last == nil }); err != nil {
		h.t.Fatalf("%s: not within %v: %v", what, patience, last)
	}
}
