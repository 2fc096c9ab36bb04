package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrFormerAgents says that agents of the former release do not learn of endpoints, as these do not
// fit into the one record that those know.
var ErrFormerAgents = errors.New("agents of the former release do not learn of these containers")

// PutEndpoints publishes all of this host's endpoints on a network; none removes them. It reads
// what is published first: who knows that calls Publish.
func (c EndpointRecords) PutEndpoints(ctx context.Context, network string, endpoints []Endpoint) error {
	have, err := c.Published(ctx, network)
	if err != nil && !errors.Is(err, ErrInvalid) {
		return err
	}
	_, err = c.Publish(ctx, network, have, endpoints)
	return err
}

// Publish makes what is published of this host's endpoints on a network equal to what is wanted, in
// the form of the cluster's layout; it writes what differs. It returns what is published then, and
// nil if that is not known, as it may have taken effect though it failed. An error can come with
// what is published: some endpoints can't be written (ErrInvalid), or not for all agents
// (ErrFormerAgents). It returns ErrNotFound unless this host has bound the network: nothing of the
// host may outlive that.
//
// What does not fit into one transaction is written in several, parts first: no reader sees a head
// of parts that are not there.
func (c EndpointRecords) Publish(ctx context.Context, network string, have Publication, want []Endpoint) (*Publication, error) {
	return c.PublishChange(ctx, network, have, Whole(want))
}

// Fence makes sure that nothing takes effect any more of what this host has published on a network before, in the second layout: a request whose answer did not
// come in time may still be under way, and would write over what is published later. Who got an error of Publish calls it, and then reads Published. Publications
// depend on the host's binding, whose record it changes.
func (c EndpointRecords) Fence(ctx context.Context, network string) error {
	return c.change(ctx, func() ([]Op, error) {
		m, err := c.mark(ctx)
		if err != nil || !m.apart() {
			return nil, err
		}
		key := BoundKey(network, c.host)
		r, version, err := find[boundRecord](ctx, c.kv, key)
		if err != nil || version == 0 { // without it nothing is published
			return nil, err
		}
		r.Fence = NewNonce()
		return []Op{m.check, {Kind: OpSet, Key: key, Value: Encode(r), Version: version}}, nil
	})
}

// Wanted says what is to be published of a host's endpoints on a network.
type Wanted struct {
	// Count is how many they are, and All lists them, sorted by ID. It is asked if all are compared with what is published.
	Count int
	All   func() []Endpoint
	// Partly says that none but Set and Gone may differ from what was published last. Set are to be published, Gone are the IDs of those that are not.
	Partly bool
	Set    []Endpoint
	Gone   []string
}

// Whole wants these endpoints and no others.
func Whole(all []Endpoint) Wanted {
	return Wanted{Count: len(all), All: func() []Endpoint { return all }}
}

// PublishChange is Publish that compares no more than what may differ, where that is enough.
func (c EndpointRecords) PublishChange(ctx context.Context, network string, have Publication, want Wanted) (*Publication, error) {
	if want.Count == 0 && have.none() && len(have.stray) == 0 {
		return &Publication{known: have.known}, nil
	}
	if want.Count == 0 {
		return c.withdrawOn(ctx, network, have)
	}
	return c.publish(ctx, network, have, want, func(context.Context) ([]Op, error) { return nil, nil })
}

// publish is Publish of some endpoints, under a further condition that is asked for at each try.
func (c *core) publish(ctx context.Context, network string, have Publication, want Wanted, condition func(context.Context) ([]Op, error)) (*Publication, error) {
	var w writing
	known := have.known
	err := c.change(ctx, func() ([]Op, error) {
		now := known
		known = nil // of the next try: this one met another state
		var err error
		if w, now, err = c.decide(ctx, network, have, want, now); err != nil || w.empty() {
			return nil, err
		}
		guards, err := condition(ctx)
		if err != nil {
			return nil, err
		}
		if w.checks = now.checks; now.layout != FirstLayout { // in the first one nothing holds back what is late: the terms are read before each write
			w.next.known = now
		}
		return c.first(ctx, &w, append(slices.Clone(now.checks), guards...))
	})
	if err != nil {
		return nil, fmt.Errorf("publish %d endpoints: %w", want.Count, err)
	}
	for _, chunk := range Chunks(w.after, w.checks...) {
		if err := c.kv.Apply(ctx, chunk...); err != nil {
			return nil, fmt.Errorf("remove parts of endpoints that are gone: %w", err)
		}
	}
	return &w.next, w.told
}

