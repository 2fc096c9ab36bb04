package chaos

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/test/lab"
)

// What a host has of an endpoint here and one elsewhere, as its programs tell it.
const (
	somePorts = `{"data":[["socketplane0",["map",[["socketplane","bridge"]]]],["sph1",["map",[["socketplane","endpoint"],["socketplane-endpoint","here"],["socketplane-network","n"]]]],` +
		`["spx1",["map",[["socketplane","vxlan"],["socketplane-network","n"]]]]],"headings":["name","external_ids"]}`
	someFlows = `
 cookie=0x5350000000000002, priority=100,in_port=spx1 actions=set_field:0x10->reg0,set_field:0x2->reg1,goto_table:50
 cookie=0x5350000000000002, priority=100,in_port=sph1 actions=set_field:0x10->reg0,set_field:0x1->reg1,goto_table:10
 cookie=0x5350000000000002, table=10, priority=100,ip,reg0=0x10,in_port=sph1,vlan_tci=0x0000/0x1fff,dl_src=02:00:00:00:00:01,nw_src=10.61.0.2 actions=goto_table:30
 cookie=0x5350000000000002, table=10, priority=100,arp,reg0=0x10,in_port=sph1,vlan_tci=0x0000/0x1fff,dl_src=02:00:00:00:00:01,arp_spa=10.61.0.2,arp_sha=02:00:00:00:00:01 actions=goto_table:30
 cookie=0x5350000000000002, table=10, priority=90,ip actions=drop
 cookie=0x5350000000000002, table=10, priority=50,reg0=0x10,in_port=sph1,vlan_tci=0x0000/0x1fff,dl_src=02:00:00:00:00:01 actions=goto_table:30
 cookie=0x5350000000000002, table=30, priority=110,arp,reg0=0x10,in_port=sph1,arp_tpa=10.61.0.2,arp_op=1 actions=drop
 cookie=0x5350000000000002, table=30, priority=100,arp,reg0=0x10,arp_tpa=10.61.0.2,arp_op=1 actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:02:00:00:00:00:01->eth_src,IN_PORT
 cookie=0x5350000000000002, table=30, priority=100,arp,reg0=0x10,arp_tpa=10.61.0.3,arp_op=1 actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:02:00:00:00:00:02->eth_src,IN_PORT
 cookie=0x5350000000000002, table=50, priority=100,reg0=0x10,reg1=0x1,dl_dst=02:00:00:00:00:02 actions=output:spx1
 cookie=0x5350000000000002, table=50, priority=100,reg0=0x10,dl_dst=02:00:00:00:00:01 actions=output:sph1
 cookie=0x5350000000000002, table=60, priority=100,ip,reg0=0x10,reg1=0x1,nw_dst=10.61.0.3 actions=set_field:02:00:00:00:00:02->eth_dst,output:spx1
 cookie=0x5350000000000002, table=60, priority=100,ip,reg0=0x10,nw_dst=10.61.0.2 actions=set_field:02:00:00:00:00:01->eth_dst,output:sph1
 cookie=0x5350000000000002, table=70, priority=100,reg0=0x10,reg1=0x1 actions=output:sph1,output:spx1
 cookie=0x5350000000000002, table=70, priority=100,reg0=0x10,reg1=0x2 actions=output:sph1
`
	someLinks = `2: eth0@if3: <UP> mtu 1500 link/ether 9e:bc:81:67:d3:9d brd ff:ff:ff:ff:ff:ff
5: sph1@if4: <UP> mtu 1450 link/ether 9e:bc:81:67:d3:9c brd ff:ff:ff:ff:ff:ff
6: spx1: <UP> mtu 1450 link/ether b2:45:14:5f:f2:74 brd ff:ff:ff:ff:ff:ff promiscuity 1 \    vxlan id 16 local 10.99.1.1 srcport 0 0
`
	someEntries = `02:00:00:00:00:02 dev spx1 dst 10.99.1.2 self permanent
00:00:00:00:00:00 dev spx1 dst 10.99.1.2 self permanent
33:33:00:00:00:01 dev eth0 self permanent
`
)

// ofHost are the facts that come from the texts of h1.
func ofHost(t *testing.T, ports, flows, links, entries string) facts {
	t.Helper()
	s := seen{facts: facts{}, host: "h1"}
	if err := s.ports(ports); err != nil {
		t.Fatal(err)
	}
	s.flows(flows)
	s.links(links)
	s.forwarding(entries)
	return s.facts
}

