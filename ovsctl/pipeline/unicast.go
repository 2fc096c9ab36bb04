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
		Match: match(fields(toGroup())), Goto: next(TableUnicast, laneGroup),
	})
	b.add(openflow.Flow{Table: TableUnicast, Priority: unicastMiss, Goto: next(TableUnicast, laneUnknown)})
}

// unicast takes a frame to the endpoint that has its destination MAC. A loser's flow
// has to be left out: its match may differ from the winner's (RegOrigin), and the
// switch would have both.
func unicast(b *builder, mac openflow.Field, place []openflow.Field, way []openflow.Action, w Wins) {
	if !w.MAC {
		return
	}
	b.add(openflow.Flow{Table: TableUnicast, Priority: unicastKnown, Match: b.match(place, mac), Actions: way})
}
