// Package presence makes this host part of the cluster: it owns the host's record, its sign of life, and the right to act under the host's id, which the copy of a
// machine has as well.
//
// It imports store and the values of internal/cluster/admission, internal/doctor and internal/underlay. It must not know Docker, Open vSwitch or how the agent is put
// together. What is known of other hosts is internal/roster's.
package presence
