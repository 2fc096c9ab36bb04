package ovs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/dataplane/ovs"
)

// pair is two hosts with an endpoint each on one network.
type pair struct {
	a, b       *host
	atA, atB   string // the containers
	netA, netB dataplane.Network
}

func (p *pair) start(t *testing.T) {
	t.Helper()
	p.a.start()
	p.b.start()
	p.netA = peer(network("a", 1), "a", p.b.opts.Underlay.Addr.String(), 2)
	p.netB = peer(network("a", 2), "a", p.a.opts.Underlay.Addr.String(), 1)
	p.atA, p.atB = p.a.attach(p.netA, "a-1"), p.b.attach(p.netB, "a-2")
	p.mustTalk(t)
}

func (p *pair) mustTalk(t *testing.T) {
	t.Helper()
	mustReach(t, p.atA, "10.1.100.2", "fd00::64:0:0:0:2")
	mustReach(t, p.atB, "10.1.100.1", "fd00::64:0:0:0:1")
}

// mustCarry sends a packet of the greatest size that must pass whole.
func (p *pair) mustCarry(t *testing.T, mtu int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d bytes pass", mtu), func() error {
		return reaches(p.atA, "10.1.100.2", "-M", "do", "-s", fmt.Sprint(mtu-28))
	})
}

func kernelPair(t *testing.T, addrA, addrB string) *pair {
	p := &pair{a: newHost(t), b: newHost(t)}
	join(p.a, p.b, addrA, addrB, 1550)
	p.start(t)
	return p
}

func TestKernelTunnel(t *testing.T) {
	for name, underlay := range map[string][2]string{
		"over IPv4": {"192.0.2.1/24", "192.0.2.2/24"},
		"over IPv6": {"2001:db8::1/64", "2001:db8::2/64"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			p := kernelPair(t, underlay[0], underlay[1])
			p.mustCarry(t, 1450)
			if s := p.a.agent.Status(); s.Tunnel != dataplane.TunnelKernel || s.Err != nil {
				t.Errorf("status %+v", s)
			}
		})
	}
}

func TestKernelTunnelOverRestarts(t *testing.T) {
	p := kernelPair(t, "192.0.2.1/24", "192.0.2.2/24")
	before := p.a.state()

	undisturbed(t, 20, func() { p.a.restart(p.netA) }, p.a, p.b)
	p.mustTalk(t)
	if got := p.a.state(); got != before {
		t.Errorf("after restarts it is\n%s\nand was\n%s", got, before)
	}

	p.a.ip("link", "del", p.a.link("vxlan"))
	p.mustTalk(t)
	before = p.a.state()
	p.a.ovs.StopVswitchd()
	p.a.ovs.StartVswitchd()
	eventually(t, "as before", func() error { return same(p.a, before) })
	p.mustTalk(t)
	p.a.emptyDB()
	eventually(t, "as before", func() error { return same(p.a, before) })
	p.mustTalk(t)
}

func TestKernelTunnelChangesMTU(t *testing.T) {
	p := kernelPair(t, "192.0.2.1/24", "192.0.2.2/24")
	p.netA.MTU, p.netB.MTU = 1400, 1400
	for h, n := range map[*host]dataplane.Network{p.a: p.netA, p.b: p.netB} {
		h.set(n)
		if show := h.ip("link", "show", h.link("vxlan")); !strings.Contains(show, "mtu 1400") {
			t.Error(show)
		}
	}
	p.mustCarry(t, 1400)
}

func TestKernelTunnelMovesToAnotherUnderlay(t *testing.T) {
	p := kernelPair(t, "192.0.2.1/24", "192.0.2.2/24")
	old := p.a.link("vxlan")
	p.a.agent.stop()
	p.a.ip("addr", "flush", "dev", "eth0")
	p.a.address("192.0.2.7/24")
	p.a.start(p.netA)
	p.b.set(peer(network("a", 2), "a", "192.0.2.7", 1))
	if now := p.a.link("vxlan"); now == old || now == "" {
		t.Errorf("the device is %q and was %q", now, old)
	}
	p.mustTalk(t)
	if got := strings.Fields(p.a.ovs.Vsctl("list-ports", bridge)); len(got) != 2 {
		t.Errorf("ports: %v", got)
	}
}

// A host that lost its identity finds its own former record among those of its peers.
func TestOwnAddressIsNoPeer(t *testing.T) {
	p := kernelPair(t, "192.0.2.1/24", "192.0.2.2/24")
	p.a.set(peer(p.netA, "a", "192.0.2.1", 9))
	if got := p.a.forwardingEntries(p.a.link("vxlan")); strings.Contains(got, "192.0.2.1") {
		t.Errorf("frames are sent to this host itself:\n%s", got)
	}
	p.mustTalk(t)
}

// bridgeAddress gives the underlay's bridge its address.
func (h *host) bridgeAddress(number int) {
	h.t.Helper()
	h.ip("link", "set", "und", "up")
	h.ip("addr", "add", fmt.Sprintf("192.0.2.%d/24", number), "dev", "und")
}

func TestOVSTunnelInUserSpace(t *testing.T) {
	p := ovsPair(t)
	if p.a.link("vxlan") != "" {
		t.Error("there is a device")
	}
	p.mustCarry(t, 1450)
	before := p.a.state()
	undisturbed(t, 20, func() { p.a.restart(p.netA) }, p.a, p.b)
	p.mustTalk(t)
	p.a.ovs.StopVswitchd()
	p.a.ovs.StartVswitchd()
	// In user space a bridge's device goes with the switch, and its addresses with it.
	p.a.ip("addr", "flush", "dev", "und")
	p.a.bridgeAddress(1)
	p.mustTalk(t)
	p.a.ovs.Vsctl("del-port", bridge, "socketplane-vx")
	eventually(t, "as before", func() error { return same(p.a, before) })
	p.mustTalk(t)
	p.a.remove(p.netA.ID)
	if got := p.a.ovs.Vsctl("list-ports", bridge); got != "socketplane-vx" {
		t.Errorf("ports: %s", got)
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	for _, c := range []struct {
		name, want string
		damage     func(*host)
	}{
		{"no database", "start it (systemctl start openvswitch-switch)", func(h *host) { h.ovs.StopDB() }},
		{"no switch", "ovs-vswitchd is not running", func(h *host) { h.ovs.StopVswitchd() }},
		{"ovs tunnel without a bridge", "use --tunnel kernel, or move the interface into a bridge",
			func(h *host) { h.opts.Tunnel = dataplane.TunnelOVS }},
		{"foreign bridge", "delete it (ovs-vsctl del-br", func(h *host) { h.ovs.AddBridge(bridge) }},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			h := newHost(t)
			c.damage(h)
			h.begin(network("a", 1))
			eventually(t, "it is said", func() error {
				for _, err := range []error{
					h.agent.Ready(), h.agent.SetNetwork(context.Background(), network("a", 1)),
					h.agent.Attach(context.Background(), network("a", 1), "a-1"),
				} {
					if !errors.Is(err, ovs.ErrNotReady) || !strings.Contains(err.Error(), c.want) {
						return fmt.Errorf("it says: %w", err)
					}
				}
				return nil
			})
			select {
			case <-h.agent.Up():
				t.Error("it says that it was up")
			default:
			}
			if _, err := os.Stat("/run/netns/" + h.ns); err != nil || h.link("veth") != "" {
				t.Error("a link was made though nothing can be forwarded")
			}
		})
	}
}
