// Package consulproc owns one Consul process of this host: its program, its configuration and files, its
// start, reload, restart and end, and its log.
//
// The process outlives the agent. A server that votes should not fall silent because the agent is updated, so a later agent
// finds it and keeps it if it runs as wanted. It may import the standard library and golang.org/x/sys only. It knows neither
// who is in the cluster nor who decides what this host is in it.
package consulproc
