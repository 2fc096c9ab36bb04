package scale

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/test/internal/bare"
	"github.com/socketplane/socketplane/test/internal/tally"
)

// patience bounds whatever has no limit of its own; at 1,000 hosts an agent may need it.
const patience = 3 * time.Minute

// agentBinary is the agent that is looked at.
var agentBinary = sync.OnceValues(func() (string, error) {
	if given := os.Getenv(AgentVar); given != "" {
		return given, nil
	}
	return bare.Binary()
})

// host is a host without Docker, whose agent meets its store and its switch through proxies that count.
type host struct {
	*bare.Host
	server *testenv.ConsulServer
	proc   *testenv.Process
	// consul, db and flows are what its agent asked of Consul, of Open vSwitch's database and of the bridge.
	consul, db, flows *tally.Counter
}

// underlay is where its tunnels end.
var underlay = netip.MustParsePrefix("198.18.0.1/15")

// newHost makes a host, whose agent is not started yet.
func newHost(t testing.TB) *host {
	t.Helper()
	server := testenv.Consul(t)
	h := &host{Host: bare.New(t, underlay, patience), server: server}
	h.consul = tally.Consul(t, h.listen("consul.sock"), to("unix", server.Socket), store.Root)
	h.db = tally.OVSDB(t, h.listen("db.sock"), to("unix", strings.TrimPrefix(h.OVS.DB, "unix:")))
	// The agent looks for the bridge's socket beside the database's.
	h.flows = tally.OpenFlow(t, h.listen(bare.Bridge+".mgmt"), to("unix", h.OVS.Mgmt(bare.Bridge)))
	return h
}

func to(network, addr string) tally.Dial {
	return func() (net.Conn, error) { return net.Dial(network, addr) }
}

func (h *host) listen(name string) net.Listener {
	h.T.Helper()
	l, err := net.Listen("unix", h.Path(name))
	if err != nil {
		h.T.Fatal(err)
	}
	return l
}

// begin starts the agent.
func (h *host) begin() {
	h.T.Helper()
	binary, err := agentBinary()
	if err != nil {
		h.T.Fatal(err)
	}
	h.proc = h.Start(bare.Agent{Binary: binary, Flags: []string{"--ovsdb", "unix:" + h.Path("db.sock"), "--default-network", "none",
		"--store", "consul", "--consul-addr", "unix://" + h.Path("consul.sock")}})
}

// start starts the agent and waits until it is ready.
func (h *host) start() {
	h.T.Helper()
	h.begin()
	h.Eventually("the agent is ready", func() error {
		if !h.proc.Running() {
			h.T.Fatalf("the agent ended:\n%s", testenv.TailFile(h.Path("agent.log"), 50))
		}
		ctx, cancel := context.WithTimeout(h.T.Context(), 5*time.Second)
		defer cancel()
		return adminapi.NewClient(h.Path("admin.sock")).Ready(ctx)
	})
}

// metric is the value of one of the agent's metrics, by its name and labels as they are written; 0 if there is none.
func (h *host) metric(name string) float64 {
	h.T.Helper()
	_, text, err := h.Get("/metrics")
	if err != nil {
		return 0 // it listens there a moment after its sockets
	}
	return bare.Value(text, name)
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
	h.T.Helper()
	all := h.counts()
	all["netlink: lists"] = int64(h.metric("socketplane_netlink_lists_total"))
	all["netlink: forwarding changes"] = int64(h.metric("socketplane_forwarding_changes_total"))
	return all
}

var flowCount = regexp.MustCompile(`flow_count=(\d+)`)

// flowsTo counts the switch's flows to MACs that begin with two bytes.
func (h *host) flowsTo(prefix string) int {
	h.T.Helper()
	out, _ := exec.Command("ovs-ofctl", "-O", "OpenFlow14", "--timeout=60", "dump-aggregate", "unix:"+h.OVS.Mgmt(bare.Bridge),
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
	cmd := exec.CommandContext(ctx, binary, append(args, "--admin-socket", h.Path("admin.sock"))...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("socketplane %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
