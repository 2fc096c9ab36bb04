package driver

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// Bounds of the wait after the store failed.
const (
	retryFirst = 200 * time.Millisecond
	retryLast  = 5 * time.Second
)

// peersLimit is how long a container waits for the network's peers to be read: as long as its kernel would wait
// before it repeats a question for a neighbour that nobody could answer.
const peersLimit = time.Second

// planePeer is another host's endpoints as the data plane sees them. An endpoint
// that can't be understood is left out: the others must not suffer from it.
func planePeer(r store.Endpoints, owners map[netip.Addr]linkLocalOwner) dataplane.Peer {
	peer := dataplane.Peer{Host: r.Host}
	for _, e := range r.Endpoints {
		hw, err := net.ParseMAC(e.MAC)
		if err != nil || len(hw) != len(dataplane.MAC{}) {
			continue
		}
		peer.Endpoints = append(peer.Endpoints, dataplane.PeerEndpoint{ID: e.ID, MAC: dataplane.MAC(hw), Addrs: withLinkLocal(e.Addrs, e.ID, e.Container, owners)})
	}
	return peer
}

// Run watches the other hosts and publishes this host's endpoints, until ctx ends.
// What it can't do now it tries again; what was known before stays valid meanwhile.
func (d *Driver) Run(ctx context.Context) error {
	var watchers sync.WaitGroup
	d.mu.Lock()
	d.read = make(chan struct{})
	d.watch = func(n *segment) {
		watchCtx, stop := context.WithCancel(ctx)
		known := make(chan struct{})
		n.stop, n.known = stop, known
		watchers.Go(func() { d.watchPeers(watchCtx, n, sync.OnceFunc(func() { close(known) })) })
	}
	d.mu.Unlock()
	for _, n := range d.all() {
		n.lock.Lock()
		if len(n.endpoints) > 0 && !n.gone && n.rec.Cut == "" {
			d.startWatch(n)
		}
		d.markDirty(n.rec.Network)
		n.lock.Unlock()
	}
	watchers.Go(func() { d.watchHosts(ctx) })
	d.publishLoop(ctx)
	d.mu.Lock()
	d.watch = nil // none begins any more
	d.mu.Unlock()
	watchers.Wait()
	return context.Cause(ctx)
}

// startWatch begins to watch the network's peers, once; its lock is held.
func (d *Driver) startWatch(n *segment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n.stop == nil && d.watch != nil {
		d.watch(n)
	}
}

func (n *segment) stopWatch() {
	if n.stop != nil {
		n.stop()
		n.stop, n.known = nil, nil
	}
}

// awaitPeers waits until the peers of a network whose watch has just begun were read once: what a container asks at
// once would find nobody, and be asked again a second later. The other hosts must have been read, too: their MTU is the
// container's. Without the store the last known peers and hosts must do.
func (d *Driver) awaitPeers(ctx context.Context, dockerID string) {
	n, ok := d.find(dockerID)
	if !ok {
		return
	}
	n.lock.Lock()
	known := n.known
	n.lock.Unlock()
	limit := time.NewTimer(peersLimit)
	defer limit.Stop()
	for _, read := range []<-chan struct{}{d.hostsRead(), known} {
		if read == nil {
			continue
		}
		select {
		case <-read:
		case <-ctx.Done():
			return
		case <-limit.C:
			return
		}
	}
}

// forgetPeers ends the watch of a network that has no endpoint left here; its lock is held.
func (d *Driver) forgetPeers(ctx context.Context, n *segment) error {
	n.stopWatch()
	clear(n.peers)
	return errors.Join(d.apply(ctx, n), n.stored.write(ctx, nil))
}

// backoff is a wait that grows with each failure in a row.
func backoff(failures int) time.Duration {
	limit := min(retryFirst<<min(failures, 8), retryLast)
	return limit/2 + rand.N(limit/2)
}

