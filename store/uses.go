package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Use is a subnet that a host uses by itself, outside the cluster's networks.
type Use struct {
	Subnet netip.Prefix `json:"subnet"`
	// Network is the name of the host's own Docker network that has the subnet; empty if none has.
	Network string `json:"network,omitempty"`
	// Dev is the interface that leads there, and Addr the host's address on it, if it is not a Docker network's.
	Dev  string     `json:"dev,omitempty"`
	Addr netip.Addr `json:"addr,omitzero"`
}

// Compare orders uses by their subnets.
func (u Use) Compare(other Use) int {
	return cmp.Or(u.Subnet.Compare(other.Subnet), cmp.Compare(u.String(), other.String()))
}

// wideLAN is the prefix length up to which an interface's subnet is taken for a range of which only parts are used: 10.0.0.0/8.
const wideLAN = 8

// defaultBridge is the network that each Docker has, and that can't be removed.
const defaultBridge = "bridge"

// String says what uses the subnet.
func (u Use) String() string {
	switch {
	case u.Network != "":
		return "its Docker network " + u.Network
	case u.Dev != "":
		return "its interface " + u.Dev
	}
	return "an interface"
}

// Forbids says whether a network of the cluster can't have the subnet cidr, because of this use. A subnet within an IPv4 LAN as large as
// 10.0.0.0/8 is fine if the host's own address is not in it: whoever names one knows which part is free.
func (u Use) Forbids(cidr netip.Prefix) bool {
	if !u.Subnet.Overlaps(cidr) {
		return false
	}
	wide := u.Network == "" && u.Subnet.Addr().Is4() && u.Subnet.Bits() <= wideLAN && cidr.Bits() > u.Subnet.Bits()
	return !wide || cidr.Contains(u.Addr)
}

// Used are the host's uses. A record of an older agent has only subnets.
func (h Host) Used() []Use {
	if len(h.Uses) > 0 {
		return h.Uses
	}
	uses := make([]Use, len(h.Subnets))
	for i, s := range h.Subnets {
		uses[i].Subnet = s
	}
	return uses
}

// Used are the hosts whose uses a new subnet is compared with, by id: as their watcher has them ([Cluster.WithHosts]), which may be a moment ago, or listed if there is none or it
// does not know. Hosts whose records can't be read are left out. Callers do not change the map.
func (c HostRecords) Used(ctx context.Context) (map[string]Host, error) {
	if c.known != nil {
		if hosts, current := c.known(); current {
			return hosts, nil
		}
	}
	all, err := c.AllHosts(ctx)
	if err != nil {
		return nil, err
	}
	hosts := make(map[string]Host, len(all))
	for id, h := range all {
		if h.Err == nil {
			hosts[id] = h.Host
		}
	}
	return hosts, nil
}

// checkUses returns ErrOverlap if a host of the cluster uses one of the subnets by itself. It is asked when a network is made: what a
// host begins to use later, or has begun a moment ago, is trouble of that host.
func (c *core) checkUses(ctx context.Context, pools []netip.Prefix) error {
	used, err := c.hosts().Used(ctx)
	if err != nil {
		return err
	}
	hosts := slices.Collect(maps.Values(used))
	slices.SortFunc(hosts, func(a, b Host) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	for _, pool := range pools {
		var first Use
		var names []string
		for _, h := range hosts {
			uses := h.Used()
			i := slices.IndexFunc(uses, func(u Use) bool { return u.Forbids(pool) })
			if i < 0 {
				continue
			}
			if names = append(names, cmp.Or(h.Name, h.ID)); len(names) == 1 {
				first = uses[i]
			}
		}
		if len(names) > 0 {
			return usedError(pool, first, names)
		}
	}
	return nil
}

// usedError names the first host, what uses the subnet there, and the cure.
func usedError(pool netip.Prefix, u Use, hosts []string) error {
	others := ""
	if n := len(hosts) - 1; n == 1 {
		others = " (and so does 1 other host)"
	} else if n > 1 {
		others = fmt.Sprintf(" (and so do %d other hosts)", n)
	}
	cure := "choose another --subnet, or repeat the command in a moment if Docker chose this one"
	if u.Network == defaultBridge {
		cure += fmt.Sprintf(", or give Docker's own bridge another one on %s ('bip' in /etc/docker/daemon.json)", hosts[0])
	} else if u.Network != "" {
		cure += fmt.Sprintf(", or remove that network with 'docker network rm %s' on %s", u.Network, hosts[0])
	}
	return fmt.Errorf("%w: subnet %s overlaps %s, which host %s uses for %s%s: %s",
		ErrOverlap, pool, u.Subnet, hosts[0], u, others, cure)
}
