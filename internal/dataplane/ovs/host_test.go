package ovs_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	testovs "github.com/socketplane/socketplane/internal/testenv/ovs"
	"github.com/socketplane/socketplane/ovsctl"
)

// resync is how often the tests' planes look at everything by the clock.
const resync = time.Minute

const (
	bridge = "socketplane0"
	// patience bounds whatever has no limit of its own.
	patience = time.Minute
)

// TestMain demands that no goroutine is left when all agents have stopped.
func TestMain(m *testing.M) { leaks.Main(m) }

// spaces numbers the namespaces of this test program.
var spaces atomic.Int32

// host is a Docker host of the test: a network namespace with its own Open vSwitch.
type host struct {
	t     testing.TB
	ns    string
	ovs   *testovs.Switch
	links *hostlink.Links
	opts  ovs.Options
	agent *agent // the one that runs, if any
}

// agent is one life of a Plane.
type agent struct {
	*ovs.Plane
	sw   *ovsctl.Switch
	stop func()
}

func newSpace(t testing.TB) string {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ip", "bridge", "ping", "nsenter")
	name := fmt.Sprintf("sprc%d-%d", os.Getpid(), spaces.Add(1))
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", name) })
	run(t, "ip", "-n", name, "link", "set", "lo", "up")
	return name
}

// newHost makes a host whose underlay is the loopback device until join joins it to another.
func newHost(t testing.TB, options ...testovs.Option) *host {
	t.Helper()
	h := &host{t: t, ns: newSpace(t)}
	h.ovs = testovs.Start(t, append([]testovs.Option{testovs.InNetNS("/run/netns/" + h.ns), testovs.WithTSO()}, options...)...)
	h.inside(func() (err error) {
		h.links, err = hostlink.New(hostlink.Options{})
		return err
	})
	t.Cleanup(func() { _ = h.links.Close() })
	h.opts = ovs.Options{
		VXLANPort: 4789, Resync: resync, Logger: logger(t), Host: h.ns,
		Underlay: hostlink.Underlay{Addr: netip.MustParseAddr("127.0.0.1"), Dev: "lo", Index: 1, MTU: 1500},
	}
	return h
}

// join gives two hosts an underlay: a veth pair with an address at each end.
func join(a, b *host, addrA, addrB string, mtu int) {
	a.t.Helper()
	run(a.t, "ip", "-n", a.ns, "link", "add", "eth0", "mtu", fmt.Sprint(mtu), "type", "veth", "peer", "name", "eth0", "netns", b.ns)
	for h, addr := range map[*host]string{a: addrA, b: addrB} {
		h.ip("link", "set", "eth0", "up", "mtu", fmt.Sprint(mtu))
		h.address(addr)
	}
}

// address moves the host's underlay to an address on eth0.
func (h *host) address(prefix string) {
	h.t.Helper()
	h.ip("addr", "add", prefix, "dev", "eth0", "nodad")
	h.opts.Underlay = hostlink.Underlay{Addr: netip.MustParsePrefix(prefix).Addr(), Dev: "eth0", MTU: 1500}
}

// inside runs f on a thread in the host's namespace that ends with it.
func (h *host) inside(f func() error) {
	h.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open("/run/netns/" + h.ns)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		h.t.Fatal(err)
	}
}

