package ovs_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
)

// wide is a network of any number of endpoints, of which the remote ones are spread over hosts
// of 20. Endpoints here have no links: flows and entries do not depend on them.
func wide(id string, vni uint32, here, elsewhere int) dataplane.Network {
	n := dataplane.Network{ID: id, VNI: vni, MTU: 1450}
	at := func(i int) (dataplane.MAC, []netip.Addr) {
		hi, lo := byte(i>>8), byte(i)
		return dataplane.MAC{2, byte(vni >> 8), byte(vni), 0, hi, lo}, []netip.Addr{
			netip.AddrFrom4([4]byte{10, byte(vni), hi, lo}), netip.AddrFrom16([16]byte{0: 0xfd, 6: byte(vni), 14: hi, 15: lo}),
		}
	}
	for i := range here {
		e := dataplane.Endpoint{ID: fmt.Sprintf("%s-%05d", id, i), Port: vni%100*300 + uint32(i) + 1, Attached: true}
		e.MAC, e.Addrs = at(i)
		e.HostLink, e.PeerLink = dataplane.LinkName("sph", e.ID), dataplane.LinkName("spp", e.ID)
		n.Local = append(n.Local, e)
	}
	for i := range elsewhere {
		if i%20 == 0 {
			n.Remote = append(n.Remote, dataplane.Peer{Host: fmt.Sprint(i), VTEP: netip.AddrFrom4([4]byte{127, 1, byte(i / 20), 1})})
		}
		p := &n.Remote[len(n.Remote)-1]
		e := dataplane.PeerEndpoint{ID: fmt.Sprintf("%s-%05d", id, here+i)}
		e.MAC, e.Addrs = at(here + i)
		p.Endpoints = append(p.Endpoints, e)
	}
	return n
}

// One of 2000 remote endpoints comes or goes, on a host with 200 of its own.
func BenchmarkRemoteEndpointChanges(b *testing.B) {
	h := newHost(b)
	n := wide("wide", 100, 200, 2000)
	h.start(n)
	less := wide("wide", 100, 200, 1999)
	for i := 0; b.Loop(); i++ {
		h.set([]dataplane.Network{less, n}[i%2])
	}
}

// A container comes or goes on such a host; its links are not part of it.
func BenchmarkLocalEndpointChanges(b *testing.B) {
	h := newHost(b)
	n := wide("wide", 100, 200, 2000)
	h.start(n)
	less := wide("wide", 100, 199, 2000)
	for i := 0; b.Loop(); i++ {
		h.set([]dataplane.Network{less, n}[i%2])
	}
}

// A container is attached to and detached from a host with 100 networks of 100 remote endpoints each.
func BenchmarkAttachAmongManyNetworks(b *testing.B) {
	h := newHost(b)
	h.start(many()...)
	n := network("z", 1)
	for b.Loop() {
		if err := h.agent.Attach(h.ctx(), n, "z-1"); err != nil {
			b.Fatal(err)
		}
		h.remove(n.ID)
	}
}

func many() []dataplane.Network {
	var all []dataplane.Network
	for i := range uint32(100) {
		all = append(all, wide(fmt.Sprintf("n%03d", i), 200+i, 1, 100))
	}
	return all
}

// An agent starts on a switch that has nothing, and gives it 100 networks of 100 remote endpoints each.
func BenchmarkFirstReplay(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		h := newHost(b)
		b.StartTimer()
		h.start(many()...)
		b.StopTimer()
		b.ReportMetric(float64(h.agent.Status().Flows), "flows")
		h.agent.stop()
		b.StartTimer()
	}
}

// An agent starts again where all is as it should be.
func BenchmarkRestart(b *testing.B) {
	h := newHost(b)
	h.start(many()...)
	for b.Loop() {
		h.agent.stop()
		h.start(many()...)
	}
}
