package ovs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// However a network changes, its flows computed in parts are those that the pipeline computes as
// a whole, and the changes lead from one state to the next.
func TestPartsAreTheWhole(t *testing.T) {
	for _, tunnel := range []dataplane.TunnelKind{dataplane.TunnelKernel, dataplane.TunnelOVS} {
		for _, datapath := range []string{ovsctl.DatapathNetdev, ovsctl.DatapathSystem} {
			t.Run(fmt.Sprintf("%s-%s", tunnel, datapath), func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, 2))
				r := &Reconciler{tunnel: tunnel, datapath: datapath, cookie: cookieOwner | 1}
				n := &network{device: device{name: "spx", port: dataplane.PortDeviceFirst}}
				inSwitch := flowSet{}
				whole := 0
				for revision := range uint64(300) {
					n.revision = revision
					if random.IntN(10) == 0 { // the tunnel comes or goes
						n.device.made = hostlink.VXLAN{Name: []string{"", "spx"}[random.IntN(2)]}
					}
					n.want = randomNetwork(random)
					flows := r.flowsOf(n, n.flows)
					if flows.parts == nil && flows.rest != nil {
						whole++
					}
					var c openflow.Change
					flows.from(n.flows, &c)
					apply(inSwitch, c)
					n.flows = flows
					want := wanted(r, n)
					if diff := differ(want, maps.Collect(flows.all())); diff != "" {
						t.Fatalf("revision %d: parts: %s\n%+v", n.revision, diff, n.want)
					}
					if diff := differ(want, inSwitch); diff != "" {
						t.Fatalf("revision %d: switch: %s\n%+v", n.revision, diff, n.want)
					}
					if flows.count() != len(want) {
						t.Fatalf("%d flows are counted, there are %d", flows.count(), len(want))
					}
				}
				if whole == 0 || whole > 250 {
					t.Errorf("%d of 300 networks were computed as a whole: the test means little", whole)
				}
			})
		}
	}
}

// randomNetwork has few endpoints of few identities, so that they come back, move and sometimes clash.
func randomNetwork(random *rand.Rand) dataplane.Network {
	n := dataplane.Network{ID: "n", VNI: 7}
	identity := func() (dataplane.MAC, []netip.Addr) {
		i := byte(random.IntN(100))
		addrs := []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, i})}
		switch random.IntN(100) {
		case 0:
			addrs = append(addrs, netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: i}))
		case 1:
			addrs = nil
		default:
			if i%3 == 0 {
				addrs = append(addrs, netip.AddrFrom16([16]byte{0: 0xfd, 15: i}))
			}
		}
		return dataplane.MAC{0: 2, 5: i}, addrs
	}
	for i := range random.IntN(5) {
		e := dataplane.Endpoint{Port: uint32(1 + i + random.IntN(2)*10), Attached: random.IntN(4) > 0}
		e.MAC, e.Addrs = identity()
		n.Local = append(n.Local, e)
	}
	for i := range random.IntN(4) {
		p := dataplane.Peer{VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}
		for range random.IntN(4) {
			var e dataplane.PeerEndpoint
			e.MAC, e.Addrs = identity()
			p.Endpoints = append(p.Endpoints, e)
		}
		n.Remote = append(n.Remote, p)
	}
	return n
}

func wanted(r *Reconciler, n *network) flowSet {
	want := n.want
	want.Local = slices.DeleteFunc(slices.Clone(want.Local), func(e dataplane.Endpoint) bool { return !e.Attached })
	if len(want.Local) == 0 {
		return nil
	}
	return r.keyed(pipeline.Network(r.pipeline(), want, n.tunnelPort()))
}

func apply(flows flowSet, c openflow.Change) {
	for _, f := range c.Delete {
		delete(flows, f.Key())
	}
	for _, f := range c.Add {
		flows[f.Key()] = f
	}
}

func differ(want, got flowSet) string {
	for key, f := range want {
		if g, ok := got[key]; !ok {
			return "missing " + key
		} else if !f.Equal(g) {
			return "other actions " + key
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			return "too many " + key
		}
	}
	return ""
}
