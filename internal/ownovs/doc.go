// Package ownovs owns the Open vSwitch that a managed plugin runs where the host has none: which of the two is
// used, the database's file, and the two daemons, which it restarts when they end.
//
// It imports the standard library only, and must not know bridges, flows or the agent: they find this switch by its database's
// socket, like any other.
package ownovs
