package ovs

import (
	"iter"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// flowSet has flows by their keys.
type flowSet map[string]openflow.Flow

// flowParts are a network's flows in parts without common keys: those of each endpoint, and the
// rest. All that a part depends on is its key, so when one endpoint of thousands changes,
// only its part and the rest are computed and compared.
//
// That is right as long as no two endpoints share a MAC or an address. While a container
// moves they may; then all flows are in the rest.
type flowParts struct {
	parts map[partKey]flowSet
	rest  flowSet
	core  dataplane.Network // from what rest was computed, and config
	base  basis
}

// partKey is one endpoint: a local one has a port, a remote one a VTEP.
type partKey struct {
	mac   dataplane.MAC
	port  uint32
	vtep  netip.Addr
	addrs string
}

// flowsOf are the wanted flows of a network; what is in former and still right is used again.
func (r *Reconciler) flowsOf(n *network, former flowParts) flowParts {
	want := n.want
	want.Local = slices.DeleteFunc(slices.Clone(want.Local), func(e dataplane.Endpoint) bool { return !e.Attached })
	if len(want.Local) == 0 {
		return flowParts{} // nobody here to send or receive
	}
	f := flowParts{base: r.basisOf(n)}
	f.base.revision = 0
	if former.base != f.base {
		former = flowParts{}
	}
	if shared(want) {
		f.rest = r.computed(n, want)
		return f
	}
	f.core = core(want)
	if reflect.DeepEqual(f.core, former.core) {
		f.rest = former.rest
	} else {
		f.rest = r.computed(n, f.core)
		maps.DeleteFunc(f.rest, func(_ string, f openflow.Flow) bool { return !common(f) })
	}
	f.parts = make(map[partKey]flowSet, len(former.parts)+1)
	for key, alone := range endpoints(want) {
		part, ok := former.parts[key]
		if !ok {
			part = r.computed(n, alone())
			maps.DeleteFunc(part, func(_ string, f openflow.Flow) bool { return common(f) })
		}
		f.parts[key] = part
	}
	return f
}

// computed are the flows of a network, by key.
func (r *Reconciler) computed(n *network, want dataplane.Network) flowSet {
	return r.keyed(pipeline.Network(r.pipeline(), want, n.tunnelPort()))
}

// common says whether a flow is of the network as a whole: it floods, or takes in what comes by tunnel.
func common(f openflow.Flow) bool {
	if f.Table != pipeline.TableClassify {
		return f.Table == pipeline.TableFlood
	}
	for _, a := range f.Actions {
		if set, ok := a.(openflow.SetField); ok && set.ID == pipeline.RegOrigin {
			return set.Value[len(set.Value)-1] == byte(pipeline.FromTunnel)
		}
	}
	return false
}

// core is a network as far as its common flows depend on it: ports and hosts.
func core(want dataplane.Network) dataplane.Network {
	out := dataplane.Network{VNI: want.VNI}
	for _, e := range want.Local {
		out.Local = append(out.Local, dataplane.Endpoint{Port: e.Port})
	}
	for _, p := range want.Remote {
		if len(p.Endpoints) > 0 {
			out.Remote = append(out.Remote, dataplane.Peer{VTEP: p.VTEP, Endpoints: make([]dataplane.PeerEndpoint, 1)})
		}
	}
	return out
}

// endpoints are a network's endpoints, each with a network that it has for itself.
func endpoints(want dataplane.Network) iter.Seq2[partKey, func() dataplane.Network] {
	return func(yield func(partKey, func() dataplane.Network) bool) {
		for _, e := range want.Local {
			key := partKey{mac: e.MAC, port: e.Port, addrs: packed(e.Addrs)}
			if !yield(key, func() dataplane.Network {
				return dataplane.Network{VNI: want.VNI, Local: []dataplane.Endpoint{e}}
			}) {
				return
			}
		}
		for _, p := range want.Remote {
			for _, e := range p.Endpoints {
				key := partKey{mac: e.MAC, vtep: p.VTEP, addrs: packed(e.Addrs)}
				if !yield(key, func() dataplane.Network {
					return dataplane.Network{VNI: want.VNI, Remote: []dataplane.Peer{{VTEP: p.VTEP, Endpoints: []dataplane.PeerEndpoint{e}}}}
				}) {
					return
				}
			}
		}
	}
}

func packed(addrs []netip.Addr) string {
	var buf [64]byte
	b := buf[:0]
	for _, a := range addrs {
		a16 := a.As16()
		b = append(b, byte(a.BitLen()))
		b = append(b, a16[:]...)
	}
	return string(b)
}

// shared says whether two endpoints share a MAC or an address. Link-local addresses that were
// given count as shared: one may be another endpoint's own.
func shared(want dataplane.Network) bool {
	macs, addrs := map[dataplane.MAC]bool{}, map[netip.Addr]bool{}
	seen := func(mac dataplane.MAC, of []netip.Addr) bool {
		if macs[mac] {
			return true
		}
		macs[mac] = true
		for _, a := range of {
			if a = a.Unmap().WithZone(""); addrs[a] || a.IsLinkLocalUnicast() || !a.IsValid() {
				return true
			}
			addrs[a] = true
		}
		return false
	}
	for _, e := range want.Local {
		if seen(e.MAC, e.Addrs) {
			return true
		}
	}
	for _, p := range want.Remote {
		for _, e := range p.Endpoints {
			if seen(e.MAC, e.Addrs) {
				return true
			}
		}
	}
	return false
}

// from adds to a change what leads from one set of flows to another.
func (want flowSet) from(have flowSet, c *openflow.Change) {
	for key, f := range want {
		if h, ok := have[key]; !ok || !f.Equal(h) {
			c.Add = append(c.Add, f)
		}
	}
	for key, f := range have {
		if _, ok := want[key]; !ok {
			c.Delete = append(c.Delete, f)
		}
	}
}

// from adds to a change what leads from one state of a network's flows to another.
func (want flowParts) from(have flowParts, c *openflow.Change) {
	before, after := maps.Clone(have.rest), maps.Clone(want.rest)
	if before == nil {
		before = flowSet{}
	}
	if after == nil {
		after = flowSet{}
	}
	for key, part := range have.parts {
		if _, ok := want.parts[key]; !ok || want.base != have.base {
			maps.Copy(before, part)
		}
	}
	for key, part := range want.parts {
		if _, ok := have.parts[key]; !ok || want.base != have.base {
			maps.Copy(after, part)
		}
	}
	after.from(before, c)
}

func (f flowParts) all() iter.Seq2[string, openflow.Flow] {
	return func(yield func(string, openflow.Flow) bool) {
		for key, flow := range f.rest {
			if !yield(key, flow) {
				return
			}
		}
		for _, part := range f.parts {
			for key, flow := range part {
				if !yield(key, flow) {
					return
				}
			}
		}
	}
}

func (f flowParts) count() int {
	count := len(f.rest)
	for _, part := range f.parts {
		count += len(part)
	}
	return count
}
