package pipeline_test

import (
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// TestProbeFrames: a probe goes back where it came from, and nowhere else; containers neither send nor get one.
func TestProbeFrames(t *testing.T) {
	b := newBench(t, kernelTunnel, twoNetworks()...)
	asker, answerer := dataplane.MAC{3, 0, 0, 0, 0, 0xd}, pipeline.ProbeMAC(kernelTunnel.Host) // the first is macR with the group bit
	probe := func(dst, src dataplane.MAC) []byte { return ether(dst, src, 0x9000, []byte("a nonce")) }
	for _, c := range []frameCase{
		{"from another host", portTun, probe(macA, asker), to(probe(macR, answerer), portTun)},
		{"its answer", portTun, probe(macA, answerer), nil},
		{"an answer of a host with another id", portTun, probe(macA, pipeline.ProbeMAC("h9")), nil},
		{"from another host, no probe", portTun, probe(macA, macR), nil},
		{"to all", portTun, probe(broadcast, macR), nil},
		{"of a container", portA, probe(macR, macA), nil},
		{"of a container to its neighbour", portA, probe(macB, macA), nil},
	} {
		t.Run(c.name, func(t *testing.T) { b.check(t, c.from, c.frame, c.want) })
	}
}
