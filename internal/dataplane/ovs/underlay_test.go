package ovs_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
)

// TestKernelTunnelFollowsTheUnderlay: the host's address changes while its agent runs, and containers keep theirs.
func TestKernelTunnelFollowsTheUnderlay(t *testing.T) {
	p := kernelPair(t, "192.0.2.1/24", "192.0.2.2/24")
	for _, to := range [][2]string{{"192.0.2.7/24", "192.0.2.2/24"}, {"2001:db8::7/64", "2001:db8::2/64"}} {
		p.a.ip("addr", "flush", "dev", "eth0")
		p.b.ip("addr", "flush", "dev", "eth0")
		for i, h := range []*host{p.a, p.b} {
			h.address(to[i])
			h.agent.SetUnderlay(h.opts.Underlay)
		}
		p.netA.Remote[0].VTEP, p.netB.Remote[0].VTEP = p.b.opts.Underlay.Addr, p.a.opts.Underlay.Addr
		p.a.set(p.netA)
		p.b.set(p.netB)
		p.mustTalk(t)
		eventually(t, "nothing is wrong", func() error { return p.a.agent.Status().Err })
		for _, h := range []*host{p.a, p.b} {
			shown := h.ip("-d", "link", "show", "type", "vxlan")
			if strings.Count(shown, " vxlan id ") != 1 || !strings.Contains(shown, "local "+h.opts.Underlay.Addr.String()+" ") {
				t.Errorf("devices of %s:\n%s", h.opts.Underlay.Addr, shown)
			}
		}
	}
}

// TestAddressOfAPeerIsOwnLater: a peer's record with an address that this host gets later is left out from then on.
func TestAddressOfAPeerIsOwnLater(t *testing.T) {
	p := kernelPair(t, "192.0.2.1/24", "192.0.2.2/24")
	to := func(addr netip.Addr) func() error {
		return func() error {
			dev := p.a.link("vxlan")
			if dev == "" {
				return errors.New("there is no device")
			}
			out, err := exec.Command("bridge", "-n", p.a.ns, "fdb", "show", "dev", dev).CombinedOutput()
			shown := string(out)
			if err != nil { // it was replaced at this moment
				return fmt.Errorf("%w: %s", err, shown)
			}
			if strings.Contains(shown, "dst 192.0.2.2 ") != (addr != p.b.opts.Underlay.Addr) {
				return fmt.Errorf("with the address %s the entries are %s", addr, shown)
			}
			return nil
		}
	}
	for _, addr := range []netip.Addr{p.b.opts.Underlay.Addr, p.a.opts.Underlay.Addr} {
		p.a.agent.SetUnderlay(hostlink.Underlay{Addr: addr, Dev: "eth0", MTU: 1500})
		eventually(t, "peers with the address "+addr.String(), to(addr))
	}
}

// TestPeersThatNoTunnelReaches: a host whose record has an address of the other IP family, or none that can be sent to, keeps no
// container from joining, and the other hosts are reached.
func TestPeersThatNoTunnelReaches(t *testing.T) {
	for name, underlay := range map[string][2]string{
		"IPv4": {"192.0.2.1/24", "192.0.2.2/24"},
		"IPv6": {"2001:db8::1/64", "2001:db8::2/64"},
	} {
		t.Run(name, func(t *testing.T) {
			p := kernelPair(t, underlay[0], underlay[1])
			for i, vtep := range []string{"192.0.2.9", "2001:db8::9", "0.0.0.0", "::"} {
				if netip.MustParseAddr(vtep).Is4() != p.a.opts.Underlay.Addr.Is4() || i > 1 {
					p.netA = peer(p.netA, "a", vtep, byte(10+i))
				}
			}
			p.netA.Local = append(p.netA.Local, local("a", 3))
			p.b.set(peer(network("a", 2), "a", p.a.opts.Underlay.Addr.String(), 1, 3))
			third := p.a.attach(p.netA, "a-3")
			mustReach(t, third, "10.1.100.2")
			p.mustTalk(t)
			if err := p.a.agent.Status().Err; err != nil {
				t.Errorf("the data plane says %v", err)
			}
		})
	}
}

