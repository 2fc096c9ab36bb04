package driver

import (
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/netview"
)

// index finds endpoints of a segment by what a new one must not share with them, and those that are being removed, without going through all. MAC and addresses of
// an endpoint never change. What guards the segment's endpoints guards it.
type index struct {
	macs     map[dataplane.MAC][]*endpoint
	addrs    map[netip.Prefix][]*endpoint
	deleting map[string]*endpoint // by ID
}

func newIndex() index {
	return index{macs: map[dataplane.MAC][]*endpoint{}, addrs: map[netip.Prefix][]*endpoint{}, deleting: map[string]*endpoint{}}
}

// add adds an endpoint to the segment. The segment's mu is held, as it is for drop, replace and mark.
func (n *segment) add(e *endpoint) {
	n.endpoints[e.ID] = e
	n.index.macs[e.MAC] = append(n.index.macs[e.MAC], e)
	for _, a := range e.Addrs {
		n.index.addrs[a] = append(n.index.addrs[a], e)
	}
	n.count(e, 1)
	n.mark(e, e.Deleting)
}

// drop is the opposite of add.
func (n *segment) drop(e *endpoint) {
	delete(n.endpoints, e.ID)
	n.count(e, -1)
	without(n.index.macs, e.MAC, e)
	for _, a := range e.Addrs {
		without(n.index.addrs, a, e)
	}
	delete(n.index.deleting, e.ID)
}

// replace changes an endpoint.
func (n *segment) replace(e *endpoint, next endpoint) {
	n.count(e, -1)
	*e = next
	n.count(e, 1)
	n.mark(e, next.Deleting)
}

// mark notes whether an endpoint is being removed.
func (n *segment) mark(e *endpoint, deleting bool) {
	if e.Deleting = deleting; deleting {
		n.index.deleting[e.ID] = e
	} else {
		delete(n.index.deleting, e.ID)
	}
}

// count keeps the number of those that have joined.
func (n *segment) count(e *endpoint, by int) {
	if e.Joined {
		n.joined += by
	}
}

// seen is the network as the view is to have it; mu is held.
func (n *segment) seen() netview.Network {
	return netview.Network{
		ID: n.rec.Network, Name: n.rec.Name, DockerID: n.rec.DockerID, VNI: n.rec.VNI, Pools: n.rec.Pools, Endpoints: n.joined, Engine: n.rec.Engine,
		Copied: n.rec.Copied, Asked: n.rec.Asked, Cut: n.rec.Cut, Dropped: n.rec.Dropped, Removing: n.rec.Removing,
	}
}

// Networks tells which networks this host has, sorted by name and id. It waits for nothing.
func (d *Driver) Networks() []netview.Network { return d.view.Networks() }

// Peers counts the other hosts with endpoints on this host's networks, and these endpoints.
func (d *Driver) Peers() (hosts, endpoints int) { return d.view.Count() }

func without[K comparable](in map[K][]*endpoint, key K, e *endpoint) {
	rest := slices.DeleteFunc(slices.Clone(in[key]), func(o *endpoint) bool { return o == e })
	if len(rest) == 0 {
		delete(in, key)
	} else {
		in[key] = rest
	}
}
