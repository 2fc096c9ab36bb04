package netview

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/store"
)

// table is what is known of one network. View.mu guards it, but for what says otherwise.
type table struct {
	id    string
	peers map[string]*peer // by host
	macs  index[dataplane.MAC]
	// claims are who has a link-local address, the owner first.
	claims map[netip.Addr][]claim
	here   map[string]local // this host's endpoints, by ID
	// streams are the consumers, and whether each follows the network.
	streams map[*Stream]bool
	stored  *copies // of peers; has a lock of its own
	// published is what the cluster has of this host's endpoints; nil while that is not known.
	published *store.Publication
	// unsure says that a request to publish may still be under way: its answer did not come, or the last one was an error.
	unsure bool
	// reached is how many of here other hosts are to reach, changed are those that may not be as they were published.
	reached int
	changed map[string]bool

	watch *watch // nil while there is none
}

// watch is one watch of a network's records.
type watch struct {
	stop  context.CancelFunc
	known chan struct{} // closed when the peers were read once, or never will be
}

// peer is another host with endpoints on the network. Its list is replaced, never changed.
type peer struct {
	host      string
	endpoints []Endpoint
	// parts are the hashes of the parts that the list is of, by number; nil if it is of a record of the first layout. They are replaced, never changed.
	parts []string
}

// local is an endpoint on this host.
type local struct {
	Endpoint
	record store.Endpoint
	joined bool // other hosts are to reach it
}

// claim says who has a link-local address.
type claim struct{ endpoint, host, container string }

func newTable(id string, stored *copies) *table {
	return &table{
		id: id, peers: map[string]*peer{}, macs: index[dataplane.MAC]{}, claims: map[netip.Addr][]claim{}, here: map[string]local{}, changed: map[string]bool{},
		streams: map[*Stream]bool{}, stored: stored,
	}
}

// set replaces what is known of another host's endpoints; none means that the host is gone from the network.
func (t *table) set(host string, now []Endpoint) (before int) {
	p := t.peers[host]
	if p == nil {
		if len(now) == 0 {
			return 0
		}
		p = &peer{host: host}
		t.peers[host] = p
	}
	old := p.endpoints
	changed := false
	diff(old, now, func(e *Endpoint) {
		changed = true
		t.macs.remove(e.MAC, p)
		t.unclaim(e, host)
	}, func(e *Endpoint) {
		changed = true
		t.macs.add(e.MAC, p)
		t.claim(e, host)
	})
	if p.endpoints = now; len(now) == 0 {
		delete(t.peers, host)
	}
	if changed {
		for s := range t.streams {
			s.touch(host)
		}
	}
	return len(old)
}

// claim notes that an endpoint has its link-local addresses; host is "" for one of this host.
func (t *table) claim(e *Endpoint, host string) {
	for _, a := range e.LinkLocal {
		t.reclaim(a, func(all []claim) []claim { return append(all, claim{e.ID, host, e.Container}) })
	}
}

func (t *table) unclaim(e *Endpoint, host string) {
	for _, a := range e.LinkLocal {
		t.reclaim(a, func(all []claim) []claim {
			return slices.DeleteFunc(all, func(c claim) bool { return c.endpoint == e.ID && c.host == host })
		})
	}
}

// reclaim changes who has a link-local address. The owner is the one with the smallest endpoint ID, as all hosts hold. Consumers hear of both when it changes.
func (t *table) reclaim(a netip.Addr, change func([]claim) []claim) {
	var old, now claim
	all := slices.Clone(t.claims[a])
	if len(all) > 0 {
		old = all[0]
	}
	all = change(all)
	slices.SortFunc(all, compareClaims)
	if len(all) > 0 {
		now = all[0]
		t.claims[a] = all
	} else {
		delete(t.claims, a)
	}
	if old.endpoint == now.endpoint && old.host == now.host {
		return
	}
	for _, c := range []claim{old, now} {
		if c.endpoint == "" {
			continue
		}
		for s := range t.streams {
			s.moved(c.host, c.endpoint)
		}
	}
}

// owners tells who has each link-local address; nil if there are none.
func (t *table) owners() map[netip.Addr]string {
	if len(t.claims) == 0 {
		return nil
	}
	owners := make(map[netip.Addr]string, len(t.claims))
	for a, all := range t.claims {
		owners[a] = all[0].endpoint
	}
	return owners
}

// addrs are an endpoint's addresses, with those link-local ones that it owns.
func (e *Endpoint) addrs(owners map[netip.Addr]string) []netip.Addr {
	all := slices.Clip(e.Addrs)
	for _, a := range e.LinkLocal {
		if owners[a] == e.ID {
			all = append(all, a)
		}
	}
	return all
}

// index finds the hosts that have a key. Nearly every key is one host's.
type index[K comparable] struct {
	one  map[K]*peer
	more map[K][]*peer
}

func (x *index[K]) add(k K, p *peer) {
	if x.one == nil {
		x.one, x.more = map[K]*peer{}, map[K][]*peer{}
	}
	if x.one[k] == nil {
		x.one[k] = p
		return
	}
	x.more[k] = append(x.more[k], p)
}

func (x *index[K]) remove(k K, p *peer) {
	more := x.more[k]
	switch i := slices.Index(more, p); {
	case i >= 0:
		more = slices.Delete(more, i, i+1)
	case x.one[k] != p:
		return
	case len(more) > 0:
		x.one[k], more = more[len(more)-1], more[:len(more)-1]
	default:
		delete(x.one, k)
	}
	if len(more) == 0 {
		delete(x.more, k)
	} else {
		x.more[k] = more
	}
}

func compareClaims(a, b claim) int {
	return cmp.Or(cmp.Compare(a.endpoint, b.endpoint), cmp.Compare(a.host, b.host))
}
