package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Publication is what the cluster has of one host's endpoints on a network. It is never changed.
type Publication struct {
	// former says that there is a record in the form of the first layout, and endpoints are those
	// in it.
	former    bool
	endpoints []Endpoint
	revision  string
	// head says that there is a head. parts are those that it names, by number.
	head  bool
	parts []part
	// stray are the numbers of parts that are there and that the head does not name: an agent ended
	// in between.
	stray []int
	// torn says that the head does not name the parts as they are.
	torn bool
	// refused says that some endpoints that were wanted can't be written.
	refused bool
	// known is what the cluster said when this was published; nil before.
	known *terms
}

// terms are what a publication depends on: the layout, and the operations by which a transaction fails when the layout or this host's
// binding has changed. As long as it does not fail, nothing of that need be read again.
type terms struct {
	layout int
	checks []Op
}

// part is a part as it is published, with the labels of its containers. hash and labels are those
// of the stored forms, "" for none.
type part struct {
	endpoints    []Endpoint // sorted by ID
	hash, labels string
}

// none says that there is nothing that other hosts see.
func (p Publication) none() bool { return !p.former && !p.head }

// Form is the layout whose form the endpoints have; 0 if there are none.
func (p Publication) Form() int {
	switch {
	case p.head:
		return NewestLayout
	case p.former:
		return FirstLayout
	}
	return 0
}

// Endpoints are those that are published, sorted by ID. They have their labels.
func (p Publication) Endpoints() []Endpoint {
	if !p.head {
		return p.endpoints
	}
	var all []Endpoint
	for _, part := range p.parts {
		all = append(all, part.endpoints...)
	}
	slices.SortFunc(all, byEndpoint)
	return all
}

func byEndpoint(a, b Endpoint) int { return strings.Compare(a.ID, b.ID) }

// Published reads what the cluster has of this host's endpoints on a network. It returns
// ErrInvalid, and what it can read, if a record can't be read.
func (c EndpointRecords) Published(ctx context.Context, network string) (Publication, error) {
	p, bad, err := c.published(ctx, network)
	return p, errors.Join(err, bad)
}

func (c *core) published(ctx context.Context, network string) (p Publication, bad, err error) {
	former, version, err := find[Endpoints](ctx, c.kv, EndpointsKey(network, c.host))
	if err != nil && !errors.Is(err, ErrInvalid) {
		return p, nil, err
	}
	bad = err
	p.former, p.endpoints, p.revision = version != 0 || bad != nil, former.Endpoints, former.Revision
	e, err := c.kv.Get(ctx, HeadKey(network, c.host))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return p, nil, err
	}
	var head Head
	if p.head = err == nil; p.head {
		head, err = DecodeHead(e)
		p.torn = err != nil
		bad = errors.Join(bad, err)
	}
	entries, err := c.kv.List(ctx, PartsOf(network, c.host))
	if err != nil {
		return p, nil, err
	}
	var labels []Entry
	if len(entries) > 0 {
		if labels, err = c.kv.List(ctx, labelsOf(network, c.host)); err != nil {
			return p, nil, err
		}
	}
	bad = errors.Join(bad, p.take(head, entries, labels))
	return p, bad, nil
}

// take reads the records of parts and labels. A part that can't be read is one of those that are to
// be written again.
func (p *Publication) take(head Head, parts, labels []Entry) (bad error) {
	apart := map[int]Entry{}
	for _, e := range labels {
		if _, n, err := partOfKey(e.Key); err == nil {
			apart[n] = e
		}
	}
	p.parts = make([]part, len(head.Parts))
	for _, e := range parts {
		_, n, err := partOfKey(e.Key)
		if err != nil {
			continue // no agent wrote it
		}
		if head.at(n) == "" {
			p.stray = append(p.stray, n)
			continue
		}
		read, err := DecodePart(e)
		if bad = errors.Join(bad, err); err != nil {
			p.stray = append(p.stray, n)
			continue
		}
		its := part{endpoints: read.Endpoints, hash: read.Hash}
		if l := apart[n]; l.Version != 0 {
			r, err := Decode[labelsRecord](l)
			if bad = errors.Join(bad, err); err == nil {
				withLabels(its.endpoints, r.Labels)
				its.labels = hashOf(l.Value)
			}
		}
		slices.SortFunc(its.endpoints, byEndpoint)
		p.parts[n] = its
	}
	for n, part := range p.parts {
		p.torn = p.torn || part.hash != head.Parts[n]
	}
	return bad
}

