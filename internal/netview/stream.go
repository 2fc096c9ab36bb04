package netview

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/socketplane/socketplane/internal/dataplane"
)

// Stream tells one consumer what changes in a network, coalesced. Its consumer calls Take and Whole from one goroutine at a time; everything else is safe for concurrent use.
type Stream struct {
	v    *View
	t    *table
	news chan struct{} // has room for one

	// View.mu guards what follows.
	dirty map[string]bool            // hosts of which something is new
	owned map[string]map[string]bool // endpoints whose link-local addresses are others, by host; "" is this one
	told  map[string]told            // what the consumer knows, by host
	ended bool
}

// told is what a consumer was told of a host: the list of its endpoints is never changed.
type told struct {
	vtep      netip.Addr
	endpoints []Endpoint
}

// Delta is what is new since the consumer looked last.
type Delta struct {
	Peers []dataplane.PeerChange
	// Local are the IDs of endpoints on this host that have other link-local addresses than before.
	Local []string
}

// Empty says that nothing is new.
func (d Delta) Empty() bool { return len(d.Peers)+len(d.Local) == 0 }

// Stream begins to tell of a network's changes. It follows the network only after Follow: until then it knows what this host's own store has of it.
func (v *View) Stream(network string) *Stream {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := &Stream{v: v, t: v.table(network), news: make(chan struct{}, 1), dirty: map[string]bool{}, owned: map[string]map[string]bool{}, told: map[string]told{}}
	s.t.streams[s] = false
	for host := range s.t.peers {
		s.touch(host)
	}
	return s
}

// News gets a value when there is something to Take.
func (s *Stream) News() <-chan struct{} { return s.news }

// touch notes that something is new of a host.
func (s *Stream) touch(host string) {
	s.dirty[host] = true
	s.wake()
}

// moved notes that an endpoint owns other link-local addresses than before.
func (s *Stream) moved(host, endpoint string) {
	if s.owned[host] == nil {
		s.owned[host] = map[string]bool{}
	}
	s.owned[host][endpoint] = true
	s.wake()
}

func (s *Stream) wake() {
	select {
	case s.news <- struct{}{}:
	default: // it is awake already
	}
}

// step is one host's change, between two states that never change.
type step struct {
	host     string
	old, now told
	owned    map[string]bool
}

// Take returns what is new. Its cost is that of the hosts of which something is.
func (s *Stream) Take() Delta {
	s.v.mu.Lock()
	if len(s.dirty)+len(s.owned) == 0 {
		s.v.mu.Unlock()
		return Delta{}
	}
	dirty, owned, owners := s.dirty, s.owned, s.t.owners()
	s.dirty, s.owned = map[string]bool{}, map[string]map[string]bool{}
	for host := range owned {
		if host != "" {
			dirty[host] = true
		}
	}
	steps := make([]step, 0, len(dirty))
	for host := range dirty {
		old := s.told[host]
		steps = append(steps, step{host: host, old: old, now: s.see(host), owned: owned[host]})
	}
	s.v.mu.Unlock()
	d := Delta{Local: slices.Sorted(maps.Keys(owned[""]))}
	for _, st := range steps {
		if c, any := st.change(owners); any {
			d.Peers = append(d.Peers, c)
		}
	}
	slices.SortFunc(d.Peers, func(a, b dataplane.PeerChange) int { return strings.Compare(a.Host, b.Host) })
	return d
}

// see takes over what is known of a host, as far as it can be reached; View.mu is held.
func (s *Stream) see(host string) told {
	now := told{vtep: s.v.hosts[host].VTEP}
	if p := s.t.peers[host]; p != nil && now.vtep.IsValid() { // else its record is on the way; the watch of hosts brings it
		now.endpoints = p.endpoints
		s.told[host] = now
		return now
	}
	delete(s.told, host)
	return told{}
}

