package driver

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/store"
)

// Link-local addresses (docker run --link-local-ip) are Docker's own: it gives them to the interface and tells no driver. The agent finds them with
// the container's name. Nobody claims them, so two containers of a network may have the same one; then all hosts hold the one with the smaller endpoint id for its owner.

// linkLocal are the endpoint's link-local addresses, as far as Docker has told.
func (e *endpoint) linkLocal() []netip.Addr { return linkLocalOf(e.Container) }

func linkLocalOf(c *store.Container) []netip.Addr {
	if c == nil {
		return nil
	}
	var addrs []netip.Addr
	for _, a := range c.LinkLocal { // of other hosts, too: whatever they are, no others are taken
		if a.IsLinkLocalUnicast() {
			addrs = append(addrs, a.Unmap().WithZone(""))
		}
	}
	return addrs
}

// linkLocalOwner is who has a link-local address on a network.
type linkLocalOwner struct{ endpoint, host, container string }

// linkLocalOwners tells who has the link-local addresses of a network, whose lock is held; nil if there are none.
func (n *segment) linkLocalOwners() map[netip.Addr]linkLocalOwner {
	var owners map[netip.Addr]linkLocalOwner
	add := func(host, id string, c *store.Container) {
		for _, a := range linkLocalOf(c) {
			if owners == nil {
				owners = map[netip.Addr]linkLocalOwner{}
			}
			if o, taken := owners[a]; !taken || id < o.endpoint {
				owners[a] = linkLocalOwner{id, host, c.Name}
			}
		}
	}
	for id, e := range n.endpoints {
		if !e.Deleting {
			add("", id, e.Container)
		}
	}
	for host, peer := range n.peers {
		for _, e := range peer.Endpoints {
			add(host, e.ID, e.Container)
		}
	}
	return owners
}

// withLinkLocal are an endpoint's addresses, with those link-local ones that it owns.
func withLinkLocal(addrs []netip.Addr, id string, c *store.Container, owners map[netip.Addr]linkLocalOwner) []netip.Addr {
	addrs = slices.Clip(addrs)
	for _, a := range linkLocalOf(c) {
		if owners[a].endpoint == id {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// Duplicate is a link-local address that a container of this host has, and another one of the same network too.
type Duplicate struct {
	// Network is Docker's id.
	Network, Container string
	Addr               netip.Addr
	// Owner has the address.
	Owner string
}

// Duplicates are the link-local addresses that containers of this host have in vain.
func (d *Driver) Duplicates() []Duplicate {
	var all []Duplicate
	for _, n := range d.all() {
		n.lock.Lock()
		owners := n.linkLocalOwners()
		for id, e := range n.endpoints {
			for _, a := range e.linkLocal() {
				o := owners[a]
				if e.Deleting || o.endpoint == id {
					continue
				}
				where := "of this host"
				if o.host != "" {
					where = "of host " + d.hostName(o.host)
				}
				all = append(all, Duplicate{n.rec.DockerID, e.Container.Name, a, fmt.Sprintf("container %s %s", o.container, where)})
			}
		}
		n.lock.Unlock()
	}
	slices.SortFunc(all, func(a, b Duplicate) int { return cmp.Or(cmp.Compare(a.Container, b.Container), a.Addr.Compare(b.Addr)) })
	return all
}

func (d *Driver) hostName(id string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return cmp.Or(d.hosts[id].Name, id)
}
