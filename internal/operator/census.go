package operator

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/socketplane/socketplane/store"
)

// census counts a network's endpoints for `network inspect`. It takes them host by host and keeps none.
type census struct {
	// want is the MTU that new containers get, in bytes; 0 if those that have another one are not asked for.
	want  int
	hosts map[string]store.Host
	// each counts the endpoints of each host; addrs are theirs, if they are asked for.
	each  map[string]int
	addrs map[string][]netip.Addr
	// otherMTU are the containers that have another MTU, a line each.
	otherMTU []string
}

// newCensus is one of a network, in a cluster of these hosts whose hosts can all carry least bytes.
func newCensus(n store.Network, hosts map[string]store.Host, least int, addrs bool) *census {
	c := &census{want: cmp.Or(n.MTU, least), hosts: hosts, each: map[string]int{}}
	if addrs {
		c.addrs = map[string][]netip.Addr{}
	}
	return c
}

// add takes one host's endpoints.
func (c *census) add(of store.Endpoints) {
	c.each[of.Host] += len(of.Endpoints)
	for _, e := range of.Endpoints {
		if c.addrs != nil {
			c.addrs[of.Host] = append(c.addrs[of.Host], e.Addrs...)
		}
		if e.MTU == 0 || e.MTU == c.want {
			continue
		}
		name := "endpoint " + e.ID[:min(len(e.ID), 12)]
		if e.Container != nil {
			name = "container " + e.Container.Name
		}
		c.otherMTU = append(c.otherMTU, fmt.Sprintf("%s on host %s has MTU %d, new containers get %d: docker restart it", name, cmp.Or(c.hosts[of.Host].Name, of.Host), e.MTU, c.want))
	}
}