func (st step) change(owners map[netip.Addr]string) (dataplane.PeerChange, bool) {
	c := dataplane.PeerChange{Host: st.host, VTEP: st.now.vtep}
	if len(st.now.endpoints) == 0 {
		c.Gone = true
		return c, len(st.old.endpoints) > 0
	}
	set := map[string]bool{}
	gone := map[string]bool{}
	diff(st.old.endpoints, st.now.endpoints, func(e *Endpoint) { gone[e.ID] = true }, func(e *Endpoint) {
		delete(gone, e.ID)
		set[e.ID] = true
		c.Set = append(c.Set, e.plane(owners))
	})
	for id := range st.owned {
		if i, is := slices.BinarySearchFunc(st.now.endpoints, id, func(e Endpoint, id string) int { return strings.Compare(e.ID, id) }); is && !set[id] {
			c.Set = append(c.Set, st.now.endpoints[i].plane(owners))
		}
	}
	c.Unset = slices.Sorted(maps.Keys(gone))
	return c, len(c.Set)+len(c.Unset) > 0 || st.old.vtep != st.now.vtep
}

func (e *Endpoint) plane(owners map[netip.Addr]string) dataplane.PeerEndpoint {
	return dataplane.PeerEndpoint{ID: e.ID, MAC: e.MAC, Addrs: e.addrs(owners)}
}

// Whole returns all other hosts that can be reached, sorted by VTEP, and makes everything before known: Take then tells what is newer.
func (s *Stream) Whole() []dataplane.Peer {
	s.v.mu.Lock()
	clear(s.told)
	s.dirty, s.owned = map[string]bool{}, map[string]map[string]bool{}
	for host := range s.t.peers {
		s.see(host)
	}
	all, owners := maps.Clone(s.told), s.t.owners()
	s.v.mu.Unlock()
	var peers []dataplane.Peer
	for _, host := range slices.Sorted(maps.Keys(all)) {
		p := dataplane.Peer{Host: host, VTEP: all[host].vtep, Endpoints: make([]dataplane.PeerEndpoint, 0, len(all[host].endpoints))}
		for i := range all[host].endpoints {
			p.Endpoints = append(p.Endpoints, all[host].endpoints[i].plane(owners))
		}
		peers = append(peers, p)
	}
	slices.SortStableFunc(peers, func(a, b dataplane.Peer) int { return a.VTEP.Compare(b.VTEP) })
	return peers
}

// LinkLocal are the link-local addresses that an endpoint of this host owns on the network.
func (s *Stream) LinkLocal(endpoint string) []netip.Addr {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	e := s.t.here[endpoint]
	e.Addrs = nil
	return e.addrs(s.t.owners())
}

// Follow begins to watch the network's records, unless they are watched already.
func (s *Stream) Follow() {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if s.ended || s.t.streams[s] {
		return
	}
	s.t.streams[s] = true
	s.v.start(s.t)
}

// Followed says whether Follow was called last.
func (s *Stream) Followed() bool {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	return s.t.streams[s]
}

// Known is closed when the network's records were read since it is followed; nil while they are not watched.
func (s *Stream) Known() <-chan struct{} {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if !s.t.streams[s] || s.t.watch == nil {
		return nil
	}
	return s.t.watch.known
}

// Unfollow ends the watch, unless another stream needs it; then nothing is known of the network's other hosts any more.
func (s *Stream) Unfollow() {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if !s.ended {
		s.t.streams[s] = false
	}
	s.v.unfollow(s.t)
}

// Forget is Unfollow that also removes what this host's own store has of the network. It can be repeated, and returns an error if that can't be written.
func (s *Stream) Forget(ctx context.Context) error {
	s.Unfollow()
	s.v.mu.Lock()
	used := s.t.followed()
	s.v.mu.Unlock()
	if used {
		return nil
	}
	return s.t.stored.clear(ctx)
}

// Stale says that this host's own store has something of the network, which no stream follows.
func (s *Stream) Stale() bool {
	s.v.mu.Lock()
	used := s.t.followed()
	s.v.mu.Unlock()
	return !used && s.t.stored.any()
}

// End ends the stream: its consumer has no use for the network any more, and has removed its endpoints.
func (s *Stream) End() {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	s.ended = true
	delete(s.t.streams, s)
	s.v.unfollow(s.t)
	if len(s.t.streams) == 0 && s.v.tables[s.t.id] == s.t {
		delete(s.v.tables, s.t.id)
		delete(s.v.dirty, s.t.id)
		delete(s.v.failed, s.t.id)
	}
}

func (t *table) followed() bool {
	for _, follows := range t.streams {
		if follows {
			return true
		}
	}
	return false
}
