package pipeline

import "github.com/socketplane/socketplane/ovsctl/openflow"

// classify gives frames their network by the port that they came in by. What
// comes from elsewhere (the bridge's own port, a VNI that no network here has)
// matches nothing and is dropped.
func classify(b *builder, v view) {
	for _, s := range v.local {
		b.add(openflow.Flow{
			Table: TableClassify, Priority: 100,
			Match:   openflow.Match{openflow.U32(openflow.InPort, s.port)},
			Actions: v.mark(FromLocal),
			Goto:    TableSpoofGuard,
		})
	}
	// A frame out of a tunnel has been through the guard of the host that sent
	// it. Who may inject into the underlay may forge all of it (RFC 7348,
	// section 7), so looking again would cost flows and win nothing.
	if m := v.tunnel.ingress(); m != nil {
		b.add(openflow.Flow{
			Table: TableClassify, Priority: 100,
			Match: m, Actions: v.mark(FromTunnel), Goto: TableUnicast,
		})
	}
}

func (v view) mark(origin uint32) []openflow.Action {
	return []openflow.Action{set(v.reg0()), set(openflow.U32(RegOrigin, origin))}
}
