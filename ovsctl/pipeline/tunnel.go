package pipeline

import (
	"net/netip"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// tunnel is how one network's frames leave and enter this host.
type tunnel struct {
	kind dataplane.TunnelKind
	vni  uint32
	port uint32 // 0: no tunnel
}

func newTunnel(kind dataplane.TunnelKind, s Segment) tunnel {
	t := tunnel{kind: kind, vni: s.VNI}
	switch kind {
	case dataplane.TunnelOVS:
		t.port = dataplane.PortTunnel
	case dataplane.TunnelKernel:
		t.port = s.Device
	}
	return t
}

// ingress matches this network's frames as they come out of the tunnel; nil when
// there is none.
func (t tunnel) ingress() openflow.Match {
	if t.port == 0 {
		return nil
	}
	m := openflow.Match{openflow.U32(openflow.InPort, t.port)}
	if t.kind == dataplane.TunnelOVS {
		m = append(m, openflow.U64(openflow.TunnelID, uint64(t.vni)))
	}
	return m
}

// to sends a frame once to each of the hosts. A kernel device finds them itself:
// one by its forwarding entry for the frame's MAC, all by its zero-MAC entries.
// The result is nil when there is no way.
func (t tunnel) to(vteps ...netip.Addr) []openflow.Action {
	if t.port == 0 || len(vteps) == 0 {
		return nil
	}
	if t.kind == dataplane.TunnelKernel {
		return []openflow.Action{openflow.Output{Port: t.port}}
	}
	actions := []openflow.Action{set(openflow.U64(openflow.TunnelID, uint64(t.vni)))}
	var last netip.Addr
	for _, vtep := range vteps {
		actions = append(actions, setDestination(last, vtep)...)
		actions = append(actions, openflow.Output{Port: t.port})
		last = vtep
	}
	return actions
}

// setDestination points the tunnel at vtep. The two families are two fields, and
// with both set the switch takes the IPv4 one, so the previous destination's is
// cleared when the family changes.
func setDestination(previous, vtep netip.Addr) []openflow.Action {
	var actions []openflow.Action
	if previous.IsValid() && previous.Is4() != vtep.Is4() {
		none := netip.IPv4Unspecified()
		if previous.Is6() {
			none = netip.IPv6Unspecified()
		}
		actions = append(actions, set(openflow.Addr(destinationField(previous), none)))
	}
	return append(actions, set(openflow.Addr(destinationField(vtep), vtep)))
}

func destinationField(a netip.Addr) openflow.FieldID {
	if a.Is4() {
		return openflow.TunIPv4Dst
	}
	return openflow.TunIPv6Dst
}
