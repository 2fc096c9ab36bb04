package openflow

import "sync/atomic"

// Counts is what connections cost. Tests hold changes to it, and metrics tell it.
type Counts struct {
	// FlowMods are changes of flows that were sent, Bundles the transactions that they were sent in.
	FlowMods, Bundles uint64
	// Dumps are requests for flows, DumpedFlows the flows that came.
	Dumps, DumpedFlows uint64
	// Events are the flow events that the switch told.
	Events uint64
	// Sent and Received are bytes, headers included.
	Sent, Received uint64
}

// counters are Counts that are counted. Those of a connection count into those of the process too.
type counters struct {
	flowMods, bundles, dumps, dumpedFlows, events, sent, received atomic.Uint64
}

// total counts all connections of the process.
var total counters

// Totals are the counts of all connections that this process ever had. They only grow.
func Totals() Counts { return total.counts() }

// Counts are this connection's. They only grow.
func (c *Conn) Counts() Counts { return c.counters.counts() }

func (c *counters) counts() Counts {
	return Counts{
		FlowMods: c.flowMods.Load(), Bundles: c.bundles.Load(), Dumps: c.dumps.Load(), DumpedFlows: c.dumpedFlows.Load(),
		Events: c.events.Load(), Sent: c.sent.Load(), Received: c.received.Load(),
	}
}

// count counts n of what pick picks.
func (c *Conn) count(pick func(*counters) *atomic.Uint64, n int) {
	pick(&c.counters).Add(uint64(n))
	pick(&total).Add(uint64(n))
}
