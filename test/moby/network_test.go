package moby

import (
	"net"
	"strings"
	"testing"

	"github.com/docker/docker/libnetwork/discoverapi"
	"github.com/docker/docker/libnetwork/driverapi"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/plugin/netapi"
)

func cidr(s string) *net.IPNet {
	ip, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	n.IP = ip
	return n
}

func TestCapabilities(t *testing.T) {
	e := setup(t, newDrivers())
	if want := (driverapi.Capability{DataScope: "local", ConnectivityScope: "global"}); e.scopes != want {
		t.Errorf("network: %+v, want %+v", e.scopes, want)
	}
	if !e.ipamCap.RequiresMACAddress || e.ipamCap.RequiresRequestReplay {
		t.Errorf("ipam: %+v", e.ipamCap)
	}
	v4, v6, err := e.network.(driverapi.GwAllocChecker).GetSkipGwAlloc(map[string]any{"com.docker.network.internal": true})
	if !v4 || !v6 || err != nil {
		t.Errorf("GwAllocCheck: %t %t %v", v4, v6, err)
	}
}

// TestNetworkLife sends the calls of a network with one container, and compares what arrives.
func TestNetworkLife(t *testing.T) {
	d := newDrivers()
	d.join = netapi.JoinResponse{InterfaceName: netapi.InterfaceName{SrcName: "sp0123456789", DstPrefix: "eth"}}
	e := setup(t, d)
	ctx := t.Context()

	options := map[string]any{"com.docker.network.generic": map[string]string{"mtu": "1400"}, "com.docker.network.enable_ipv6": true}
	v4 := []driverapi.IPAMData{{AddressSpace: "socketplane", Pool: cidr("10.1.0.0/24"), Gateway: cidr("10.1.0.1/24"),
		AuxAddresses: map[string]*net.IPNet{"router": cidr("10.1.0.9/24")}}}
	v6 := []driverapi.IPAMData{{AddressSpace: "socketplane", Pool: cidr("fd00::/64")}}
	if err := e.network.CreateNetwork(ctx, "n1", options, nil, v4, v6); err != nil {
		t.Fatal(err)
	}
	created := request[network.CreateNetworkRequest](d, "CreateNetwork")
	got := created.IPv4Data[0]
	if created.NetworkID != "n1" || got.Pool != "10.1.0.0/24" || got.Gateway != "10.1.0.1/24" ||
		got.AuxAddresses["router"] != "10.1.0.9/24" || created.IPv6Data[0].Pool != "fd00::/64" {
		t.Errorf("CreateNetwork: %+v, %+v", created, got)
	}
	if mtu := created.Options["com.docker.network.generic"].(map[string]any)["mtu"]; mtu != "1400" {
		t.Errorf("options: %v", created.Options)
	}

	ep := &endpoint{mac: net.HardwareAddr{2, 0x42, 10, 1, 0, 2}, v4: cidr("10.1.0.2/24")}
	if err := e.network.CreateEndpoint(ctx, "n1", "e1", ep, nil); err != nil {
		t.Fatal(err)
	}
	if r := request[network.CreateEndpointRequest](d, "CreateEndpoint"); *r.Interface != (network.EndpointInterface{Address: "10.1.0.2/24", MacAddress: "02:42:0a:01:00:02"}) {
		t.Errorf("CreateEndpoint: %+v", r.Interface)
	}
	if err := e.network.Join(ctx, "n1", "e1", "/var/run/docker/netns/1", ep, nil, map[string]any{"x": 1}); err != nil {
		t.Fatal(err)
	}
	if ep.src != "sp0123456789" || ep.dst != "eth" || ep.gw != nil || ep.hasNoGwbr {
		t.Errorf("Join: %+v", ep)
	}
	info, err := e.network.EndpointOperInfo("n1", "e1")
	if err != nil || info["host"] != "a" {
		t.Errorf("EndpointOperInfo: %v, %v", info, err)
	}
	for name, err := range map[string]error{
		"Program":        e.network.ProgramExternalConnectivity(ctx, "n1", "e1", nil),
		"Revoke":         e.network.RevokeExternalConnectivity("n1", "e1"),
		"Leave":          e.network.Leave("n1", "e1"),
		"DeleteEndpoint": e.network.DeleteEndpoint("n1", "e1"),
		"DeleteNetwork":  e.network.DeleteNetwork("n1"),
		"DiscoverNew":    e.network.(discoverapi.Discover).DiscoverNew(discoverapi.NodeDiscovery, discoverapi.NodeDiscoveryData{Address: "192.0.2.1"}),
		"DiscoverDelete": e.network.(discoverapi.Discover).DiscoverDelete(discoverapi.NodeDiscovery, discoverapi.NodeDiscoveryData{Address: "192.0.2.1"}),
		"NetworkFree":    e.network.NetworkFree("n1"),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	echo, err := e.network.NetworkAllocate("n2", map[string]string{"mtu": "1400"}, v4, nil)
	if err != nil || echo["mtu"] != "1400" {
		t.Errorf("NetworkAllocate: %v, %v", echo, err)
	}
}

// TestJoinAnswer: gateways and routes arrive, for the day when a driver answers them.
func TestJoinAnswer(t *testing.T) {
	d := newDrivers()
	d.join.JoinResponse = network.JoinResponse{Gateway: "10.1.0.1", GatewayIPv6: "fd00::1", DisableGatewayService: true,
		StaticRoutes: []*network.StaticRoute{{Destination: "10.9.0.0/16", NextHop: "10.1.0.1"}}}
	ep := &endpoint{}
	if err := setup(t, d).network.Join(t.Context(), "n1", "e1", "", ep, nil, nil); err != nil {
		t.Fatal(err)
	}
	if ep.gw.String() != "10.1.0.1" || ep.gw6.String() != "fd00::1" || !ep.hasNoGwbr || len(ep.routes) != 1 || ep.routes[0] != "10.9.0.0/16 10.1.0.1" {
		t.Errorf("got %+v", ep)
	}
}

func TestEndpointFields(t *testing.T) {
	for name, c := range map[string]struct {
		given  endpoint
		answer *network.EndpointInterface
		fails  string
	}{
		"nothing-answered": {endpoint{}, nil, ""},
		"all-answered":     {endpoint{}, &network.EndpointInterface{Address: "10.1.0.2/24", AddressIPv6: "fd00::2/64", MacAddress: "02:42:0a:01:00:02"}, ""},
		"mac-echoed":       {endpoint{mac: net.HardwareAddr{2, 0, 0, 0, 0, 1}}, &network.EndpointInterface{MacAddress: "02:00:00:00:00:01"}, "rolled back"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDrivers()
			d.answer = c.answer
			err := setup(t, d).network.CreateEndpoint(t.Context(), "n1", "e1", &c.given, nil)
			if c.fails == "" {
				if err != nil {
					t.Fatal(err)
				}
				if c.answer != nil && (c.given.v4.String() != c.answer.Address || c.given.v6.String() != c.answer.AddressIPv6 || c.given.mac.String() != c.answer.MacAddress) {
					t.Errorf("got %+v", c.given)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("got %v, want %q", err, c.fails)
			}
			if request[network.DeleteEndpointRequest](d, "DeleteEndpoint") == nil {
				t.Error("Docker's rollback did not arrive")
			}
		})
	}
}
