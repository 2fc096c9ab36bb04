package scale

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/internal/libnetwork"
)

// crowdTime is when no further tenth of a crowd is begun.
const crowdTime = 6 * time.Minute

// measureCrowd fills one host with endpoints of one network; each tenth is followed by as many plain ports on a switch of its own.
func measureCrowd(t *testing.T, endpoints int) *Crowd {
	h, plain := newHost(t), newHost(t)
	h.start()
	ctx := t.Context()
	n, err := newSegment(ctx, h.Docker(), libnetwork.ID("net", 0), wide.String(), local.String())
	if err != nil {
		t.Fatal(err)
	}
	plain.OVS.AddBridge("br0")
	c, share := &Crowd{}, max(1, endpoints/10)
	began := time.Now()
	for c.Endpoints < endpoints && time.Since(began) < crowdTime {
		var took, plainTook []float64
		agent, ours, theirs := h.agentCPU(), h.switchCPU(), plain.switchCPU()
		for range share {
			attach, err := n.join(ctx)
			if err != nil {
				c.Failed = fmt.Sprintf("endpoint %d: %v", c.Endpoints+len(took)+1, err)
				return c
			}
			took = append(took, milli(attach))
		}
		h.settle()
		agent, ours = h.agentCPU()-agent, h.switchCPU()-ours
		for i := range share {
			plainTook = append(plainTook, milli(plain.addPort(c.Endpoints+i)))
		}
		c.Endpoints += share
		each := func(cpu time.Duration) float64 { return milli(cpu) / float64(share) }
		c.AgentCPU, c.SwitchCPU = append(c.AgentCPU, each(agent)), append(c.SwitchCPU, each(ours))
		c.PlainCPU = append(c.PlainCPU, each(plain.switchCPU()-theirs))
		c.Attach, c.Plain = append(c.Attach, median(took)), append(c.Plain, median(plainTook))
		last := len(c.Attach) - 1
		t.Logf("%4.0f s  %d endpoints: %.1f ms, agent %.1f ms, switch %.1f ms; plain %.1f ms, switch %.1f ms", time.Since(began).Seconds(), c.Endpoints,
			c.Attach[last], c.AgentCPU[last], c.SwitchCPU[last], c.Plain[last], c.PlainCPU[last])
	}
	return c
}

// addPort makes a pair of links and an Open vSwitch port of one of them, as people do by hand.
func (h *host) addPort(i int) time.Duration {
	h.T.Helper()
	name := fmt.Sprintf("plain%d", i)
	began := time.Now()
	h.IP("link", "add", name, "type", "veth", "peer", "name", name+"c")
	h.IP("link", "set", name, "up")
	h.OVS.Vsctl("add-port", "br0", name)
	return time.Since(began)
}

func median(of []float64) float64 {
	if len(of) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(of))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// measureNetworks makes many networks on one host, with a container on each; each is followed by plain ports on a switch of its own.
func measureNetworks(t *testing.T, networks int) *Networks {
	h, plain := newHost(t), newHost(t)
	h.start()
	d := h.Docker()
	plain.OVS.AddBridge("br0")
	n := &Networks{}
	share := max(1, networks/10)
	ours, theirs := h.switchCPU(), plain.switchCPU()
	for i := range networks {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 128, byte(i), 0}), 24)
		began := time.Now()
		s, err := newSegment(t.Context(), d, libnetwork.ID(fmt.Sprintf("net%09d", i), 0), subnet.String(), "")
		create := milli(time.Since(began))
		var attach time.Duration
		if err == nil {
			s.made = i // its MAC is no other's
			attach, err = s.join(t.Context())
		}
		if err != nil {
			n.Failed = fmt.Sprintf("network %d: %v", i+1, err)
			return n
		}
		n.Create, n.Attach, n.Count = append(n.Create, create), append(n.Attach, milli(attach)), i+1
		n.Plain = append(n.Plain, milli(plain.addNetwork(i)))
		if n.Count%share == 0 {
			h.settle()
			n.SwitchCPU = append(n.SwitchCPU, milli(h.switchCPU()-ours)/float64(share))
			n.PlainCPU = append(n.PlainCPU, milli(plain.switchCPU()-theirs)/float64(share))
			last := len(n.PlainCPU) - 1
			t.Logf("%d networks: create %.1f ms, attach %.1f ms, switch %.1f ms; plain %.1f ms, switch %.1f ms", n.Count, median(n.Create[i+1-share:]),
				median(n.Attach[i+1-share:]), n.SwitchCPU[last], median(n.Plain[i+1-share:]), n.PlainCPU[last])
			ours, theirs = h.switchCPU(), plain.switchCPU()
		}
	}
	return n
}

// addNetwork makes a VXLAN device and a pair of links, and Open vSwitch ports of both, as people do by hand.
func (h *host) addNetwork(i int) time.Duration {
	h.T.Helper()
	device, name := fmt.Sprintf("plainvx%d", i), fmt.Sprintf("plain%d", i)
	began := time.Now()
	h.IP("link", "add", device, "up", "type", "vxlan", "id", fmt.Sprint(i+1), "local", underlay.Addr().String(), "dstport", "4789", "nolearning")
	h.IP("link", "add", name, "up", "type", "veth", "peer", "name", name+"c")
	h.OVS.Vsctl("add-port", "br0", device, "--", "add-port", "br0", name)
	return time.Since(began)
}
