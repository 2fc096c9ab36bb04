package pipeline

import "slices"

// The numbers of the tables. The steps between them leave room for tables to come without renumbering a running
// switch. The order in which a frame meets them is that of stages, nothing else.
const (
	// TableClassify gives a frame its network and tells where it came from.
	TableClassify uint8 = 0
	// TableSpoofGuard lets only frames with the endpoint's own addresses pass.
	TableSpoofGuard uint8 = 10
	// TableNDGuard does the same for what IPv6 neighbour discovery says inside.
	TableNDGuard uint8 = 15
	// TableEgressPolicy is reserved: what an endpoint may send. It has no flows
	// yet and is not visited.
	TableEgressPolicy uint8 = 20
	// TableNeighbour answers ARP and neighbour solicitations.
	TableNeighbour uint8 = 30
	// TableAdvertise completes the answers to neighbour solicitations, where
	// Config.NDExtensions is set.
	TableAdvertise uint8 = 35
	// TableIngressPolicy is reserved: what an endpoint may receive. Frames from
	// local ports and from tunnels both come by here. It has no flows yet and is
	// not visited.
	TableIngressPolicy uint8 = 40
	// TableUnicast forwards by destination MAC.
	TableUnicast uint8 = 50
	// TableStale forwards by destination address what was sent to a MAC that no
	// endpoint has any more.
	TableStale uint8 = 60
	// TableFlood copies broadcast and multicast.
	TableFlood uint8 = 70
)

// lane is a kind of frame, as far as kinds meet different tables. A frame changes lanes where a flow finds out more.
type lane uint8

const (
	laneSent     lane = 1 << iota // by a local endpoint
	laneSentIPv6                  // likewise, and it is IPv6
	laneAnswer                    // an answer of ours to a neighbour solicitation
	laneReceived                  // by tunnel
	laneUnknown                   // to a MAC that no endpoint has
	laneGroup                     // to a broadcast or multicast MAC

	lanesSent = laneSent | laneSentIPv6
)

// stage is a table and the lanes that pass it; none while it is reserved.
type stage struct {
	table uint8
	lanes lane
}

// stages is the order of the tables, declared here and only here. The switch goes on to higher tables only, so their
// numbers rise.
var stages = []stage{
	{TableClassify, lanesSent | laneReceived},
	{TableSpoofGuard, lanesSent},
	{TableNDGuard, laneSentIPv6},
	{TableEgressPolicy, 0},
	{TableNeighbour, lanesSent},
	{TableAdvertise, laneAnswer},
	{TableIngressPolicy, 0},
	{TableUnicast, lanesSent | laneReceived},
	{TableStale, laneUnknown},
	{TableFlood, laneGroup},
}

// next is the table that a frame on this lane goes on to from a table.
func next(from uint8, l lane) uint8 {
	at := slices.IndexFunc(stages, func(s stage) bool { return s.table == from })
	for _, s := range stages[at+1:] {
		if s.lanes&l != 0 {
			return s.table
		}
	}
	return 0 // nowhere: a mistake, which TestEachFlowGoesOnWhereTheOrderSays finds
}