// plan is what makes the parts' form equal to what is wanted.
type plan struct {
	next Publication
	// puts are operations that readers do not notice before the head changes, but for labels.
	// changed says that the head does.
	puts    []Op
	changed bool
	// gone are the numbers of parts that are to be removed after the head was written.
	gone []int
	// refused says which endpoints can't be written.
	refused error
}

// plan says what leads from what is published to what is wanted. An endpoint stays in its part; a new one gets the first place that is free. Its cost is that
// of the parts that change, if no more than some endpoints may differ.
func (p Publication) plan(network, host string, want Wanted) plan {
	set, gone := want.Set, want.Gone
	if !want.Partly || !p.head || p.former || p.torn || p.refused || len(p.stray) > 0 {
		set, gone = p.differences(want.All())
	}
	b := planner{network: network, host: host, old: p.parts, parts: make([][]Endpoint, len(p.parts)), dirty: make([]bool, len(p.parts))}
	for n, old := range p.parts {
		b.parts[n], b.dirty[n] = old.endpoints, old.hash == "" // never there, or unreadable
	}
	for _, id := range gone {
		for n, i, is := b.find(id); is; n, i, is = b.find(id) {
			b.touch(n)
			b.parts[n] = slices.Delete(b.parts[n], i, i+1)
		}
	}
	var fresh []Endpoint
	for _, e := range set {
		n, i, is := b.find(e.ID)
		switch {
		case !is:
			fresh = append(fresh, e)
		case !sameEndpoint(b.parts[n][i], e):
			b.touch(n)
			b.parts[n][i] = e
		}
	}
	b.add(fresh)
	b.plan.gone = slices.Clone(p.stray)
	b.write()
	b.plan.next.head, b.plan.changed = true, b.plan.changed || !p.head || p.torn
	b.plan.next.refused = b.plan.refused != nil
	return b.plan
}

// differences are the endpoints that are not published as they are wanted, and the IDs of those whose records go before: they are published and not wanted, or in
// more than one part.
func (p Publication) differences(all []Endpoint) (set []Endpoint, gone []string) {
	rest, found := make(map[string]Endpoint, len(all)), make(map[string]int, len(all))
	for _, e := range all {
		rest[e.ID] = e
	}
	for _, old := range p.parts {
		for _, e := range old.endpoints {
			now, wanted := rest[e.ID]
			found[e.ID]++
			switch {
			case !wanted || found[e.ID] == 2:
				gone = append(gone, e.ID)
			case found[e.ID] == 1 && sameEndpoint(e, now):
				delete(rest, e.ID)
			}
		}
	}
	for _, e := range all {
		if found[e.ID] > 1 {
			rest[e.ID] = e
		}
	}
	return slices.SortedFunc(maps.Values(rest), byEndpoint), gone
}

// planner makes a plan.
type planner struct {
	network, host string
	old           []part
	parts         [][]Endpoint
	dirty         []bool
	plan          plan
}

// find is where an endpoint is.
func (b *planner) find(id string) (part, place int, is bool) {
	for n, all := range b.parts {
		i, is := slices.BinarySearchFunc(all, id, func(e Endpoint, id string) int { return strings.Compare(e.ID, id) })
		if is {
			return n, i, true
		}
	}
	return 0, 0, false
}

// touch notes that a part is written again; what was published is never changed.
func (b *planner) touch(n int) {
	if !b.dirty[n] {
		b.parts[n], b.dirty[n] = slices.Clone(b.parts[n]), true
	}
}

