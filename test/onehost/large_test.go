package onehost

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
	"github.com/socketplane/socketplane/test/internal/bare"
)

// The size of a large cluster, as a host sees it.
const (
	largeNetworks = 100
	largeLocal    = 200
	largeRemote   = 10000
	largeHosts    = 40 // other ones, of which each network is on four
)

// What is promised, and how much longer it may take on a machine that does other things too.
const (
	answersWithin = time.Second
	trueWithin    = 3 * time.Second
	busy          = 10
)

// TestLargeStart: an agent that starts on a host with 200 endpoints on 100 networks, on which other hosts have 10,000, answers
// Docker soon and has all flows true soon after: where the switch has them already, and where it has none.
func TestLargeStart(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 endpoints take a minute")
	}
	server := testenv.Consul(t)
	h := newHost(t, "--store", "consul", "--consul-addr", "unix://"+server.Socket)
	h.start()
	ctx := h.Deadline(10 * time.Minute)
	kv, err := consul.Open(consul.Options{Address: server.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	if err := h.large(ctx, kv); err != nil {
		t.Fatal(err)
	}
	h.Within(3*patience, "all peers are known", func() error {
		if got := h.metric("socketplane_peer_endpoints"); got != largeRemote {
			return fmt.Errorf("%v of %d", got, largeRemote)
		}
		return nil
	})
	flows := 0
	h.Within(3*patience, "the switch has all flows that are wanted", func() error {
		flows = h.flowsOf(h.generation())
		if want := h.metric("socketplane_flows"); float64(flows) != want {
			return fmt.Errorf("%d of %v", flows, want)
		}
		return nil
	})
	if flows < largeRemote {
		t.Fatalf("%d flows are too few for this test", flows)
	}
	all := h.flowTexts()
	for _, c := range []struct {
		name  string
		start func()
		same  bool // ports keep their numbers
	}{
		{"the switch has all flows", func() {}, true},
		{"the switch has none", func() { h.OVS.StopVswitchd(); h.OVS.StartVswitchd() }, false},
	} {
		h.kill()
		c.start()
		before := h.generation()
		// No flow can be made before Docker is answered: so that does not wait for them.
		h.OVS.PauseVswitchd()
		began := time.Now()
		h.begin()
		h.Within(busy*answersWithin, "Docker is answered", func() error {
			_, err := h.Docker().Call(ctx, "IpamDriver.GetDefaultAddressSpaces", object{})
			return err
		})
		answered := time.Since(began)
		h.OVS.ResumeVswitchd()
		h.Within(busy*trueWithin, "all flows are true", func() error {
			now := h.generation()
			if h.metric(`socketplane_reconcile_runs_total{result="ok"}`) == 0 || now == "" {
				return errors.New("not looked at yet")
			}
			if c.same && now != before {
				return fmt.Errorf("the flows of %s are not taken over: now they are of %s", before, now)
			}
			if got := h.flowsOf(now); got != flows {
				return fmt.Errorf("%d flows, want %d", got, flows)
			}
			return nil
		})
		t.Logf("%s: Docker was answered %v after the agent's start, %d flows were true after %v, with %v s of CPU", c.name,
			answered.Round(time.Millisecond), flows, time.Since(began).Round(time.Millisecond), h.metric("process_cpu_seconds_total"))
		if now := h.flowTexts(); c.same && !slices.Equal(now, all) {
			t.Errorf("%s: the flows differ from those before:\n%s", c.name, difference(all, now))
		} else if len(now) != len(all) {
			t.Errorf("%s: the bridge has %d flows, want %d", c.name, len(now), len(all))
		}
	}
}

// flowTexts are the bridge's flows, without cookies, in order.
func (h *host) flowTexts() []string {
	h.T.Helper()
	flows := h.OVS.Flows(bare.Bridge)
	for i, f := range flows {
		flows[i] = anyCookie.ReplaceAllString(f, "")
	}
	slices.Sort(flows)
	return flows
}

var anyCookie = regexp.MustCompile(`cookie=0x[0-9a-f]+,? ?`)

// difference names up to three flows that are in one list only.
func difference(before, after []string) string {
	var text strings.Builder
	for _, side := range []struct {
		what       string
		has, other []string
	}{{"gone", before, after}, {"new", after, before}} {
		n := 0
		for _, f := range side.has {
			if _, both := slices.BinarySearch(side.other, f); !both && n < 3 {
				fmt.Fprintf(&text, "%s: %s\n", side.what, f)
				n++
			}
		}
	}
	return text.String()
}

// large makes the networks and endpoints of this host, and what other hosts would have written.
func (h *host) large(ctx context.Context, kv store.KV) error {
	d := h.Docker()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2) // a busy machine has ten seconds for each call
	for i := range largeNetworks {
		g.Go(func() error {
			n, err := d.Network(gctx, id("net", i), subnet(i).String(), "")
			if err != nil {
				return err
			}
			for k := range largeLocal / largeNetworks {
				number := i*1000 + k
				if _, err := n.Join(gctx, id("ep", number), mac(number)); err != nil {
					return err
				}
			}
			for k := range 4 {
				if err := elsewhere(gctx, kv, i, k); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func subnet(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100, byte(i), 0}), 24)
}

// elsewhere puts endpoints of another host on a network.
func elsewhere(ctx context.Context, kv store.KV, network, k int) error {
	number := (network*4 + k) % largeHosts
	c := store.NewCluster(kv, fmt.Sprintf("host%02d", number))
	if err := c.PutHost(ctx, store.Host{Name: c.Host(), VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + number)})}); err != nil {
		return err
	}
	n, err := c.Bind(ctx, store.Binding{DockerID: id("remote", network), Pools: []netip.Prefix{subnet(network)}})
	if err != nil {
		return err
	}
	const each = largeRemote / largeNetworks / 4
	var all []store.Endpoint
	for i := range each {
		addr := subnet(network).Addr().As4()
		addr[3] = byte(100 + k*each + i)
		all = append(all, store.Endpoint{
			ID: fmt.Sprintf("r%d-%d-%d", network, k, i), MAC: mac(1<<24 + network*1000 + k*each + i), Addrs: []netip.Addr{netip.AddrFrom4(addr)},
		})
	}
	return c.PutEndpoints(ctx, n.ID, all)
}

