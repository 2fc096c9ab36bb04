package pipeline

import "github.com/socketplane/socketplane/ovsctl/openflow"

// Priorities of TableUnicast.
const (
	unicastGroup = 200
	unicastKnown = 100
	unicastMiss  = 0
)

func baseUnicast(b *builder) {
	b.add(openflow.Flow{
		Table: TableUnicast, Priority: unicastGroup,
		Match: match(fields(toGroup())), Goto: TableFlood,
	})
	b.add(openflow.Flow{Table: TableUnicast, Priority: unicastMiss, Goto: TableStale})
}

// unicast takes a frame to the endpoint that has its destination MAC.
func unicast(b *builder, v view) {
	local := localMACs(v)
	for _, s := range v.stations() {
		if s.port == 0 && local[s.mac] {
			continue // its match differs (RegOrigin), so the builder can't tell
		}
		extra, actions, ok := v.way(s)
		if !ok {
			continue
		}
		b.add(openflow.Flow{
			Table: TableUnicast, Priority: unicastKnown,
			Match:   match(fields(v.reg0()), extra, fields(openflow.MAC(openflow.EthDst, s.mac))),
			Actions: actions,
		})
	}
}

func localMACs(v view) map[[6]byte]bool {
	macs := map[[6]byte]bool{}
	for _, s := range v.local {
		macs[s.mac] = true
	}
	return macs
}