// newLoop is for a watch of the store: one that answers plain questions and drops those that wait is asked seldom.
func (d *Driver) newLoop(trouble string) *retry.Loop {
	return &retry.Loop{
		Pause:   retry.Pause{First: retryFirst, Last: retryLast, Steady: retryLast},
		Trouble: retry.Trouble{Logger: d.log, Level: slog.LevelWarn, Text: trouble},
	}
}

// watchPeers keeps the network's peers as the store has them; known is called when they were read, or never will be.
func (d *Driver) watchPeers(ctx context.Context, n *segment, known func()) {
	defer known()
	id := n.network
	watch, end := d.indexes.begin(id)
	defer end()
	var index uint64
	seen := newSightings()
	unreadable := retry.Trouble{Logger: d.log, Level: slog.LevelWarn, Text: "records of other hosts' containers can't be read; what was known of these hosts stays"}
	loop := d.newLoop("peers can't be read or written to this host's disk; the last known stay")
	for ctx.Err() == nil {
		versions, next, err := watch(ctx, index)
		if err == nil {
			err = d.readPeers(ctx, n, versions, seen)
			unreadable.Note(errors.Join(slices.Collect(maps.Values(seen.unreadable))...), "network", id)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if errors.Is(err, errNotKept) {
				known() // they are applied
			}
			index = 0 // read everything again when it works: the store may be another one
			seen = newSightings()
			loop.Fails(ctx, err, "network", id)
		default:
			index = next
			loop.Works()
			known()
		}
	}
}

// sightings are the versions of the hosts' records that were read last, by host.
type sightings struct {
	versions map[string]uint64
	// unreadable are the hosts whose record at that version this agent can't read, because a newer agent wrote it or another program changed it, and why.
	unreadable map[string]error
}

func newSightings() sightings { return sightings{map[string]uint64{}, map[string]error{}} }

func (s sightings) forget(host string) {
	delete(s.versions, host)
	delete(s.unreadable, host)
}

// readPeers fetches the records of the hosts whose version changed, and applies them at once. A record that can't be read does not delay the others.
func (d *Driver) readPeers(ctx context.Context, n *segment, versions map[string]uint64, seen sightings) error {
	delete(versions, d.cluster.Host())
	fresh := map[string]store.Endpoints{}
	for host, version := range versions {
		if seen.versions[host] == version {
			continue
		}
		r, err := d.cluster.EndpointsAt(ctx, n.network, host, version)
		delete(seen.unreadable, host)
		switch {
		case errors.Is(err, store.ErrInvalid):
			seen.versions[host], seen.unreadable[host] = version, err
		case err != nil:
			return err
		case r.Host != "": // else it has just gone, and so will its version
			fresh[host] = r
		}
	}
	n.lock.Lock()
	defer n.lock.Unlock()
	if ctx.Err() != nil { // the watch was ended meanwhile
		return nil
	}
	changed := len(fresh) > 0
	for host := range n.peers {
		if _, there := versions[host]; !there {
			delete(n.peers, host)
			changed = true
		}
	}
	for host := range seen.versions {
		if _, there := versions[host]; !there {
			seen.forget(host)
		}
	}
	maps.Copy(n.peers, fresh)
	if changed {
		// First the data plane, for it is waited for; the copy only matters after a restart.
		if err := d.apply(ctx, n); err != nil {
			d.log.Warn("peers are applied as soon as the data plane is back", "network", n.rec.title(), "err", err)
		}
	}
	if err := n.stored.write(ctx, n.copies()); err != nil {
		return err
	}
	for host := range fresh {
		seen.versions[host] = versions[host]
	}
	return nil
}