// decide says what is to be written, and on which terms: those that are known, or else as the cluster has them now. That nothing is to be
// written is said of the layout as it is now.
func (c *core) decide(ctx context.Context, network string, have Publication, want Wanted, known *terms) (writing, *terms, error) {
	if known != nil {
		if w, err := c.write(network, known.layout, have, want); err != nil || !w.empty() {
			return w, known, err
		}
	}
	m, err := c.mark(ctx)
	if err != nil {
		return writing{}, nil, err
	}
	w, err := c.write(network, m.layout, have, want)
	if err != nil || w.empty() {
		w.next.known = known
		return w, known, err
	}
	bound, err := c.boundOps(ctx, m, network)
	if err != nil {
		return writing{}, nil, err
	}
	return w, &terms{m.layout, append(bound, m.check)}, nil
}

// writing are the operations of one change: first those that may take effect apart, then those that
// must do so together, then what may be left for later.
type writing struct {
	before, together, after []Op
	next                    Publication
	// checks are those of the terms.
	checks []Op
	// told says what is not written, though everything else is.
	told error
}

func (w writing) empty() bool { return len(w.before)+len(w.together)+len(w.after) == 0 }

// first applies what comes before, unless all fits into one transaction, and returns the operations
// of the transaction that counts.
func (c *core) first(ctx context.Context, w *writing, guards []Op) ([]Op, error) {
	all := append(append(append([]Op{}, w.before...), w.together...), w.after...)
	if one := Chunks(all, guards...); len(one) <= 1 {
		w.after = nil
		return append(guards, all...), nil
	}
	for _, chunk := range Chunks(w.before, guards...) {
		if err := c.kv.Apply(ctx, chunk...); err != nil {
			return nil, err
		}
	}
	return append(guards, w.together...), nil
}

// write says what is to be written in a layout. In the first one, endpoints that do not fit into
// one record have the form of the second, which agents read in either.
func (c *core) write(network string, layout int, have Publication, want Wanted) (writing, error) {
	if layout != FirstLayout {
		return c.writeParts(network, have, want), nil
	}
	all := want.All()
	if have.former && !have.head && sameEndpoints(have.endpoints, all) {
		return writing{next: have}, nil
	}
	record := Endpoints{Schema: Schema, Network: network, Host: c.host, Revision: NewNonce(), Endpoints: all}
	value := Encode(record)
	if len(value) > MaxValue {
		w := c.writeParts(network, have, Whole(all))
		w.told = errors.Join(w.told, fmt.Errorf("%w: %d endpoints and their labels have %d bytes, more than %d: 'socketplane cluster layout 2' when all hosts are upgraded",
			ErrFormerAgents, len(all), len(value), MaxValue))
		return w, nil
	}
	w := writing{
		together: []Op{
			{Kind: OpPut, Key: EndpointsKey(network, c.host), Value: value},
			{Kind: OpPut, Key: IndexKey(network, c.host), Value: Encode(Index{Schema: Schema, Revision: record.Revision})},
		},
		next: Publication{former: true, endpoints: all, revision: record.Revision},
	}
	w.together = append(w.together, c.headGone(network, have)...)
	w.after = c.partsGone(network, have)
	return w, nil
}

func (c *core) writeParts(network string, have Publication, want Wanted) writing {
	p := have.plan(network, c.host, want)
	w := writing{before: p.puts, next: p.next, told: p.refused}
	if p.changed {
		head := Head{}
		for _, part := range p.next.parts {
			head.Parts = append(head.Parts, part.hash)
		}
		w.together = append(w.together, Op{Kind: OpPut, Key: HeadKey(network, c.host), Value: head.encode()}, shardOp(network, c.host))
	}
	if have.former {
		w.together = append(w.together, c.formerGone(network)...)
	}
	for _, n := range p.gone {
		w.after = append(w.after, c.partGone(network, n)...)
	}
	return w
}

