package ovs_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
)

// logger writes to the test's log.
func logger(t testing.TB) *slog.Logger {
	if _, ok := t.(*testing.B); ok {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// local is the n-th endpoint of a network, 1 to 200, joined.
func local(network string, n byte) dataplane.Endpoint {
	id := fmt.Sprintf("%s-%d", network, n)
	return dataplane.Endpoint{
		ID: id, Port: uint32(vni(network)%100*200) + uint32(n), Attached: true, MAC: mac(network, n), Addrs: addrs(network, n),
		HostLink: dataplane.LinkName("sph", id), PeerLink: dataplane.LinkName("spp", id),
	}
}

// vni makes a number of a network's name of one letter or more.
func vni(network string) uint32 { return 100 + uint32(network[0]-'a') }

func mac(network string, n byte) dataplane.MAC {
	return dataplane.MAC{2, 0, 0, 0, byte(vni(network)), n}
}

func addrs(network string, n byte) []netip.Addr {
	v := byte(vni(network))
	return []netip.Addr{
		netip.AddrFrom4([4]byte{10, 1, v, n}),
		netip.AddrFrom16([16]byte{0: 0xfd, 7: v, 15: n}),
	}
}

// network has the endpoints of those numbers here.
func network(name string, here ...byte) dataplane.Network {
	n := dataplane.Network{ID: "network-" + name, VNI: vni(name), MTU: 1450}
	for _, i := range here {
		n.Local = append(n.Local, local(name, i))
	}
	return n
}

// peer adds another host with the endpoints of those numbers.
func peer(n dataplane.Network, name, vtep string, there ...byte) dataplane.Network {
	p := dataplane.Peer{Host: "host-" + vtep, VTEP: netip.MustParseAddr(vtep)}
	for _, i := range there {
		p.Endpoints = append(p.Endpoints, dataplane.PeerEndpoint{ID: fmt.Sprintf("%s-%d", name, i), MAC: mac(name, i), Addrs: addrs(name, i)})
	}
	n.Remote = append(n.Remote, p)
	return n
}
