package pipeline

import "github.com/socketplane/socketplane/ovsctl/openflow"

// classifyLocal gives frames their network by the port that they came in by. What
// comes from elsewhere (the bridge's own port, a VNI that no network here has)
// matches nothing and is dropped.
func classifyLocal(b *builder, v view, s station) {
	b.add(openflow.Flow{
		Table: TableClassify, Priority: 100,
		Match:   openflow.Match{openflow.U32(openflow.InPort, s.port)},
		Actions: v.mark(FromLocal),
		Goto:    next(TableClassify, laneSent),
	})
}

// classifyTunnel does the same for what comes by tunnel. Such a frame has been
// through the guard of the host that sent it. Who may inject into the underlay
// may forge all of it (RFC 7348, section 7), so looking again would cost flows
// and win nothing.
func classifyTunnel(b *builder, v view) {
	if m := v.tunnel.ingress(); m != nil {
		b.add(openflow.Flow{
			Table: TableClassify, Priority: 100,
			Match: m, Actions: v.mark(FromTunnel), Goto: next(TableClassify, laneReceived),
		})
	}
}

func (v view) mark(origin uint32) []openflow.Action {
	return []openflow.Action{set(v.reg0()), set(openflow.U32(RegOrigin, origin))}
}
