// Package netview owns what this host knows of the cluster: the other hosts, this host's networks, and the endpoints on these, here and
// elsewhere. It is the only watcher of these records and the only publisher of this host's endpoints.
//
// Everything is in memory, in tables whose rows are never changed, only replaced: who got a row may read it as long as it likes. One mutex guards the tables; it is never
// held while anything is waited for, nor while something is computed whose size is a network's. A Stream tells one consumer what has changed since it looked
// last, coalesced, or everything. What is known of other hosts is also in this host's own store, so that a restart without the cluster's store knows it.
//
// It may import store, internal/retry and the plain values of internal/dataplane. It must not know Docker, Open vSwitch, or who its consumers are.
package netview
