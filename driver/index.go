package driver

import (
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
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

// add adds an endpoint to the segment. The segment's mu is held, as it is for drop and mark.
func (n *segment) add(e *endpoint) {
	n.endpoints[e.ID] = e
	n.index.macs[e.MAC] = append(n.index.macs[e.MAC], e)
	for _, a := range e.Addrs {
		n.index.addrs[a] = append(n.index.addrs[a], e)
	}
	n.mark(e, e.Deleting)
}

// drop is the opposite of add.
func (n *segment) drop(e *endpoint) {
	delete(n.endpoints, e.ID)
	without(n.index.macs, e.MAC, e)
	for _, a := range e.Addrs {
		without(n.index.addrs, a, e)
	}
	delete(n.index.deleting, e.ID)
}

// mark notes whether an endpoint is being removed.
func (n *segment) mark(e *endpoint, deleting bool) {
	if e.Deleting = deleting; deleting {
		n.index.deleting[e.ID] = e
	} else {
		delete(n.index.deleting, e.ID)
	}
}

func without[K comparable](in map[K][]*endpoint, key K, e *endpoint) {
	rest := slices.DeleteFunc(slices.Clone(in[key]), func(o *endpoint) bool { return o == e })
	if len(rest) == 0 {
		delete(in, key)
	} else {
		in[key] = rest
	}
}