// watchHosts keeps the hosts' VTEPs as the store has them.
func (d *Driver) watchHosts(ctx context.Context) {
	var index uint64
	unreadable := retry.Trouble{Logger: d.log, Level: slog.LevelWarn, Text: "records of hosts can't be read; what was known of these hosts stays"}
	loop := d.newLoop("hosts can't be read or written to this host's disk; the last known stay")
	for ctx.Err() == nil {
		members, next, err := d.cluster.WatchHosts(ctx, index)
		if err == nil {
			unreadable.Note(errors.Join(slices.Collect(maps.Values(members.Unreadable))...))
			d.keepKnown(members)
			err = d.setHosts(ctx, members.Hosts)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			index = 0
			loop.Fails(ctx, err)
		default:
			index = next
			loop.Works()
		}
	}
}

// keepKnown adds what was known of hosts whose records can't be read any more: their containers are where they were.
func (d *Driver) keepKnown(members store.Membership) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range members.Unreadable {
		if h, known := d.hosts[id]; known {
			members.Hosts[id] = h
		}
	}
}

// setHosts takes the hosts over, and applies networks anew when a VTEP changed.
func (d *Driver) setHosts(ctx context.Context, hosts map[string]store.Host) error {
	if h, known := hosts[d.cluster.Host()]; known {
		d.own(h)
	}
	delete(hosts, d.cluster.Host())
	d.mu.Lock()
	old, read := d.hosts, d.read
	d.hosts, d.read = hosts, nil
	d.mu.Unlock()
	if read != nil {
		defer close(read)
	}
	if !maps.EqualFunc(old, hosts, sameTunnels) {
		for _, n := range d.all() {
			d.reapply(ctx, n)
		}
	}
	want := map[string]copied{}
	for id, h := range hosts {
		want[store.LocalHostsKey(id)] = copyOfHost(h)
	}
	return d.storedHosts.write(ctx, want)
}

// reapply gives the data plane the network as it is now.
func (d *Driver) reapply(ctx context.Context, n *segment) {
	n.lock.Lock()
	defer n.lock.Unlock()
	if n.gone || n.rec.Removing {
		return
	}
	if err := d.apply(ctx, n); err != nil {
		d.log.Warn("network is applied as soon as the data plane is back", "network", n.rec.title(), "err", err)
	}
}

// markDirty notes that this host's endpoints on a network are to be published.
func (d *Driver) markDirty(network string) {
	d.mu.Lock()
	d.dirty[network] = true
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default: // it is awake already
	}
}

// publishLoop publishes the endpoints of dirty networks. What fails is tried again after a
// while, and holds nothing else up.
func (d *Driver) publishLoop(ctx context.Context) {
	failed, failures := map[string]bool{}, 0
	var again <-chan time.Time
	for {
		var todo map[string]bool
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
			todo = d.takeDirty()
		case <-again:
			todo = maps.Clone(failed)
		}
		var errs []error
		for _, network := range slices.Sorted(maps.Keys(todo)) {
			err := d.cluster.PutEndpoints(ctx, network, d.joined(network))
			if delete(failed, network); err != nil {
				failed[network] = true
				errs = append(errs, err)
			}
		}
		switch {
		case len(failed) == 0:
			failures, again = 0, nil
		case len(errs) > 0:
			if failures++; failures == 1 && ctx.Err() == nil {
				d.log.Warn("other hosts learn of changes here as soon as the store takes them", "err", errors.Join(errs...))
			}
			again = time.After(backoff(failures))
		}
	}
}

func (d *Driver) takeDirty() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	dirty := d.dirty
	d.dirty = map[string]bool{}
	return dirty
}

// joined lists this host's endpoints on a network that are to be reached; nil if there is none.
func (d *Driver) joined(id string) []store.Endpoint {
	var out []store.Endpoint
	for _, n := range d.all() {
		if n.network != id {
			continue
		}
		n.lock.Lock()
		for _, e := range slices.Sorted(maps.Keys(n.endpoints)) {
			if n.endpoints[e].Joined && !n.gone && n.rec.Cut == "" {
				out = append(out, n.endpoints[e].published())
			}
		}
		n.lock.Unlock()
	}
	return out
}
