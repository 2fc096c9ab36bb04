package subnets

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/store"
)

func cidr(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func bridge(name, subnet string) store.Use { return store.Use{Subnet: cidr(subnet), Network: name} }

func lan(subnet string) store.Use { return store.Use{Subnet: cidr(subnet), Dev: "eth0"} }

func pool(subnet, network string) store.Pool { return store.Pool{CIDR: cidr(subnet), Network: network} }

const gw = dockerwatch.GatewayBridge

func TestReserved(t *testing.T) {
	me := []store.Use{bridge("bridge", "172.17.0.0/16"), bridge(gw, "192.168.240.0/20"), lan("10.99.0.0/16")}
	noGateway := []store.Use{me[0], me[2]}
	for _, c := range []struct {
		name   string
		own    []store.Use
		others []store.Use
		pools  []store.Pool
		docker []dockerwatch.Range
		want   string
	}{
		{"pools that Docker may choose", me, nil, []store.Pool{pool("172.18.0.0/16", "n"), pool("10.32.0.0/20", "m"), pool("fd00::/64", "n")},
			builtIn(), "[172.18.0.0/16]"},
		{"within and around", me, nil, []store.Pool{pool("172.19.7.0/24", "n"), pool("172.16.0.0/13", "m")}, builtIn(), "[172.16.0.0/13 172.19.7.0/24]"},
		{"asked for by this host, and by another", me, nil, []store.Pool{pool("172.18.0.0/16", ""), pool("172.19.0.0/16", "")},
			builtIn(), "[172.19.0.0/16]"},
		{"configured pools", me, nil, []store.Pool{pool("172.18.0.0/16", "n"), pool("10.32.0.0/20", "m")},
			[]dockerwatch.Range{{Base: cidr("10.32.0.0/16"), Bits: 24}}, "[10.32.0.0/20]"},
		{"Docker did not answer", me, nil, []store.Pool{pool("172.18.0.0/16", "n"), pool("10.32.0.0/20", "m")}, nil, "[10.32.0.0/20 172.18.0.0/16]"},
		{"uses of others, but not what is used here", me, []store.Use{bridge("x", "172.20.0.0/16"), bridge("bridge", "172.17.0.0/16"), lan("10.99.0.0/16")},
			nil, builtIn(), "[172.20.0.0/16]"},
		{"docker_gwbridge of others", me, []store.Use{bridge(gw, "172.18.0.0/16")}, nil, builtIn(), "[172.18.0.0/16]"},
		{"before there is one here, or after a prune", noGateway, []store.Use{bridge(gw, "172.18.0.0/16")}, nil, builtIn(), "[172.18.0.0/16]"},
		{"eight pools only", me, []store.Use{bridge("x", "10.200.2.0/24"), bridge("y", "10.200.0.0/24")}, nil,
			[]dockerwatch.Range{{Base: cidr("10.200.0.0/21"), Bits: 24}}, "[10.200.0.0/24 10.200.2.0/24]"},
		{"eight pools, of which others use five", me, []store.Use{bridge("x", "10.200.0.0/24"), bridge("x", "10.200.1.0/24"), bridge("x", "10.200.2.0/24"),
			bridge("x", "10.200.3.0/24"), bridge("x", "10.200.4.0/24")}, nil,
			[]dockerwatch.Range{{Base: cidr("10.200.0.0/21"), Bits: 24}}, "[10.200.0.0/24 10.200.1.0/24 10.200.2.0/24 10.200.3.0/24]"},
		{"eight pools, of which this host and the cluster have five", append(slices.Clone(me), lan("10.200.0.0/23")), []store.Use{bridge("x", "10.200.6.0/24")},
			[]store.Pool{pool("10.200.2.0/24", "n"), pool("10.200.3.0/24", "n"), pool("10.200.4.0/24", "n")},
			[]dockerwatch.Range{{Base: cidr("10.200.0.0/21"), Bits: 24}}, "[10.200.2.0/24 10.200.3.0/24 10.200.4.0/24 10.200.6.0/24]"},
		{"the only pool", me, []store.Use{bridge("x", "10.200.0.0/24")}, nil, []dockerwatch.Range{{Base: cidr("10.200.0.0/24"), Bits: 24}}, "[]"},
		{"within a larger subnet of this host", append(me, lan("172.16.0.0/12")), nil, []store.Pool{pool("172.18.0.0/16", "n")}, builtIn(), "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := state{self: "me", own: c.own, pools: c.pools, docker: c.docker, asked: map[netip.Prefix]bool{},
				hosts: map[string]store.Host{"me": {Uses: c.own}, "b": {Uses: c.others}}}
			for _, p := range c.pools {
				s.asked[p.CIDR] = p.CIDR == cidr("172.18.0.0/16") && p.Network == ""
			}
			if got := fmt.Sprint(s.reserved()); got != c.want {
				t.Errorf("reserved %s, want %s", got, c.want)
			}
		})
	}
}