// TestOVSTunnelFollowsTheUnderlay is the same for the switch's own tunnel.
func TestOVSTunnelFollowsTheUnderlay(t *testing.T) {
	p := ovsPair(t)
	p.a.ip("addr", "flush", "dev", "und")
	p.a.bridgeAddress(7)
	p.a.opts.Underlay.Addr = netip.MustParseAddr("192.0.2.7")
	p.a.agent.SetUnderlay(p.a.opts.Underlay)
	p.netB.Remote[0].VTEP = p.a.opts.Underlay.Addr
	p.b.set(p.netB)
	p.mustTalk(t)
	if got := p.a.ovs.Vsctl("get", "interface", "socketplane-vx", "options:local_ip"); !strings.Contains(got, "192.0.2.7") {
		t.Errorf("the tunnel's address is %s", got)
	}
}

// TestMTUFollowsTheUnderlay: containers' MTU is that of the underlay as it is now, and devices follow the network's.
func TestMTUFollowsTheUnderlay(t *testing.T) {
	p := kernelPair(t, "192.0.2.1/24", "192.0.2.2/24")
	u := p.a.opts.Underlay
	u.MTU = 1400
	p.a.agent.SetUnderlay(u)
	if got := p.a.agent.MTU(); got != 1350 {
		t.Errorf("the containers' MTU is %d", got)
	}
	p.netA.MTU = 1350
	p.a.set(p.netA)
	if shown := p.a.ip("link", "show", p.a.link("vxlan")); !strings.Contains(shown, "mtu 1350") {
		t.Errorf("the device is %s", shown)
	}
	p.mustTalk(t)
}

// ovsPair is two hosts whose underlay's address is on a bridge of the switch.
func ovsPair(t *testing.T) *pair {
	p := &pair{a: newHost(t), b: newHost(t)}
	join(p.a, p.b, "198.51.100.1/24", "198.51.100.2/24", 1550)
	for i, h := range []*host{p.a, p.b} {
		h.ovs.AddBridge("und", "fail_mode=standalone")
		h.ovs.Vsctl("add-port", "und", "eth0")
		h.ip("addr", "flush", "dev", "eth0")
		h.bridgeAddress(i + 1)
		h.opts.Underlay = hostlink.Underlay{Addr: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i+1)), Dev: "und", MTU: 1500}
	}
	p.start(t)
	if s := p.a.agent.Status(); s.Tunnel != dataplane.TunnelOVS {
		t.Fatalf("status %+v", s)
	}
	return p
}

// TestAddressesOfOthersAreRemoved: what a DHCP client or an operator puts on a link of ours goes, at once where links are ours by their
// alias, and containers talk on.
func TestAddressesOfOthersAreRemoved(t *testing.T) {
	p := kernelPair(t, "192.0.2.1/24", "192.0.2.2/24")
	for i, dev := range []string{p.a.link("vxlan"), p.netA.Local[0].HostLink} {
		p.a.ip("addr", "add", fmt.Sprintf("10.1.100.%d/24", 100+i), "dev", dev)
		eventually(t, "the address is removed from "+dev, func() error {
			if shown := p.a.ip("-4", "addr", "show", "dev", dev); strings.Contains(shown, "inet ") {
				return errors.New(shown)
			}
			return nil
		})
	}
	// The address is gone before its route is, and both are noted when both are gone.
	eventually(t, "both are noted", func() error {
		if got := p.a.agent.Status().Drift; got.Strays < 2 || !strings.Contains(got.Stray, "10.1.100.101/24") {
			return fmt.Errorf("drift is %+v", got)
		}
		return nil
	})
	p.mustTalk(t)
}

// TestAddressesThatComeBack: a program that puts an address back whenever it is gone makes neither itself nor the agent busy, and fills no log.
func TestAddressesThatComeBack(t *testing.T) {
	p := kernelPair(t, "192.0.2.1/24", "192.0.2.2/24")
	dev := p.a.link("vxlan")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	put := 0
	for began := p.a.agent.Status().Passes; ctx.Err() == nil; {
		if shown := p.a.ip("-4", "addr", "show", "dev", dev); !strings.Contains(shown, "inet ") {
			put++
			p.a.ip("addr", "add", "10.1.100.101/24", "dev", dev)
		}
		if n := p.a.agent.Status().Passes - began; n > 200 {
			t.Fatalf("%d passes", n)
		}
	}
	if put < 3 || put > 8 {
		t.Errorf("the address was removed %d times in 3 s", put)
	}
	eventually(t, "the address is removed when nobody puts it back", func() error {
		if shown := p.a.ip("-4", "addr", "show", "dev", dev); strings.Contains(shown, "inet ") {
			return errors.New(shown)
		}
		return nil
	})
	p.mustTalk(t)
}
