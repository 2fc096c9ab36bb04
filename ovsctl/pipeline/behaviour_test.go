package pipeline_test

import (
	"net/netip"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// The endpoints of the behaviour tests: a, b and c share a network with r on
// another host; d and e share another network and have the MACs and the
// addresses of a and b.
const (
	portA, portB, portC, portD, portE = 1, 2, 3, 4, 5
	portTun, portTun2                 = dataplane.PortDeviceFirst, dataplane.PortDeviceFirst + 1
)

var (
	macA, macB, macC = dataplane.MAC{2, 0, 0, 0, 0, 0xa}, dataplane.MAC{2, 0, 0, 0, 0, 0xb}, dataplane.MAC{2, 0, 0, 0, 0, 0xc}
	macR, macOld     = dataplane.MAC{2, 0, 0, 0, 0, 0xd}, dataplane.MAC{2, 0, 0, 0, 1, 0}

	a4, b4, c4, r4 = ip("10.1.0.2"), ip("10.1.0.3"), ip("10.1.0.4"), ip("10.1.0.9")
	a6, b6, c6, r6 = ip("fd00:1::2"), ip("fd00:1::3"), ip("fd00:1::4"), ip("fd00:1::9")
	no4, no6       = ip("10.1.0.77"), ip("fd00:1::77")
)

func endpoint(port uint32, mac dataplane.MAC, addrs ...netip.Addr) dataplane.Endpoint {
	return dataplane.Endpoint{Port: port, MAC: mac, Addrs: addrs}
}

func twoNetworks() []dataplane.Network {
	peers := []dataplane.Peer{{VTEP: ip("192.0.2.2"), Endpoints: []dataplane.PeerEndpoint{{MAC: macR, Addrs: []netip.Addr{r4, r6}}}}}
	return []dataplane.Network{
		{ID: "one", VNI: 100, Remote: peers, Local: []dataplane.Endpoint{
			endpoint(portA, macA, a4, a6), endpoint(portB, macB, b4, b6), endpoint(portC, macC, c4, c6)}},
		{ID: "two", VNI: 200, Remote: peers, Local: []dataplane.Endpoint{
			endpoint(portD, macA, a4, a6), endpoint(portE, macB, b4, b6)}},
	}
}

type frameCase struct {
	name  string
	from  uint32
	frame []byte
	want  map[uint32][]byte // nil: nobody gets anything
}

func to(frame []byte, ports ...uint32) map[uint32][]byte {
	m := map[uint32][]byte{}
	for _, p := range ports {
		m[p] = frame
	}
	return m
}

func same(name string, from uint32, frame []byte, ports ...uint32) frameCase {
	return frameCase{name, from, frame, to(frame, ports...)}
}

func TestFrames(t *testing.T) {
	b := newBench(t, answering, twoNetworks()...)
	for group, cases := range map[string][]frameCase{
		"forward": forwardCases(), "ipv4 guard": guardCases(), "arp": arpCases(), "nd": ndCases(),
	} {
		for _, c := range cases {
			t.Run(group+"/"+c.name, func(t *testing.T) { b.check(t, c.from, c.frame, c.want) })
		}
	}
}

// TestDirectedSolicitations is what differs without NDExtensions.
func TestDirectedSolicitations(t *testing.T) {
	b := newBench(t, kernelTunnel, twoNetworks()...)
	ask := func(dst dataplane.MAC, target netip.Addr, options ...[]byte) []byte {
		group, mac := solicitedNode(target)
		if dst != (dataplane.MAC{}) {
			mac = dst
		}
		return ether(mac, macA, 0x86dd, solicit(a6, group, target, options...))
	}
	var group dataplane.MAC
	mine, llB := option(1, macA), pipeline.LinkLocal(macB)
	for _, c := range []frameCase{
		{"who has a neighbour", portA, ask(group, b6, mine), to(ask(macB, b6, mine), portB)},
		{"who has another host's", portA, ask(group, r6, mine), to(ask(macR, r6, mine), portTun)},
		{"who has a link-local", portA, ask(group, llB, mine), to(ask(macB, llB, mine), portB)},
		{"probe of a stale MAC", portA, ask(macOld, b6, mine), to(ask(macB, b6, mine), portB)},
		same("who has nobody", portA, ask(group, no6, mine)),
		same("who has my own", portA, ask(group, a6, mine)),
		same("option of another", portA, ask(group, b6, option(1, macC))),
	} {
		t.Run(c.name, func(t *testing.T) { b.check(t, c.from, c.frame, c.want) })
	}
}

func forwardCases() []frameCase {
	packet := func(dst, src dataplane.MAC, from, to netip.Addr) []byte {
		if from.Is4() {
			return ether(dst, src, 0x0800, ipv4(from, to, "hello"))
		}
		return ether(dst, src, 0x86dd, ipv6(from, to, 253, 64, []byte("hello, world")))
	}
	return []frameCase{
		same("to a neighbour", portA, packet(macB, macA, a4, b4), portB),
		same("to a neighbour by IPv6", portA, packet(macB, macA, a6, b6), portB),
		same("to a neighbour by link-local", portA, packet(macB, macA, pipeline.LinkLocal(macA), pipeline.LinkLocal(macB)), portB),
		same("another protocol", portA, ether(macB, macA, 0x88b6, []byte("hello")), portB),
		same("to another host", portA, packet(macR, macA, a4, r4), portTun),
		same("from another host", portTun, packet(macA, macR, r4, a4), portA),
		same("to itself", portA, packet(macA, macA, a4, a4)),
		same("to an unknown MAC and address", portA, packet(macOld, macA, a4, no4)),
		same("out of the tunnel for another host", portTun, packet(macR, macC, c4, r4)),
		same("out of the tunnel for another host, stale MAC", portTun, packet(macOld, macC, c4, r4)),
		{"stale MAC", portA, packet(macOld, macA, a4, b4), to(packet(macB, macA, a4, b4), portB)},
		{"stale MAC, IPv6", portA, packet(macOld, macA, a6, b6), to(packet(macB, macA, a6, b6), portB)},
		{"stale MAC of another host's", portA, packet(macOld, macA, a4, r4), to(packet(macR, macA, a4, r4), portTun)},
		{"stale MAC out of the tunnel", portTun, packet(macOld, macR, r4, a4), to(packet(macA, macR, r4, a4), portA)},
		same("broadcast", portA, packet(broadcast, macA, a4, ip("10.1.0.255")), portB, portC, portTun),
		same("multicast", portA, packet(allNodes, macA, a6, ip("ff02::1")), portB, portC, portTun),
		same("broadcast of another protocol", portB, ether(broadcast, macB, 0x88b6), portA, portC, portTun),
		same("broadcast out of the tunnel", portTun, packet(broadcast, macR, r4, ip("10.1.0.255")), portA, portB, portC),
		same("spanning tree", portA, ether(dataplane.MAC{1, 0x80, 0xc2, 0, 0, 0}, macA, 0x0026, []byte{0x42, 0x42, 3})),
		same("the other network, same MAC", portD, packet(macB, macA, a4, b4), portE),
		same("the other network, broadcast", portD, packet(broadcast, macA, a4, ip("10.1.0.255")), portE, portTun2),
		same("the other network has no c", portD, packet(macC, macA, a4, c4)),
		same("the other network's tunnel", portTun2, packet(macA, macR, r4, a4), portD),
	}
}

func guardCases() []frameCase {
	good := ether(macB, macA, 0x0800, ipv4(a4, b4, "hello"))
	llC := pipeline.LinkLocal(macC)
	return []frameCase{
		same("source MAC of another", portA, ether(macB, macC, 0x0800, ipv4(a4, b4, "x"))),
		same("source MAC of another, broadcast", portA, ether(broadcast, macC, 0x88b6)),
		same("source address of another", portA, ether(macB, macA, 0x0800, ipv4(c4, b4, "x"))),
		same("source address of another, broadcast", portA, ether(broadcast, macA, 0x0800, ipv4(c4, ip("255.255.255.255"), "x"))),
		same("no source address", portA, ether(broadcast, macA, 0x0800, ipv4(ip("0.0.0.0"), ip("255.255.255.255"), "x"))),
		same("IPv6 source address of another", portA, ether(macB, macA, 0x86dd, ipv6(c6, b6, 253, 64, []byte("x")))),
		same("link-local of another", portA, ether(macB, macA, 0x86dd, ipv6(llC, b6, 253, 64, []byte("x")))),
		same("tagged", portA, tagged(good, 7)),
		same("tagged with priority only", portA, tagged(good, 0)),
		same("untagged is good", portA, good, portB),
	}
}

func arpCases() []frameCase {
	var zero dataplane.MAC
	request := func(sha dataplane.MAC, spa, tpa netip.Addr) []byte {
		return ether(broadcast, macA, 0x0806, arp(1, sha, spa, zero, tpa))
	}
	reply := func(mac dataplane.MAC, addr netip.Addr) map[uint32][]byte {
		return to(ether(macA, mac, 0x0806, arp(2, mac, addr, macA, a4)), portA)
	}
	return []frameCase{
		{"who has a neighbour", portA, request(macA, a4, b4), reply(macB, b4)},
		{"who has another host's", portA, request(macA, a4, r4), reply(macR, r4)},
		{"unicast probe", portA, ether(macB, macA, 0x0806, arp(1, macA, a4, zero, b4)), reply(macB, b4)},
		{"probe of a stale MAC", portA, ether(macOld, macA, 0x0806, arp(1, macA, a4, zero, b4)), reply(macB, b4)},
		same("who has nobody", portA, request(macA, a4, no4)),
		same("announcement", portA, request(macA, a4, a4)),
		same("announcement as a reply", portA, ether(broadcast, macA, 0x0806, arp(2, macA, a4, macA, a4))),
		same("is my address free", portA, request(macA, ip("0.0.0.0"), a4)),
		same("sender address of another", portA, request(macA, c4, b4)),
		same("sender MAC of another", portA, request(macC, a4, b4)),
		same("reply", portA, ether(macB, macA, 0x0806, arp(2, macA, a4, macB, b4)), portB),
		same("reply with the address of another", portA, ether(macB, macA, 0x0806, arp(2, macA, c4, macB, b4))),
		same("reply with the MAC of another", portA, ether(macB, macA, 0x0806, arp(2, macC, a4, macB, b4))),
	}
}

func ndCases() []frameCase {
	llA, llB, any6 := pipeline.LinkLocal(macA), pipeline.LinkLocal(macB), netip.IPv6Unspecified()
	ask := func(src, target netip.Addr, options ...[]byte) []byte {
		group, mac := solicitedNode(target)
		return ether(mac, macA, 0x86dd, solicit(src, group, target, options...))
	}
	answer := func(mac dataplane.MAC, target, asker netip.Addr) map[uint32][]byte {
		return to(ether(macA, mac, 0x86dd, advert(target, asker, target, 0x60, option(2, mac))), portA)
	}
	direct := func(packet []byte) []byte { return ether(macB, macA, 0x86dd, packet) }
	mine := option(1, macA)
	return []frameCase{
		{"who has a neighbour", portA, ask(a6, b6, mine), answer(macB, b6, a6)},
		{"who has another host's", portA, ask(a6, r6, mine), answer(macR, r6, a6)},
		{"who has a link-local", portA, ask(llA, llB, mine), answer(macB, llB, llA)},
		{"probe with option", portA, direct(solicit(a6, b6, b6, mine)), answer(macB, b6, a6)},
		same("probe without option", portA, direct(solicit(a6, b6, b6)), portB),
		same("no option to a group", portA, ask(a6, b6)),
		same("option of another", portA, ask(a6, b6, option(1, macC))),
		same("option twice", portA, direct(solicit(a6, b6, b6, mine, option(1, macC)))),
		same("who has nobody", portA, ask(a6, no6, mine)),
		same("who has my own", portA, ask(a6, a6, mine)),
		same("is my address free", portA, ask(any6, a6)),
		same("advertisement", portA, direct(advert(a6, b6, a6, 0x60, option(2, macA))), portB),
		same("advertisement of link-local", portA, direct(advert(a6, b6, llA, 0x60, option(2, macA))), portB),
		same("advertisement without option", portA, direct(advert(a6, b6, a6, 0x40)), portB),
		same("advertisement to all", portA, ether(allNodes, macA, 0x86dd, advert(a6, ip("ff02::1"), a6, 0x20, option(2, macA)))),
		same("advertisement of another's address", portA, direct(advert(a6, b6, c6, 0x60, option(2, macA)))),
		same("advertisement with the MAC of another", portA, direct(advert(a6, b6, a6, 0x60, option(2, macC)))),
		same("router advertisement", portA, ether(allNodes, macA, 0x86dd, icmp6(llA, ip("ff02::1"), 134, make([]byte, 12)))),
		same("router solicitation", portA, ether(dataplane.MAC{0x33, 0x33, 0, 0, 0, 2}, macA, 0x86dd, icmp6(llA, ip("ff02::2"), 133, make([]byte, 4), mine))),
		same("redirect", portA, direct(icmp6(llA, b6, 137, make([]byte, 36)))),
		same("listener report from nowhere", portA, ether(dataplane.MAC{0x33, 0x33, 0, 0, 0, 0x16}, macA, 0x86dd, icmp6(any6, ip("ff02::16"), 143, make([]byte, 4)))),
		same("echo request", portA, direct(icmp6(a6, b6, 128, []byte{0, 1, 0, 1})), portB),
	}
}
