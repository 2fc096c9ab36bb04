// Package bench measures SocketPlane in the lab beside what its users would otherwise take: Docker's bridge, Swarm's overlay,
// the bare underlay, and plain Open vSwitch. Rounds are interleaved, so that noise of the machine hits all alike.
//
// It owns what is measured, how, and the page that shows it. It may import test/lab and internal/testenv and talks to
// the agents as Docker and Prometheus do; it must not know SocketPlane's internals. All traffic stays inside the lab.
package bench