// add puts new endpoints into the first places that are free.
func (b *planner) add(fresh []Endpoint) {
	for n := 0; len(fresh) > 0; n++ {
		b.grow(n)
		if room := min(PartSize-len(b.parts[n]), len(fresh)); room > 0 {
			b.touch(n)
			b.parts[n] = append(b.parts[n], fresh[:room]...)
			fresh = fresh[room:]
		}
	}
}

// grow makes sure that there is a part n.
func (b *planner) grow(n int) {
	for n >= len(b.parts) {
		b.parts, b.dirty = append(b.parts, nil), append(b.dirty, true)
	}
}

// write makes the operations. Endpoints of a part that is too large go into a new one.
func (b *planner) write() {
	next := &b.plan.next
	for n := 0; n < len(b.parts); n++ {
		old := part{}
		if n < len(b.old) {
			old = b.old[n]
		}
		if !b.dirty[n] {
			next.parts = append(next.parts, old)
			continue
		}
		now := b.part(n)
		next.parts = append(next.parts, now)
		b.plan.changed = b.plan.changed || now.hash != old.hash
		if now.hash == "" && old.hash != "" {
			b.plan.gone = append(b.plan.gone, n)
		}
	}
	for len(next.parts) > 0 && next.parts[len(next.parts)-1].hash == "" {
		next.parts = next.parts[:len(next.parts)-1]
	}
	named := func(n int) bool { return n < len(next.parts) && next.parts[n].hash != "" }
	b.plan.gone = slices.DeleteFunc(b.plan.gone, named) // a stray whose number is in use again
}

// part writes a part that fits.
func (b *planner) part(n int) part {
	old := part{}
	if n < len(b.old) {
		old = b.old[n]
	}
	for len(b.parts[n]) > 0 {
		slices.SortFunc(b.parts[n], byEndpoint)
		written, labels := newPart(b.parts[n]), labelsValue(b.parts[n])
		if len(written.Value) > maxPart || len(labels) > MaxValue {
			b.spill(n, len(written.Value), len(labels))
			continue
		}
		now := part{b.parts[n], written.Hash, ""}
		if now.hash != old.hash {
			b.plan.puts = append(b.plan.puts, Op{Kind: OpPut, Key: PartKey(b.network, b.host, n), Value: written.Value})
		}
		if len(labels) > 0 {
			now.labels = hashOf(labels)
		}
		switch key := LabelsKey(b.network, b.host, n); {
		case now.labels == old.labels && old.hash != "":
		case now.labels == "":
			b.plan.puts = append(b.plan.puts, Op{Kind: OpRemove, Key: key})
		default:
			b.plan.puts = append(b.plan.puts, Op{Kind: OpPut, Key: key, Value: labels})
		}
		return now
	}
	return part{}
}

// spill takes the last endpoint out of a part that is too large. Alone it is refused.
func (b *planner) spill(n, size, labels int) {
	last := len(b.parts[n]) - 1
	e := b.parts[n][last]
	b.parts[n] = b.parts[n][:last]
	if last == 0 {
		b.plan.refused = errors.Join(b.plan.refused, fmt.Errorf("%w: endpoint %.12s has %d bytes of names and %d of labels, more than %d and %d",
			ErrInvalid, e.ID, size, labels, maxPart, MaxValue))
		return
	}
	b.grow(len(b.parts))
	b.parts[len(b.parts)-1] = []Endpoint{e}
}

// sameEndpoint says whether both have one stored form, with labels.
func sameEndpoint(a, b Endpoint) bool {
	if a.ID != b.ID || a.MAC != b.MAC || a.MTU != b.MTU || !slices.Equal(a.Addrs, b.Addrs) || (a.Container == nil) != (b.Container == nil) {
		return false
	}
	if a.Container == nil {
		return true
	}
	x, y := a.Container, b.Container
	return x.ID == y.ID && x.Name == y.Name && slices.Equal(x.Aliases, y.Aliases) && slices.EqualFunc(x.LinkLocal, y.LinkLocal, sameAddr) &&
		maps.Equal(x.Labels, y.Labels)
}

func sameAddr(a, b netip.Addr) bool { return a == b }