var cookie = regexp.MustCompile(`cookie=(0x5350[0-9a-f]+)`)

// generation is the highest cookie of our flows, "" if there is none.
func (h *host) generation() string {
	out, _ := exec.Command("ovs-ofctl", "-O", "OpenFlow14", "--timeout=20", "dump-flows", "unix:"+h.OVS.Mgmt(bare.Bridge), "table=0").CombinedOutput()
	highest := ""
	for _, m := range cookie.FindAllStringSubmatch(string(out), -1) {
		highest = max(highest, m[1]) // of one length
	}
	return highest
}

var flowCount = regexp.MustCompile(`flow_count=(\d+)`)

// flowsOf counts the flows of a generation.
func (h *host) flowsOf(generation string) int {
	if generation == "" {
		return 0
	}
	out, _ := exec.Command("ovs-ofctl", "-O", "OpenFlow14", "--timeout=20", "dump-aggregate", "unix:"+h.OVS.Mgmt(bare.Bridge), "cookie="+generation+"/-1").CombinedOutput()
	m := flowCount.FindSubmatch(out)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1])) // digits
	return n
}

// containers numbers the namespaces of containers.
var containers atomic.Int32

// container moves an endpoint's link into a namespace of its own, as Docker does, and returns its name.
func (h *host) container(e *endpoint) string {
	h.T.Helper()
	name := fmt.Sprintf("%s-%d", h.NS, containers.Add(1))
	h.Run("ip", "netns", "add", name)
	h.T.Cleanup(func() { h.Run("ip", "netns", "del", name) })
	h.IP("link", "set", e.Link, "netns", name, "name", "eth0")
	h.Run("ip", "-n", name, "addr", "add", e.Addr+"/22", "dev", "eth0")
	h.Run("ip", "-n", name, "link", "set", "eth0", "up")
	return name
}
