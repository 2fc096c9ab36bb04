package dataplane

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// ErrUnknownNetwork says that a plane was told to change a network which it was not given.
var ErrUnknownNetwork = errors.New("the data plane was not given this network")

// Plane makes this host forward what it is told. All calls are idempotent and safe for concurrent use, except that calls that name the same
// network must follow each other. What a plane could not apply it remembers, and applies when it can; a network that it can't
// apply does not keep it from others.
type Plane interface {
	// Ready is nil when packets can be forwarded, else it says what is missing and the cure.
	Ready() error
	// MTU is the containers' MTU that this host's underlay can carry, in bytes.
	MTU() int
	// SetNetwork makes the network be forwarded exactly so, whatever was wanted of it before. Its cost is that of the network.
	SetNetwork(context.Context, Network) error
	// Apply changes a network that was set before. Its cost is that of the change. It returns ErrUnknownNetwork for another one.
	Apply(context.Context, Change) error
	// Attach is Apply that also makes the links of one of the local endpoints in the change, and returns when its port is there. If it
	// fails, what was wanted of that endpoint before stays wanted.
	Attach(ctx context.Context, c Change, endpoint string) error
	// RemoveNetwork removes everything of the network.
	RemoveNetwork(ctx context.Context, id string) error
}

// Change is what is new in a network.
type Change struct {
	// Network is the network's cluster-wide identity.
	Network string
	// Local are endpoints on this host that are new or changed; LocalGone are the IDs of those that are gone.
	Local     []Endpoint
	LocalGone []string
	// Peers are the other hosts of which something is new, each once.
	Peers []PeerChange
}

// PeerChange is what is new of another host in a network.
type PeerChange struct {
	Host string
	// VTEP is the host's as it is now. All its endpoints move with it.
	VTEP netip.Addr
	// Set are endpoints that are new or changed; Unset are the IDs of those that are gone.
	Set   []PeerEndpoint
	Unset []string
	// Gone says that the host has no endpoint on the network any more; Set and Unset are empty then.
	Gone bool
}

// Apply makes the change in a network. It copies what it changes: slices that n had before stay as they are. Its cost is that of the network.
func (c Change) Apply(n Network) Network {
	n.Local = merge(n.Local, func(e Endpoint) string { return e.ID }, c.Local, c.LocalGone)
	var hosts []Peer
	var gone []string
	for _, p := range c.Peers {
		if p.Gone {
			gone = append(gone, p.Host)
			continue
		}
		peer := Peer{Host: p.Host, VTEP: p.VTEP}
		for _, had := range n.Remote {
			if had.Host == p.Host {
				peer.Endpoints = had.Endpoints
			}
		}
		peer.Endpoints = merge(peer.Endpoints, func(e PeerEndpoint) string { return e.ID }, p.Set, p.Unset)
		hosts = append(hosts, peer)
	}
	n.Remote = merge(n.Remote, func(p Peer) string { return p.Host }, hosts, gone)
	slices.SortStableFunc(n.Remote, func(a, b Peer) int { return a.VTEP.Compare(b.VTEP) })
	return n
}

// merge returns a copy of all with some replaced or added and others gone, sorted by their keys.
func merge[T any](all []T, key func(T) string, set []T, gone []string) []T {
	if len(set)+len(gone) == 0 {
		return all
	}
	drop := make(map[string]bool, len(set)+len(gone))
	for _, k := range gone {
		drop[k] = true
	}
	for _, v := range set {
		drop[key(v)] = true
	}
	out := slices.DeleteFunc(slices.Clone(all), func(v T) bool { return drop[key(v)] })
	out = append(out, set...)
	slices.SortFunc(out, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	return out
}
