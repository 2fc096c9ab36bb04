package subnets

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// state is what one pass has seen. Its methods are pure.
type state struct {
	self   string
	own    []store.Use
	hosts  map[string]store.Host
	pools  []store.Pool
	asked  map[netip.Prefix]bool // pools that no network uses and this host's Docker has asked for
	docker []dockerwatch.Range   // empty if not known
}

// builtIn are the address pools that Docker has without configuration (libnetwork's ipamutils, the same from 20.10 to 29).
func builtIn() []dockerwatch.Range {
	ranges := []dockerwatch.Range{
		{Base: netip.MustParsePrefix("172.17.0.0/16"), Bits: 16}, {Base: netip.MustParsePrefix("172.18.0.0/16"), Bits: 16},
		{Base: netip.MustParsePrefix("172.19.0.0/16"), Bits: 16}, {Base: netip.MustParsePrefix("172.20.0.0/14"), Bits: 16},
		{Base: netip.MustParsePrefix("172.24.0.0/14"), Bits: 16}, {Base: netip.MustParsePrefix("172.28.0.0/14"), Bits: 16},
		{Base: netip.MustParsePrefix("192.168.0.0/16"), Bits: 20},
	}
	return ranges
}

// keepFree is how many of Docker's default pools are left to choose from, whatever other hosts use. Where fewer than twice as many are
// free, half of them are left, but at least one: small address pools (default-address-pools) have no eight to spare.
const keepFree = 8

// defaults gives the IPv4 subnets that Docker chooses from, in its order.
func (s state) defaults() func(func(netip.Prefix) bool) {
	ranges := s.docker
	if len(ranges) == 0 {
		ranges = builtIn()
	}
	return func(yield func(netip.Prefix) bool) {
		for _, r := range ranges {
			if !r.Base.Addr().Is4() {
				continue
			}
			for p := range ipalloc.Slices(r.Base.Masked(), r.Bits) {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// reachable says whether Docker might choose a subnet that overlaps p. Without its answer any IPv4 subnet counts.
func (s state) reachable(p netip.Prefix) bool {
	if !p.Addr().Is4() {
		return false
	}
	return len(s.docker) == 0 || slices.ContainsFunc(s.docker, func(r dockerwatch.Range) bool { return r.Base.Overlaps(p) })
}

// reserved are the subnets that Docker's allocator must avoid on this host: all pools of the cluster, and what other hosts use as long
// as Docker keeps enough to choose from. What this host itself uses needs no mark.
func (s state) reserved() []netip.Prefix {
	var marks []netip.Prefix
	for _, p := range s.taken() {
		if s.reachable(p) && !s.covered(p) {
			marks = append(marks, p)
		}
	}
	slices.SortFunc(marks, netip.Prefix.Compare)
	marks = slices.Compact(marks)
	keep := max(1, min(keepFree, s.free(marks, 2*keepFree)/2))
	for _, p := range s.others() {
		if !s.reachable(p) || s.covered(p) || slices.Contains(marks, p) {
			continue
		}
		if more := append(slices.Clone(marks), p); s.free(more, keep) >= keep {
			marks = more
		}
	}
	slices.SortFunc(marks, netip.Prefix.Compare)
	return marks
}

// taken are the cluster's pools. One that this host's Docker has just asked for is not yet among them: Docker checks the answer against its
// routes, and would ask for another.
func (s state) taken() []netip.Prefix {
	var taken []netip.Prefix
	for _, p := range s.pools {
		if !s.asked[p.CIDR] {
			taken = append(taken, p.CIDR)
		}
	}
	return taken
}

// others are the subnets that other hosts use by themselves, sorted. Those of docker_gwbridge are among them also while this host has
// none: the agent makes it with an explicit subnet, which Docker compares with no route, and Docker would take such a subnet for a network.
func (s state) others() []netip.Prefix {
	var others []netip.Prefix
	for id, h := range s.hosts {
		for _, u := range h.Used() {
			if id != s.self {
				others = append(others, u.Subnet)
			}
		}
	}
	slices.SortFunc(others, netip.Prefix.Compare)
	return slices.Compact(others)
}

func isGateway(u store.Use) bool {
	return u.Network == dockerwatch.GatewayBridge || u.Dev == dockerwatch.GatewayBridge
}

// covered says whether this host itself has a route that keeps Docker off the whole of p.
func (s state) covered(p netip.Prefix) bool {
	return slices.ContainsFunc(s.own, func(u store.Use) bool { return u.Subnet.Overlaps(p) && u.Subnet.Bits() <= p.Bits() })
}

// free counts the pools that Docker can choose from with these marks, up to limit.
func (s state) free(marks []netip.Prefix, limit int) int {
	free := 0
	for p := range s.defaults() {
		if free >= limit {
			break
		}
		if !slices.ContainsFunc(marks, p.Overlaps) && !s.uses(s.own, p) {
			free++
		}
	}
	return free
}

func (s state) uses(all []store.Use, p netip.Prefix) bool {
	return slices.ContainsFunc(all, func(u store.Use) bool { return u.Subnet.Overlaps(p) })
}

// gatewaySubnet chooses the subnet of docker_gwbridge: the one that most other hosts have, if it is free here; else the last of
// Docker's default pools that no host uses, or at least not this one. Docker itself chooses from the first on, so that its choice for
// a network and ours can't meet. It is never a pool of the cluster's, nor one with a name server.
func (s state) gatewaySubnet(servers []netip.Addr) (netip.Prefix, bool) {
	free := func(p netip.Prefix) bool {
		return !s.uses(s.own, p) && !slices.ContainsFunc(servers, p.Contains) &&
			!slices.ContainsFunc(s.pools, func(q store.Pool) bool { return q.CIDR.Overlaps(p) })
	}
	count := map[netip.Prefix]int{}
	var all []store.Use
	for id, h := range s.hosts {
		if id == s.self {
			continue
		}
		used := h.Used()
		all = append(all, used...)
		for _, u := range used {
			if isGateway(u) && u.Subnet.Addr().Is4() {
				count[u.Subnet]++
			}
		}
	}
	var agreed []netip.Prefix
	for p := range count {
		if free(p) {
			agreed = append(agreed, p)
		}
	}
	if len(agreed) > 0 {
		slices.SortFunc(agreed, func(a, b netip.Prefix) int { return cmp.Or(count[b]-count[a], a.Compare(b)) })
		return agreed[0], true
	}
	var unused, second netip.Prefix
	for p := range s.defaults() {
		switch {
		case !free(p):
		case !s.uses(all, p):
			unused = p
		default:
			second = p
		}
	}
	if unused.IsValid() {
		return unused, true
	}
	return second, second.IsValid()
}