// withdrawOn is withdraw that is void once something was published on other terms, or the network is gone: a request that is late would remove what is there, or
// write a shard of a network that is not there any more.
func (c *core) withdrawOn(ctx context.Context, network string, have Publication) (now *Publication, err error) {
	known := have.known
	err = c.change(ctx, func() ([]Op, error) {
		on := known
		known = nil // of the next try: this one met another state
		bound, told := true, true
		if on == nil {
			m, err := c.mark(ctx)
			if err != nil {
				return nil, err
			}
			s, err := c.standingIn(ctx, m, network)
			if err != nil {
				return nil, err
			}
			on = &terms{m.layout, s.stays()}
			if bound, told = s.version != 0 && s.own.DockerID != "", s.version != 0; !bound {
				on.checks = []Op{m.check, {Kind: OpCheck, Key: NetworkKey(network), Version: s.version}}
			}
		}
		var err error
		if now, err = c.withdraw(ctx, network, have, told, on.checks...); err == nil && bound && on.layout != FirstLayout {
			now.known = on
		}
		return nil, err
	})
	return now, err
}

// withdraw removes this host's endpoints on a network, under some conditions, and tells the watchers of the network, if there are any.
func (c *core) withdraw(ctx context.Context, network string, have Publication, told bool, guards ...Op) (*Publication, error) {
	var ops []Op
	if have.former {
		ops = c.formerGone(network)
	}
	ops = append(ops, c.headGone(network, have)...)
	if !told {
		shard := ShardKey(network, ShardOf(c.host))
		ops = slices.DeleteFunc(ops, func(op Op) bool { return op.Key == shard })
	}
	// In their order: parts go after their head.
	for _, chunk := range Chunks(append(ops, c.partsGone(network, have)...), guards...) {
		if err := c.kv.Apply(ctx, chunk...); err != nil {
			return nil, fmt.Errorf("remove this host's endpoints: %w", err)
		}
	}
	return &Publication{}, nil
}

// leaveOps are the operations by which a transaction removes all of this host's endpoints on a network, and fails if some are published meanwhile. What does not
// fit into one transaction with guards is removed before.
func (c *core) leaveOps(ctx context.Context, network string, guards []Op) ([]Op, error) {
	head, err := c.kv.Get(ctx, HeadKey(network, c.host))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	have := Publication{former: true, head: err == nil}
	entries, err := c.kv.List(ctx, PartsOf(network, c.host))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, n, err := partOfKey(e.Key); err == nil {
			have.stray = append(have.stray, n)
		}
	}
	last := append(c.formerGone(network), Op{Kind: OpCheck, Key: HeadKey(network, c.host), Version: head.Version})
	all := append(append(last, c.headGone(network, have)...), c.partsGone(network, have)...)
	if one := Chunks(append(all, guards...)); len(one) <= 1 {
		return append(all, guards...), nil
	}
	if _, err := c.withdraw(ctx, network, have, true); err != nil {
		return nil, err
	}
	last[len(last)-1].Version = 0
	return append(last, guards...), nil
}

// formerGone removes the record of the first layout's form.
func (c *core) formerGone(network string) []Op {
	return []Op{{Kind: OpRemove, Key: EndpointsKey(network, c.host)}, {Kind: OpRemove, Key: IndexKey(network, c.host)}}
}

// headGone removes the head if there is one.
func (c *core) headGone(network string, have Publication) []Op {
	if !have.head {
		return nil
	}
	return []Op{{Kind: OpRemove, Key: HeadKey(network, c.host)}, shardOp(network, c.host)}
}

// partsGone removes all parts that there are.
func (c *core) partsGone(network string, have Publication) (ops []Op) {
	for n, part := range have.parts {
		if part.hash != "" {
			ops = append(ops, c.partGone(network, n)...)
		}
	}
	for _, n := range have.stray {
		ops = append(ops, c.partGone(network, n)...)
	}
	return ops
}

// partGone removes a part. Its labels go first: they are found by their part.
func (c *core) partGone(network string, n int) []Op {
	return []Op{{Kind: OpRemove, Key: LabelsKey(network, c.host, n)}, {Kind: OpRemove, Key: PartKey(network, c.host, n)}}
}

// shardOp changes the shard that a host's head is in.
func shardOp(network, host string) Op {
	return Op{Kind: OpPut, Key: ShardKey(network, ShardOf(host)), Value: []byte(NewNonce()[:hashText])}
}

func sameEndpoints(a, b []Endpoint) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !sameEndpoint(a[i], b[i]) {
			return false
		}
	}
	return true
}
