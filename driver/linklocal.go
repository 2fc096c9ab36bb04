package driver

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/netview"
)

// Link-local addresses (docker run --link-local-ip) are Docker's own: it gives them to the interface and tells no driver. The agent finds them with
// the container's name. No host claims them, so two containers of a network may have the same one; then all hosts hold the one with the smaller endpoint id for its
// owner (internal/netview).

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
		n.mu.Lock()
		for id, e := range n.endpoints {
			for _, a := range netview.LinkLocal(e.Container) {
				o, known := d.view.LinkLocalOwner(n.rec.Network, a)
				if e.Deleting || !known || o.Endpoint == id {
					continue
				}
				where := "of this host"
				if o.Host != "" {
					where = "of host " + d.view.HostName(o.Host)
				}
				all = append(all, Duplicate{n.rec.DockerID, e.Container.Name, a, fmt.Sprintf("container %s %s", o.Container, where)})
			}
		}
		n.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Duplicate) int { return cmp.Or(cmp.Compare(a.Container, b.Container), a.Addr.Compare(b.Addr)) })
	return all
}
