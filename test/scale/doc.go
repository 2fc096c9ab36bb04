// Package scale shows what a host costs in a large cluster: one real agent with a real Open vSwitch and a real Consul server; the other hosts are
// records, written as their agents would write them, and Docker is a client of the plugin's socket.
//
// Its tests count what the agent asks of Consul and of Open vSwitch for one change, and hold the counts to bounds that do not depend on the
// cluster's size: they never measure time. TestMeasure takes times for test/bench, and returns them as Figures. The package may
// import test/lab for the agent's binary, internal/testenv, test/internal and the store that writes the records; it must not know how the agent does
// its work.
package scale
