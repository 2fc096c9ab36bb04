package ovs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// dice makes changes of a network whose endpoints have few identities, so that they come back, move between hosts and clash.
type dice struct{ *rand.Rand }

func (d dice) identity() (dataplane.MAC, []netip.Addr) {
	i := byte(d.IntN(24))
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 100, byte(d.IntN(24))})}
	if i%3 == 0 {
		addrs = append(addrs, netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(d.IntN(24))}))
	}
	if d.IntN(10) == 0 { // that of another, perhaps
		addrs = append(addrs, pipeline.LinkLocal(dataplane.MAC{0: 2, 4: 100, 5: byte(d.IntN(24))}))
	}
	return dataplane.MAC{0: 2, 4: 100, 5: i}, addrs
}

// local has no links: flows do not depend on them.
func (d dice) local(i int) dataplane.Endpoint {
	id := fmt.Sprintf("l%d", i)
	e := dataplane.Endpoint{ID: id, Port: uint32(i + 1), Attached: d.IntN(4) > 0, HostLink: "sph" + id, PeerLink: "spp" + id}
	e.MAC, e.Addrs = d.identity()
	return e
}

func (d dice) peer(host int) dataplane.PeerChange {
	c := dataplane.PeerChange{Host: fmt.Sprintf("h%d", host), VTEP: netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + d.IntN(5))})}
	if d.IntN(6) == 0 {
		c.Gone = true
		return c
	}
	for i := range 6 {
		switch d.IntN(4) {
		case 0:
			e := dataplane.PeerEndpoint{ID: fmt.Sprintf("r%d", i)}
			e.MAC, e.Addrs = d.identity()
			c.Set = append(c.Set, e)
		case 1:
			c.Unset = append(c.Unset, fmt.Sprintf("r%d", i))
		}
	}
	return c
}

func (d dice) change(id string) dataplane.Change {
	c := dataplane.Change{Network: id}
	for i := range 4 {
		switch d.IntN(8) {
		case 0:
			c.Local = append(c.Local, d.local(i))
		case 1:
			c.LocalGone = append(c.LocalGone, fmt.Sprintf("l%d", i))
		}
	}
	for host := range 5 {
		if d.IntN(3) == 0 {
			c.Peers = append(c.Peers, d.peer(host))
		}
	}
	return c
}

// TestRandomChanges: after any sequence of changes and of whole networks, the switch has exactly the flows that the pipeline computes of
// all that was said, and the kernel the forwarding entries.
func TestRandomChanges(t *testing.T) {
	h := newHost(t)
	h.start()
	d := dice{rand.New(rand.NewPCG(3, uint64(len(t.Name()))))}
	n := dataplane.Network{ID: "network-a", VNI: 100, MTU: 1450}
	h.set(n)
	clashes := 0
	for step := range 250 {
		was := n
		if d.IntN(12) == 0 {
			n = dataplane.Network{ID: n.ID, VNI: n.VNI + uint32(d.IntN(2)), MTU: n.MTU}
			for range 3 {
				n = clean(d.change(n.ID).Apply(n))
			}
			if d.IntN(3) == 0 {
				h.remove(n.ID)
			}
			h.set(n)
		} else {
			c := d.change(n.ID)
			n = clean(c.Apply(n))
			if err := h.agent.Apply(h.ctx(), c); err != nil {
				t.Fatal(err)
			}
		}
		if clash(n) {
			clashes++
		}
		if diff := h.compare(n); diff != "" {
			t.Fatalf("step %d: %s\nwas %+v\nis %+v", step, diff, was, n)
		}
	}
	if clashes < 50 || clashes > 240 {
		t.Errorf("in %d of 250 states identities clashed: the test means little", clashes)
	}
}

// clean leaves out hosts without endpoints, as the plane does.
func clean(n dataplane.Network) dataplane.Network {
	n.Remote = slices.DeleteFunc(slices.Clone(n.Remote), func(p dataplane.Peer) bool { return len(p.Endpoints) == 0 })
	return n
}

func clash(n dataplane.Network) bool {
	macs := map[dataplane.MAC]bool{}
	for _, e := range n.Local {
		if e.Attached && macs[e.MAC] {
			return true
		}
		macs[e.MAC] = macs[e.MAC] || e.Attached
	}
	for _, p := range n.Remote {
		for _, e := range p.Endpoints {
			if macs[e.MAC] {
				return true
			}
			macs[e.MAC] = true
		}
	}
	return false
}

// compare says in what the switch's flows and the device's entries differ from those of a network that is alone on the host.
func (h *host) compare(n dataplane.Network) string {
	h.t.Helper()
	n.Local = slices.DeleteFunc(slices.Clone(n.Local), func(e dataplane.Endpoint) bool { return !e.Attached })
	n.Remote = slices.DeleteFunc(slices.Clone(n.Remote), func(p dataplane.Peer) bool {
		return !dataplane.TunnelBetween(h.opts.Underlay.Addr, p.VTEP)
	})
	cfg := pipeline.Config{Tunnel: dataplane.TunnelKernel, NDExtensions: true, Host: h.opts.Host}
	want := pipeline.Base(cfg)
	if device, port := h.devicePort(n.ID); len(n.Local) > 0 {
		want = append(want, pipeline.Network(cfg, n, port)...)
		if diff := h.compareEntries(n, device); diff != "" {
			return diff
		}
	}
	conn, err := openflow.Dial(h.ctx(), h.ovs.Mgmt(bridge))
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	have, err := conn.Dump(context.Background(), 0, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	if got := h.agent.Status().Flows; got != len(want) {
		return fmt.Sprintf("status tells %d flows, %d are wanted", got, len(want))
	}
	return differ(lined(have), lined(want))
}

func (h *host) compareEntries(n dataplane.Network, device string) string {
	have, err := h.links.FDB(h.ctx(), device)
	if err != nil {
		return err.Error()
	}
	var got, want []string
	for _, e := range have {
		got = append(got, fmt.Sprint(e))
	}
	seen := map[string]bool{}
	add := func(mac dataplane.MAC, vtep netip.Addr, once string) {
		if !seen[once] {
			seen[once] = true
			want = append(want, fmt.Sprintf("{%s %s}", mac, vtep))
		}
	}
	for _, e := range n.Local {
		seen[e.MAC.String()] = true
	}
	for _, p := range n.Remote {
		add(dataplane.MAC{}, p.VTEP, p.VTEP.String())
		for _, e := range p.Endpoints {
			add(e.MAC, p.VTEP, e.MAC.String())
		}
	}
	return differ(got, want)
}

func lined(flows []openflow.Flow) (out []string) {
	for _, f := range flows {
		f.Cookie = 0
		out = append(out, f.String())
	}
	return out
}

// differ says what two lists do not have in common.
func differ(got, want []string) string {
	var diff []string
	for _, w := range want {
		if !slices.Contains(got, w) {
			diff = append(diff, "missing "+w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			diff = append(diff, "too many "+g)
		}
	}
	return strings.Join(diff, "\n")
}

// devicePort is the network's device with its OpenFlow port.
func (h *host) devicePort(id string) (string, uint32) {
	for _, p := range h.agent.sw.Ports() {
		if p.ExternalIDs[ovsctl.MarkKey+"-network"] == id && p.OFPort >= dataplane.PortDeviceFirst {
			return p.Name, p.OFPort
		}
	}
	return "", 0
}
