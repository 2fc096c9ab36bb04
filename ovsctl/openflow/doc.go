// Package openflow is a small OpenFlow 1.4 client for the management socket of
// an Open vSwitch bridge: the wire form of just the messages that we send, and
// one connection that sends them.
//
// It imports the standard library only, and knows neither OVSDB nor what a
// network is: ovsctl/pipeline makes the flows, internal/dataplane/ovs decides when.
package openflow
