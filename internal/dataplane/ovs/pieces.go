package ovs

import (
	"cmp"
	"context"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
)

// changePiece is how many endpoints of other hosts are changed at once: what is noted for the switch until it has it takes some 2 KiB for each.
const changePiece = 512

// change makes a change of a network, a large one in pieces, each with a bundle of its own. Others have their turns in between.
func (p *Plane) change(ctx context.Context, n *network, c dataplane.Change) error {
	var failed, refused error
	for _, piece := range p.pieces(n, c) {
		p.mu.Lock()
		n.apply(piece)
		p.mu.Unlock()
		if failed != nil {
			continue // it is noted, and Run takes it up
		}
		if err := p.serve(ctx, n.id); isRefusal(err) {
			refused = err
		} else {
			failed = err
		}
	}
	return cmp.Or(failed, refused)
}

// pieces split a change. What is new of other hosts comes first, what is gone last: an endpoint that moves is wanted in one place or in both at every
// moment, and flows lead to one of them.
func (p *Plane) pieces(n *network, c dataplane.Change) []dataplane.Change {
	p.mu.Lock()
	defer p.mu.Unlock()
	size, here := 0, dataplane.Change{Network: c.Network, Local: c.Local, LocalGone: c.LocalGone}
	var set, gone []dataplane.PeerChange // each of one piece at most
	for _, change := range c.Peers {
		size += len(change.Set) + n.leaving(change)
		for part := range slices.Chunk(change.Set, changePiece) {
			set = append(set, dataplane.PeerChange{Host: change.Host, VTEP: change.VTEP, Set: part})
		}
		switch {
		case change.Gone, len(change.Set)+len(change.Unset) == 0:
			gone = append(gone, change)
		default:
			for part := range slices.Chunk(change.Unset, changePiece) {
				gone = append(gone, dataplane.PeerChange{Host: change.Host, VTEP: change.VTEP, Unset: part})
			}
		}
	}
	if size <= changePiece {
		return []dataplane.Change{c}
	}
	return slices.Concat(n.gather(c.Network, set), []dataplane.Change{here}, n.gather(c.Network, gone))
}

// gather makes changes of changePiece endpoints or a few more of several hosts' changes.
func (n *state) gather(network string, changes []dataplane.PeerChange) []dataplane.Change {
	var all []dataplane.Change
	size := changePiece
	for _, c := range changes {
		if size >= changePiece {
			all, size = append(all, dataplane.Change{Network: network}), 0
		}
		last := &all[len(all)-1]
		last.Peers = append(last.Peers, c)
		size += len(c.Set) + n.leaving(c)
	}
	return all
}

// leaving is how many endpoints a change takes away. Called with mu held.
func (n *state) leaving(c dataplane.PeerChange) int {
	if had := n.peers[c.Host]; c.Gone && had != nil {
		return len(had.stations)
	}
	return len(c.Unset)
}