// TestComparison: a host that is as it must be differs in nothing; every flow, link, port or entry that is not there, or is there
// though nobody needs it, is told.
func TestComparison(t *testing.T) {
	e := expected{kernel: true, vteps: map[string]string{"h1": "10.99.1.1", "h2": "10.99.1.2"}}
	n := clusterNetwork{ID: "n", Name: "red", VNI: 16, Hosts: map[string]string{"h1": "d1", "h2": "d2"}}
	e.networks = map[string]clusterNetwork{"n": n}
	for host, a := range map[string]attachment{"h1": {NetworkID: "d1", EndpointID: "here", IPAddress: "10.61.0.2", MacAddress: "02:00:00:00:00:01"},
		"h2": {NetworkID: "d2", EndpointID: "there", IPAddress: "10.61.0.3", MacAddress: "02:00:00:00:00:02"}} {
		e.running = append(e.running, container{h: &lab.Host{Name: host}, on: map[string]attachment{"red": a}})
	}
	want := facts{}
	e.ofNetwork(want, "h1", n, e.places())
	if err := want.differ(ofHost(t, somePorts, someFlows, someLinks, someEntries)); err != nil {
		t.Fatal(err)
	}
	// With the tunnel ovs there is no device: flows say to which host.
	e.kernel = false
	byFlows, flows := facts{}, strings.ReplaceAll(someFlows, "output:spx1", "set_field:0x10->tun_id,set_field:10.99.1.2->tun_dst,output:spx1")
	e.ofNetwork(byFlows, "h1", n, e.places())
	if err := byFlows.differ(ofHost(t, somePorts, flows, strings.Split(someLinks, "6: ")[0], "")); err != nil {
		t.Error(err)
	}
	if byFlows.differ(ofHost(t, somePorts, strings.Replace(flows, "10.99.1.2", "10.99.1.3", 1), strings.Split(someLinks, "6: ")[0], "")) == nil {
		t.Error("nothing is told of a flow that leads to another host")
	}
	texts := []string{somePorts, someFlows, someLinks, someEntries}
	for i, text := range texts {
		for _, line := range slices.Collect(strings.Lines(text)) {
			if !strings.Contains(line, "sph1") && !strings.Contains(line, "spx1") && !strings.Contains(line, "reg0") {
				continue // what is not a network's
			}
			for word, other := range map[string]string{"without": "", "another": strings.NewReplacer("sph1", "sph2", "spx1", "spx2", "0x10", "0x11", "02:00", "02:11").Replace(line)} {
				changed := slices.Clone(texts)
				if word == "another" {
					other = line + other
				}
				changed[i] = strings.Replace(text, line, other, 1)
				if i == 0 { // one line is all of it
					changed[i] = strings.Replace(text, `"here"`, `"`+word+`"`, 1)
				}
				if want.differ(ofHost(t, changed[0], changed[1], changed[2], changed[3])) == nil {
					t.Errorf("nothing is told of %s %s", word, line)
				}
			}
		}
	}
}

// TestRecords: what the cluster's records say is told apart by kind, and a record of somebody who is not there is seen. Endpoints have one of two forms.
func TestRecords(t *testing.T) {
	for layout, form := range map[string]map[string]string{
		"first":  {"index/n/a": "{}", "endpoints/n/a": `{"endpoints":[{"mac":"02:00:00:00:00:01","addrs":["10.61.0.2"]}]}`},
		"second": {"heads/n/07/a": "{}", "parts/n/a/0": `{"e":[{"m":"02:00:00:00:00:01","a":["10.61.0.2"]}]}`},
	} {
		t.Run(layout, func(t *testing.T) { testRecords(t, form) })
	}
}

func testRecords(t *testing.T, form map[string]string) {
	keys := map[string]string{
		"hosts/a": `{"name":"h1","vtep":"10.99.1.1"}`, "alive/a": "a", "networks/n": `{"id":"n","name":"red","vni":16,"pools":["10.61.0.0/24"],"hosts":{"a":"d"}}`,
		"names/red": "n", "vnis/16": "n", "declared/n": "{}", "pools/10.61.0.0_24": `{"cidr":"10.61.0.0/24","network":"n"}`, "holders/10.61.0.0_24/a": "{}",
		"blocks/10.61.0.0_24/10.61.0.0": `{"claims":[{"owner":"a","addrs":["10.61.0.1-10.61.0.7","10.61.0.9"]}]}`,
	}
	maps.Copy(keys, form)
	r := records{keys: map[string]string{}, names: map[string]string{"a": "h1"}, needed: map[string]bool{"10.61.0.2": true}}
	for key, value := range keys {
		r.keys[prefix+key] = value
	}
	e := expected{hosts: []string{"h1"}, networks: map[string]clusterNetwork{"n": {ID: "n", Name: "red", VNI: 16, Pools: []string{"10.61.0.0/24"}, Hosts: map[string]string{"h1": "d"}}}}
	want, have := facts{}, facts{"docker network d at h1 is red": true}
	e.ofCluster(want)
	e.ofRecords(want, place{"h1", "n", "here", "02:00:00:00:00:01", "10.61.0.2"})
	r.facts(have)
	if err := want.differ(have); err != nil {
		t.Fatal(err)
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		value := r.keys[prefix+key]
		delete(r.keys, prefix+key)
		have := facts{"docker network d at h1 is red": true}
		if r.facts(have); want.differ(have) == nil {
			t.Errorf("nothing is told of a missing %s", key)
		}
		r.keys[prefix+key] = value
	}
}
