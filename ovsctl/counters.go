package ovsctl

import "sync/atomic"

// Counts is what a Switch cost. Tests hold changes to it, and metrics tell it.
type Counts struct {
	// Transactions were sent to ovsdb-server, with so many Operations.
	Transactions, Operations uint64
	// Rows of ports and interfaces were looked at in our copy of the database.
	Rows uint64
	// Events are rows that changed.
	Events uint64
}

type counters struct{ transactions, operations, rows, events atomic.Uint64 }

// Counts are the counts since Connect. They only grow.
func (s *Switch) Counts() Counts {
	return Counts{
		Transactions: s.counts.transactions.Load(), Operations: s.counts.operations.Load(),
		Rows: s.counts.rows.Load(), Events: s.counts.events.Load(),
	}
}
