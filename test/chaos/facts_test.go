package chaos

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// facts are statements about the lab's state, each a line. The expected ones are computed from what Docker runs and the networks that the cluster
// has, without a look at anything that follows from these; the actual ones are read from where they take effect.
type facts map[string]bool

// mostTold is how many differences are told: more say the same.
const mostTold = 20

func (f facts) add(format string, args ...any) { f[fmt.Sprintf(format, args...)] = true }

// differ says what is wanted and not there, and what is there and not wanted.
func (f facts) differ(actual facts) error {
	var errs []error
	for _, fact := range slices.Sorted(maps.Keys(f)) {
		if !actual[fact] {
			errs = append(errs, errors.New("missing: "+fact))
		}
	}
	for _, fact := range slices.Sorted(maps.Keys(actual)) {
		if !f[fact] {
			errs = append(errs, errors.New("nobody needs: "+fact))
		}
	}
	if more := len(errs) - mostTold; more > 0 {
		errs = append(errs[:mostTold], fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

// place is an endpoint, as everybody must know it.
type place struct {
	host, network, endpoint, mac, addr string // network is the cluster's id
}

// places are the endpoints of the running containers.
func (e expected) places() (all []place) {
	for _, c := range e.running {
		for _, a := range c.on {
			all = append(all, place{c.h.Name, e.networkOf(c.h.Name, a.NetworkID), a.EndpointID, a.MacAddress, a.IPAddress})
		}
	}
	return all
}

// facts computes what must be, and nothing else.
func (e expected) facts() facts {
	want := facts{}
	hosts := map[string]map[string]bool{} // the hosts with endpoints, by network
	places := map[string][]place{}        // by network
	count := map[string]int{}             // endpoints by host
	for _, p := range e.places() {
		put(hosts, p.network, p.host)
		places[p.network] = append(places[p.network], p)
		count[p.host]++
		e.ofRecords(want, p)
	}
	for id, n := range e.networks {
		for host := range hosts[id] {
			e.ofNetwork(want, host, n, places[id])
		}
	}
	for _, h := range e.hosts {
		want.add("%s has handed out %d addresses", h, count[h])
	}
	e.ofCluster(want)
	return want
}

// ofRecords are the cluster's records of an endpoint.
func (e expected) ofRecords(want facts, p place) {
	want.add("record of %s at %s of host %s on %s", p.mac, p.addr, p.host, p.network)
	want.add("index of host %s on %s", p.host, p.network)
	want.add("claim of %s by %s", p.addr, p.host)
}

// ofCluster are the networks, in the cluster and in each host's Docker.
func (e expected) ofCluster(want facts) {
	for _, h := range e.hosts {
		want.add("host %s", h)
		want.add("%s is alive", h)
	}
	for id, n := range e.networks {
		want.add("network %s", id)
		want.add("VNI %d of %s", n.VNI, id)
		var at []string
		for host, docker := range n.Hosts {
			want.add("docker network %s at %s is %s", docker, host, e.name(n))
			at = append(at, host)
		}
		slices.Sort(at)
		for _, pool := range n.Pools {
			want.add("subnet %s of %s at %s", pool, id, strings.Join(at, " "))
			want.add("claims in %s", pool)
		}
		if n.State == removing || n.Name == "" && e.taken(e.name(n)) {
			continue
		}
		want.add("name %s of %s", e.name(n), id)
		want.add("declaration of %s", id)
		for _, host := range e.hosts {
			if n.Hosts[host] == "" && !slices.Contains(n.Away, host) {
				want.add("network %s at %s", n.Name, host) // never found: it is to be there and is not
			}
		}
	}
}

// name is what a network is called, by its host's Docker if the cluster knows no name.
func (e expected) name(n clusterNetwork) string {
	if n.Name != "" {
		return n.Name
	}
	for host, docker := range n.Hosts {
		return e.docker[host][docker]
	}
	return ""
}

// taken says whether the cluster has a network of this name. Who lets go of a network that others still use, and makes another one of its name,
// has that for himself.
func (e expected) taken(name string) bool {
	for _, n := range e.networks {
		if n.Name == name && n.State != removing {
			return true
		}
	}
	return false
}

// networkOf is the cluster's id of a host's Docker network.
func (e expected) networkOf(host, docker string) string {
	for id, n := range e.networks {
		if n.Hosts[host] == docker {
			return id
		}
	}
	return "no network of the cluster"
}

// everybody is the destination of what is sent to all endpoints, in the words of the kernel's forwarding entries. With the tunnel ovs it is
// flows that say to whom frames are forwarded.
const everybody = "00:00:00:00:00:00"

// ofNetwork is what a host with endpoints on a network has of it: ports, devices and flows.
func (e expected) ofNetwork(want facts, host string, n clusterNetwork, all []place) {
	var here []string
	away := map[string]bool{}
	for _, p := range all {
		if p.host == host {
			here = append(here, p.endpoint)
		} else {
			away[p.host] = true
		}
	}
	slices.Sort(here)
	flow := func(format string, args ...any) {
		want.add("flow at %s of VNI %d: "+format, append([]any{host, n.VNI}, args...)...)
	}
	for _, p := range all {
		flow("table 30 arp_tpa=%s answered with %s", p.addr, p.mac)
		if p.host != host {
			flow("table 50 dl_dst=%s reg1=0x1 to tunnel", p.mac)
			flow("table 60 nw_dst=%s reg1=0x1 to tunnel %s", p.addr, p.mac)
			want.add("forwarding at %s of VNI %d: %s to %s", host, n.VNI, p.mac, e.vteps[p.host])
			continue
		}
		want.add("port at %s of %s on %s", host, p.endpoint, n.ID)
		want.add("link at %s of %s", host, p.endpoint)
		flow("table 0 in_port=%s", p.endpoint)
		flow("table 10 dl_src=%s in_port=%s", p.mac, p.endpoint)
		flow("table 10 dl_src=%s in_port=%s nw_src=%s", p.mac, p.endpoint, p.addr)
		flow("table 10 arp_spa=%s dl_src=%s in_port=%s", p.addr, p.mac, p.endpoint)
		flow("table 30 arp_tpa=%s in_port=%s", p.addr, p.endpoint)
		flow("table 50 dl_dst=%s to %s", p.mac, p.endpoint)
		flow("table 60 nw_dst=%s to %s %s", p.addr, p.endpoint, p.mac)
	}
	everywhere := slices.Clone(here)
	if len(away) > 0 {
		everywhere = append(everywhere, "tunnel")
	}
	flow("table 70 reg1=0x1 to %s", strings.Join(everywhere, " "))
	flow("table 70 reg1=0x2 to %s", strings.Join(here, " "))
	flow("table 0 in_port=tunnel")
	for other := range away {
		want.add("forwarding at %s of VNI %d: %s to %s", host, n.VNI, everybody, e.vteps[other])
	}
	if e.kernel {
		want.add("tunnel at %s of VNI %d on %s", host, n.VNI, n.ID)
	}
}