// begin starts an agent that is given the networks before it runs, and stops it
// with the test.
func (h *host) begin(networks ...dataplane.Network) *agent {
	h.t.Helper()
	sw, err := ovsctl.Connect(context.Background(), ovsctl.Options{Endpoint: h.ovs.DB, Bridge: bridge, Logger: h.opts.Logger})
	if err != nil {
		h.t.Fatal(err)
	}
	a := &agent{Plane: ovs.New(sw, h.links, h.opts), sw: sw}
	for _, n := range networks {
		if err := a.SetNetwork(context.Background(), n); !errors.Is(err, ovs.ErrNotReady) {
			h.t.Fatalf("SetNetwork before Run: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var stopped atomic.Bool
	a.stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			h.t.Errorf("Run: %v", err)
		}
		sw.Close()
	}
	h.t.Cleanup(a.stop)
	h.agent = a
	return a
}

// start is begin, and waits until the agent is ready.
func (h *host) start(networks ...dataplane.Network) *agent {
	h.t.Helper()
	a := h.begin(networks...)
	eventually(h.t, "ready", a.Ready)
	return a
}

// restart replaces the agent by another that wants the same.
func (h *host) restart(networks ...dataplane.Network) {
	h.t.Helper()
	h.agent.stop()
	h.start(networks...)
}

// Attach gives the network with the endpoint as one that has not joined, and then attaches it, as the driver does.
func (a *agent) Attach(ctx context.Context, n dataplane.Network, id string) error {
	before, i := n, slices.IndexFunc(n.Local, func(e dataplane.Endpoint) bool { return e.ID == id })
	before.Local = slices.Clone(n.Local)
	before.Local[i].Attached = false
	if err := a.SetNetwork(ctx, before); err != nil {
		return err
	}
	return a.Plane.Attach(ctx, dataplane.Change{Network: n.ID, Local: n.Local[i : i+1]}, id)
}

// attach joins an endpoint as Docker does: the container is a namespace.
func (h *host) attach(n dataplane.Network, id string) (container string) {
	h.t.Helper()
	if err := h.agent.Attach(h.ctx(), n, id); err != nil {
		h.t.Fatal(err)
	}
	e := n.Local[slices.IndexFunc(n.Local, func(e dataplane.Endpoint) bool { return e.ID == id })]
	container = newSpace(h.t)
	h.ip("link", "set", e.PeerLink, "netns", container, "name", "eth0")
	for _, a := range e.Addrs {
		bits := "/24"
		if a.Is6() {
			bits = "/64"
		}
		run(h.t, "ip", "-n", container, "addr", "add", a.String()+bits, "dev", "eth0", "nodad")
	}
	run(h.t, "ip", "-n", container, "link", "set", "eth0", "up")
	return container
}

func (h *host) set(n dataplane.Network) {
	h.t.Helper()
	if err := h.agent.SetNetwork(h.ctx(), n); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) remove(id string) {
	h.t.Helper()
	if err := h.agent.RemoveNetwork(h.ctx(), id); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	h.t.Cleanup(cancel)
	return ctx
}

func (h *host) ip(args ...string) string {
	h.t.Helper()
	return run(h.t, "ip", append([]string{"-n", h.ns}, args...)...)
}

// state is all that the agent may change, in a form without numbers that change by themselves.
func (h *host) state() string {
	h.t.Helper()
	state, err := h.look()
	if err != nil {
		h.t.Fatal(err)
	}
	return state
}

// look gives the state, or an error while the bridge is not there.
func (h *host) look() (string, error) {
	ports, err := exec.Command("ovs-vsctl", "--db="+h.ovs.DB, "--timeout=10", "list-ports", bridge).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ports: %w: %s", err, ports)
	}
	out := []string{"ports: " + strings.Join(strings.Fields(string(ports)), " ")}
	flows, err := h.dump()
	if err != nil {
		return "", err
	}
	for i, f := range flows {
		if cookie, rest, _ := strings.Cut(f, ", "); strings.HasPrefix(cookie, "cookie=0x53500000") {
			flows[i] = "ours " + rest // without its generation
		}
	}
	slices.Sort(flows)
	links, err := exec.Command("ip", "-n", h.ns, "-br", "link").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("links: %w: %s", err, links)
	}
	var names []string
	for line := range strings.Lines(string(links)) {
		name, _, _ := strings.Cut(strings.Fields(line)[0], "@")
		names = append(names, "link: "+name)
	}
	slices.Sort(names)
	return strings.Join(slices.Concat(out, flows, names), "\n"), nil
}

// dump gives the switch's flows, one each.
func (h *host) dump() ([]string, error) {
	out, err := exec.Command("ovs-ofctl", "-O", "OpenFlow14", "--timeout=10", "dump-flows", "unix:"+h.ovs.Mgmt(bridge),
		"--no-stats", "--no-names").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("flows: %w: %s", err, out)
	}
	var flows []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "cookie=") {
			flows = append(flows, line)
		}
	}
	return flows, nil
}

// flows are the switch's flows without their cookies.
func (h *host) flows() []string {
	h.t.Helper()
	flows, err := h.dump()
	if err != nil {
		h.t.Fatal(err)
	}
	for i, f := range flows {
		_, flows[i], _ = strings.Cut(f, ", ")
	}
	return flows
}

// generations are the cookies of our flows, each once.
func (h *host) generations() []string {
	h.t.Helper()
	var all []string
	for _, f := range h.ovs.Flows(bridge) {
		if c, _, _ := strings.Cut(f, ","); strings.HasPrefix(c, "cookie=0x5350") && !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

// emptyDB replaces the database by one without any row, as a reinstallation does.
func (h *host) emptyDB() {
	h.t.Helper()
	file := filepath.Join(h.ovs.RunDir, "conf.db")
	h.ovs.StopDB()
	if err := os.Remove(file); err != nil {
		h.t.Fatal(err)
	}
	run(h.t, "ovsdb-tool", "create", file, "/usr/share/openvswitch/vswitch.ovsschema")
	h.ovs.StartDB()
}

// link is the name of the only link of a kind, "" if there is none.
func (h *host) link(kind string) string {
	h.t.Helper()
	line := h.ip("-br", "link", "show", "type", kind)
	if line == "" {
		return ""
	}
	return strings.Fields(line)[0]
}

func reaches(from, to string, options ...string) error {
	out, err := exec.Command("ip", append([]string{"netns", "exec", from, "ping", "-c", "1", "-W", "1", to}, options...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ping %s: %w: %s", to, err, out)
	}
	return nil
}

// mustReach waits for the first answer, and then demands that none is lost.
func mustReach(t testing.TB, from string, to ...string) {
	t.Helper()
	for _, a := range to {
		eventually(t, "reach "+a, func() error { return reaches(from, a) })
		run(t, "ip", "netns", "exec", from, "ping", "-q", "-c", "5", "-i", "0.01", "-W", "2", a)
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// eventually polls until what is awaited is true, and says what was wrong last.
func eventually(t testing.TB, what string, is func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var last error
	if err := testenv.Poll(ctx, 10*time.Millisecond, func() bool { last = is(); return last == nil }); err != nil {
		t.Fatalf("%s: %v", what, last)
	}
}
