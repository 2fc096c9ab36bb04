package netview

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
)

// Network is a Docker network of this host that is bound to one of the cluster's. It is replaced, never changed.
type Network struct {
	ID, Name, DockerID string
	VNI                uint32
	Pools              []netip.Prefix
	// Endpoints counts those that have joined here, Peers the other hosts that have any.
	Endpoints, Peers int
	// Engine marks the process that made it, if that may be another Docker Engine than the one that the agent follows.
	Engine string
	// Copied says that it was made here because the cluster has it.
	Copied bool
	// Asked says that -o network=NAME named it.
	Asked bool
	// Cut says why it has no part in the cluster's network, if it has none.
	Cut string
	// Dropped says that the agent began to remove it.
	Dropped bool
	// Removing says that Docker has removed it, and that the cluster's record of it is not written yet.
	Removing bool
}

// SetNetwork notes one of this host's networks as it is now; Peers is the view's own knowledge. Docker's id tells it from others: one of the cluster's networks can be
// two of Docker's while one of these is cut off.
func (v *View) SetNetwork(n Network) {
	n.Peers = 0
	v.mu.Lock()
	defer v.mu.Unlock()
	if old := v.networks[n.DockerID]; old != nil && reflect.DeepEqual(*old, n) {
		return
	}
	v.networks[n.DockerID] = &n
	v.touchNetwork(n.DockerID)
}

// DropNetwork notes that a network, by Docker's id, is not on this host any more.
func (v *View) DropNetwork(dockerID string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.networks[dockerID] != nil {
		delete(v.networks, dockerID)
		v.touchNetwork(dockerID)
	}
}

// Networks are this host's, sorted by name and id.
func (v *View) Networks() []Network {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := make([]Network, 0, len(v.networks))
	for _, n := range v.networks {
		all = append(all, v.withPeers(n))
	}
	slices.SortFunc(all, func(a, b Network) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID), cmp.Compare(a.DockerID, b.DockerID))
	})
	return all
}

// withPeers is a copy with what is known of other hosts; mu is held.
func (v *View) withPeers(n *Network) Network {
	now := *n
	if t := v.tables[n.ID]; t != nil {
		now.Peers = len(t.peers)
	}
	return now
}

// touchNetwork lets the consumers know that a network is another one; mu is held.
func (v *View) touchNetwork(dockerID string) {
	for s := range v.follows {
		s.dirty[dockerID] = true
		select {
		case s.news <- struct{}{}:
		default: // it is awake already
		}
	}
}

// NetworkStream tells one consumer which of this host's networks came, changed or went, coalesced. A change of Peers alone is none.
type NetworkStream struct {
	v     *View
	news  chan struct{}   // has room for one
	dirty map[string]bool // by Docker's id; View.mu guards it
}

// StreamNetworks begins to tell of this host's networks; those that are there are the first news.
func (v *View) StreamNetworks() *NetworkStream {
	s := &NetworkStream{v: v, news: make(chan struct{}, 1), dirty: map[string]bool{}}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.follows[s] = true
	for id := range v.networks {
		v.touchNetwork(id)
	}
	return s
}

// News gets a value when there is something to Take.
func (s *NetworkStream) News() <-chan struct{} { return s.news }

// Take returns the networks that came or changed since it was called last, and Docker's ids of those that went, sorted by these ids. Its cost is that of these networks.
func (s *NetworkStream) Take() (set []Network, gone []string) {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	for id := range s.dirty {
		if n := s.v.networks[id]; n != nil {
			set = append(set, s.v.withPeers(n))
		} else {
			gone = append(gone, id)
		}
	}
	clear(s.dirty)
	slices.SortFunc(set, func(a, b Network) int { return cmp.Compare(a.DockerID, b.DockerID) })
	slices.Sort(gone)
	return set, gone
}

// End ends the stream.
func (s *NetworkStream) End() {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	delete(s.v.follows, s)
}