// TestReservedLeavesEnough: a hundred hosts with networks of their own take nothing from this one's Docker that it needs; the cluster's
// pools are kept from it all the same.
func TestReservedLeavesEnough(t *testing.T) {
	s := state{self: "me", own: []store.Use{bridge("bridge", "172.17.0.0/16")}, docker: builtIn(), hosts: map[string]store.Host{}}
	i := 0
	for p := range s.defaults() {
		s.hosts[fmt.Sprint(i)] = store.Host{Uses: []store.Use{bridge("x", p.String())}}
		i++
	}
	count := func() (free int) {
		marks := s.reserved()
		for p := range s.defaults() {
			if !slices.ContainsFunc(marks, p.Overlaps) && !s.uses(s.own, p) {
				free++
			}
		}
		return free
	}
	if got := count(); got != keepFree {
		t.Errorf("%d of Docker's pools are free, want %d", got, keepFree)
	}
	s.pools = []store.Pool{pool("172.16.0.0/12", "n"), pool("192.168.0.0/16", "m")}
	if got := count(); got != 0 {
		t.Errorf("%d of Docker's pools are free, though the cluster has all", got)
	}
}

func TestGatewaySubnet(t *testing.T) {
	docker0 := bridge("bridge", "172.17.0.0/16")
	for _, c := range []struct {
		name   string
		own    []store.Use
		others map[string][]store.Use
		pools  []store.Pool
		docker []dockerwatch.Range
		server string
		want   string
	}{
		{"nothing is known", []store.Use{docker0}, nil, nil, nil, "", "192.168.240.0/20"},
		{"what most others have", []store.Use{docker0}, map[string][]store.Use{"b": {bridge(gw, "172.18.0.0/16")}, "c": {bridge(gw, "172.20.0.0/16")},
			"d": {bridge(gw, "172.20.0.0/16")}}, nil, nil, "", "172.20.0.0/16"},
		{"the lowest, if they differ", []store.Use{docker0}, map[string][]store.Use{"b": {bridge(gw, "172.20.0.0/16")}, "c": {bridge(gw, "172.18.0.0/16")}},
			nil, nil, "", "172.18.0.0/16"},
		{"theirs is used here", []store.Use{docker0, bridge("x", "172.18.0.0/16")}, map[string][]store.Use{"b": {bridge(gw, "172.18.0.0/16")}}, nil, nil, "",
			"192.168.240.0/20"},
		{"theirs is a pool", []store.Use{docker0}, map[string][]store.Use{"b": {bridge(gw, "172.18.0.0/16")}}, []store.Pool{pool("172.18.1.0/24", "n")}, nil, "",
			"192.168.240.0/20"},
		{"another host's LAN", []store.Use{docker0}, map[string][]store.Use{"b": {lan("192.168.240.0/24")}}, nil, nil, "", "192.168.224.0/20"},
		{"a name server", []store.Use{docker0}, nil, nil, nil, "192.168.241.1", "192.168.224.0/20"},
		{"configured", []store.Use{docker0}, nil, nil, []dockerwatch.Range{{Base: cidr("10.200.0.0/15"), Bits: 16}}, "", "10.201.0.0/16"},
		{"all are used by others", []store.Use{docker0}, map[string][]store.Use{"b": {lan("10.0.0.0/8")}}, nil,
			[]dockerwatch.Range{{Base: cidr("10.200.0.0/15"), Bits: 16}}, "", "10.201.0.0/16"},
		{"none is left", []store.Use{lan("10.0.0.0/8")}, nil, nil, []dockerwatch.Range{{Base: cidr("10.200.0.0/15"), Bits: 16}}, "", "invalid Prefix"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := state{self: "me", own: c.own, pools: c.pools, docker: c.docker, hosts: map[string]store.Host{"me": {Uses: []store.Use{bridge(gw, "172.30.0.0/16")}}}}
			for id, uses := range c.others {
				s.hosts[id] = store.Host{Uses: uses}
			}
			var servers []netip.Addr
			if c.server != "" {
				servers = append(servers, netip.MustParseAddr(c.server))
			}
			got, ok := s.gatewaySubnet(servers)
			if got.String() != c.want || ok != got.IsValid() {
				t.Errorf("chose %s, want %s", got, c.want)
			}
		})
	}
}
