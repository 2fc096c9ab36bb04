package netview

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// Unpublished says that other hosts don't know of endpoints of this host on a network, since when, and why.
type Unpublished struct {
	Network string
	Since   time.Time
	Err     error
}

// Unpublished are the networks where something of this host is not published though it should be, sorted by network.
func (v *View) Unpublished() []Unpublished {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.SortedFunc(maps.Values(v.failed), func(a, b Unpublished) int { return strings.Compare(a.Network, b.Network) })
}

// SetEndpoint notes an endpoint of this host, as other hosts are to see it if it has joined. It does not wait until it is published.
func (v *View) SetEndpoint(network string, r store.Endpoint, joined bool) {
	now := local{record: r, joined: joined}
	if one := parse([]store.Endpoint{r}, 0); len(one) == 1 {
		now.Endpoint = one[0]
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.table(network)
	old, had := t.here[r.ID]
	t.here[r.ID] = now
	if !slices.Equal(old.LinkLocal, now.LinkLocal) || old.Container != now.Container {
		t.unclaim(&old.Endpoint, "")
		t.claim(&now.Endpoint, "")
		for s := range t.streams {
			s.moved("", r.ID)
		}
	}
	t.reach(r.ID, old.joined, joined)
	if joined || had && old.joined {
		v.mark(network)
	}
}

// DropEndpoint notes that an endpoint of this host is gone, or that no other host is to know of it any more.
func (v *View) DropEndpoint(network, id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.tables[network]
	if t == nil {
		return
	}
	old, had := t.here[id]
	if !had {
		return
	}
	delete(t.here, id)
	t.unclaim(&old.Endpoint, "")
	t.reach(id, old.joined, false)
	v.mark(network)
}

// Publish makes the view compare what the cluster has of this host's endpoints on a network with what there is.
func (v *View) Publish(network string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.tables[network]; t != nil {
		t.published = nil
		v.mark(network)
	}
}

// mark notes that this host's endpoints on a network are to be published; mu is held.
func (v *View) mark(network string) {
	v.dirty[network] = true
	v.nudge()
}

func (v *View) nudge() {
	select {
	case v.wake <- struct{}{}:
	default: // it is awake already
	}
}

// noteOwn looks whether this host's own records are there, in the form of the first layout and of the second: what another program removed is written again.
func (v *View) noteOwn(t *table, former, parts bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t.published == nil || v.dirty[t.id] {
		return
	}
	form := t.published.Form()
	if form == store.FirstLayout && !former || form == store.NewestLayout && !parts {
		t.published = nil
		v.mark(t.id)
	}
}

// publishLoop publishes the endpoints of dirty networks. What fails is tried again after a
// while, and holds nothing else up.
func (v *View) publishLoop(ctx context.Context) {
	pause := retry.Pause{First: retryFirst, Last: retryLast}
	var again, convert <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case wait := <-v.convert:
			convert = time.After(wait)
		case <-convert:
			v.markAll()
		case <-v.wake:
		case <-again:
			v.again()
		}
		for _, network := range v.takeDirty() {
			if err := v.publish(ctx, network); ctx.Err() == nil {
				v.note(network, err)
			}
		}
		if again = nil; len(v.Unpublished()) == 0 {
			pause.Reset()
		} else {
			again = time.After(pause.Next(0))
		}
	}
}

// again makes dirty what could not be published.
func (v *View) again() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for network := range v.failed {
		v.dirty[network] = true
	}
}

func (v *View) takeDirty() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	networks := slices.Sorted(maps.Keys(v.dirty))
	clear(v.dirty)
	return networks
}

// note keeps what is wrong with the publishing of a network, and logs each cause once.
func (v *View) note(network string, err error) {
	v.mu.Lock()
	was, had := v.failed[network]
	if err == nil {
		delete(v.failed, network)
	} else if !had {
		v.failed[network] = Unpublished{network, time.Now(), err}
	} else {
		v.failed[network] = Unpublished{network, was.Since, err}
	}
	v.mu.Unlock()
	switch {
	case err != nil && errors.Is(err, store.ErrInvalid) && (!had || !errors.Is(was.Err, store.ErrInvalid)):
		v.log.Error("other hosts do not learn of this host's containers on a network: its record can't be written", "network", network, "err", err)
	case errors.Is(err, store.ErrFormerAgents):
		if !had {
			v.log.Warn("not all hosts learn of this host's containers on a network", "network", network, "err", err)
		}
	case err != nil && !had:
		v.log.Warn("other hosts learn of changes here as soon as the store takes them", "network", network, "err", err)
	case err == nil && had:
		v.log.Info("other hosts know this host's containers on a network again", "network", network, "lasted", time.Since(was.Since).Round(time.Millisecond))
	}
}

// publish makes the cluster's record of this host's endpoints on a network equal to what there is.
func (v *View) publish(ctx context.Context, network string) error {
	v.mu.Lock()
	t := v.tables[network]
	if t == nil {
		v.mu.Unlock()
		return nil
	}
	want, have, unsure := v.wanted(t), t.published, t.unsure
	t.published = nil // until it is known again
	v.mu.Unlock()
	if unsure {
		if err := v.cluster.Fence(ctx, network); err != nil {
			return err
		}
	}
	if have == nil {
		there, err := v.cluster.Published(ctx, network)
		if err != nil && !errors.Is(err, store.ErrInvalid) { // a record that can't be read is replaced
			return err
		}
		have, want.Partly = &there, false
	}
	v.mu.Lock()
	t.unsure = true
	v.mu.Unlock()
	now, err := v.cluster.PublishChange(ctx, network, *have, want)
	v.mu.Lock()
	t.published, t.unsure = now, now == nil
	v.mu.Unlock()
	return err
}

// reach notes that other hosts may see an endpoint otherwise, and whether they were and are to reach it; View.mu is held.
func (t *table) reach(id string, was, is bool) {
	if was {
		t.reached--
	}
	if is {
		t.reached++
	}
	if was || is {
		t.changed[id] = true
	}
}

// wanted is what is to be published of this host's endpoints on a network: what has changed, and what there is. It forgets what has changed; mu is held.
func (v *View) wanted(t *table) store.Wanted {
	want := store.Wanted{Count: t.reached, Partly: true, All: func() []store.Endpoint {
		v.mu.Lock()
		defer v.mu.Unlock()
		return t.joined()
	}}
	for _, id := range slices.Sorted(maps.Keys(t.changed)) {
		if e := t.here[id]; e.joined {
			want.Set = append(want.Set, e.record)
		} else {
			want.Gone = append(want.Gone, id)
		}
	}
	clear(t.changed)
	return want
}

// joined lists this host's endpoints on the network that are to be reached, sorted by ID. It is not nil.
func (t *table) joined() []store.Endpoint {
	all := make([]store.Endpoint, 0, len(t.here))
	for _, e := range t.here {
		if e.joined {
			all = append(all, e.record)
		}
	}
	slices.SortFunc(all, func(a, b store.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	return all
}
