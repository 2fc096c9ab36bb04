package ovs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// A flow's cookie says whose it is and from which generation: 0x5350 ("SP"), 16 bits
// of zero, and the generation.
const (
	cookieOwner     uint64 = 0x5350 << 48
	cookieOwnerMask uint64 = 0xffff << 48
	generationMask  uint64 = 1<<32 - 1
)

// walkPiece is how many stations are gone through while Plane.mu is held: some 2 ms of computing.
const walkPiece = 512

// basisOf is what the network's flows are to be computed with. Called in a turn, with mu held.
func (p *Plane) basisOf(n *network) basis {
	return basis{
		active: !n.gone && n.attached > 0, config: p.pipeline(), own: p.underlay.Addr,
		segment: pipeline.Segment{VNI: n.vni, Device: n.tunnelPort()},
	}
}

// pipeline is what all networks of this host have in common. The kernel's datapath can't set what
// a whole answer to a neighbour solicitation needs (docs/design/0002-pipeline.md).
func (p *Plane) pipeline() pipeline.Config {
	return pipeline.Config{Tunnel: p.tunnel, NDExtensions: p.datapath == ovsctl.DatapathNetdev, Host: p.opts.Host}
}

// syncFlows makes the flows of a network the wanted ones: it sends what changed since the last time, and all only when what all depend on is new.
func (p *Plane) syncFlows(ctx context.Context, n *network) error {
	give := func(c openflow.Change) error { return p.give(ctx, n, c) }
	for {
		p.mu.Lock()
		want := p.basisOf(n)
		same := n.basis == want && !n.edits.off && !n.walk
		if n.walk && !n.edits.off {
			want = n.next // an interrupted walk is finished first
		}
		p.mu.Unlock()
		if same {
			return p.flush(ctx, n)
		}
		if err := p.walk(n, want, give); err != nil {
			if isRefusal(err) {
				err = cmp.Or(p.flush(ctx, n), err)
			}
			return err
		}
	}
}

// flush sends the network's edits in one bundle. When that fails without a refusal they stay to be sent again.
func (p *Plane) flush(ctx context.Context, n *network) error {
	p.mu.Lock()
	sent := n.edits.flows
	n.edits.flows = map[string]edit{}
	p.mu.Unlock()
	var c openflow.Change
	for key, e := range sent {
		delete(n.refused, key)
		if e.gone {
			c.Delete = append(c.Delete, e.flow)
		} else {
			c.Add = append(c.Add, e.flow)
		}
	}
	err := p.give(ctx, n, c)
	if err != nil && !isRefusal(err) {
		p.mu.Lock()
		for key, e := range sent {
			if _, newer := n.edits.flows[key]; !newer {
				n.edits.flows[key] = e
			}
		}
		p.mu.Unlock()
	}
	return err
}

// walk goes through all stations of a network and gives what leads from the flows that the switch has of them to those
// that are to be computed with want. What is changed meanwhile becomes an edit. If it fails, the next walk gives all.
func (p *Plane) walk(n *network, want basis, give func(openflow.Change) error) error {
	p.mu.Lock()
	old := n.basis
	if n.edits.off {
		old = basis{} // the switch has none
		n.edits.off, n.walk = false, false
		clear(n.edits.flows)
		clear(n.common)
		n.count = 0
		for _, s := range n.stations() {
			s.flows = 0
		}
	}
	n.basis, n.next, n.walk = old, want, true
	for key, e := range n.edits.flows {
		n.edits.flows[key] = edit{flow: e.flow, gone: true, old: true}
	}
	before := byKey(n.commonFlows(old))
	after := byKey(n.commonFlows(want))
	n.edits.differ(before, after, len(n.edits.flows) > 0)
	clear(n.common)
	for key := range after {
		n.common[key] = true
	}
	all := n.stations()
	p.mu.Unlock()
	var err, refused error
	for piece := range slices.Chunk(all, walkPiece) {
		if c := p.step(n, piece); len(c.Add)+len(c.Delete) > 0 {
			if err = give(c); isRefusal(err) {
				refused, err = err, nil
			}
			if err != nil {
				break
			}
		}
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	n.walk, n.basis = false, want
	p.mu.Unlock()
	return refused
}

// step is the part of a walk for some stations.
func (p *Plane) step(n *network, piece []*station) openflow.Change {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, after := map[string]openflow.Flow{}, map[string]openflow.Flow{}
	for _, s := range piece {
		if !n.has(s) {
			continue // an edit has it
		}
		for _, f := range n.flowsOf(s, n.basis) {
			before[f.Key()] = f
		}
		for _, f := range n.wanted(s, n.next) {
			after[f.Key()] = f
		}
	}
	diff := edits{flows: map[string]edit{}}
	diff.differ(before, after, false)
	var c openflow.Change
	for key, e := range diff.flows {
		switch _, edited := n.edits.flows[key]; {
		case edited:
		case e.gone:
			c.Delete = append(c.Delete, e.flow)
		default:
			c.Add = append(c.Add, e.flow)
		}
	}
	for key, f := range after {
		if n.edits.flows[key].old {
			n.edits.flows[key] = edit{flow: f}
		}
	}
	return c
}

func byKey(flows []openflow.Flow) map[string]openflow.Flow {
	all := make(map[string]openflow.Flow, len(flows))
	for _, f := range flows {
		all[f.Key()] = f
	}
	return all
}

// stamp gives flows the cookie of the present generation.
func (p *Plane) stamp(flows []openflow.Flow) {
	for i := range flows {
		flows[i].Cookie = p.cookie
	}
}

// replay makes the flows of a switch that this agent does not know yet the wanted ones. Those of ours that it has are taken over, with their
// generation, if most are as wanted: an agent that restarts changes nothing then.
func (p *Plane) replay(ctx context.Context) error {
	have, err := p.conn.Count(ctx, cookieOwner, cookieOwnerMask)
	if err != nil {
		return err
	}
	if have == 0 {
		return p.replayOver(ctx, difference{})
	}
	if err := p.follow(ctx); err != nil { // before the comparison, so that the flow monitor reports what other programs change after it
		return err
	}
	p.presume()
	d, err := p.compare(ctx, have)
	if err != nil {
		return err
	}
	if p.cookie == 0 || d.large() {
		return p.replayOver(ctx, d)
	}
	if err := p.adopt(ctx, d); err != nil {
		p.cookie = 0
		return err
	}
	return nil
}

// presume takes all flows for sent. What of that is not so a comparison must find.
func (p *Plane) presume() {
	p.baseFor = p.pipeline()
	p.base = pipeline.Base(p.baseFor)
	for _, n := range p.all() {
		clear(n.refused)
		n.entered = false // its entries' changes were not noted meanwhile
		p.mu.Lock()
		n.basis = p.basisOf(n)
		n.edits.off, n.walk = false, false
		clear(n.edits.flows)
		clear(n.common)
		for _, f := range n.commonFlows(n.basis) {
			n.common[f.Key()] = true
		}
		p.mu.Unlock()
	}
}

// adopt takes over the flows that the switch has, and mends those that differ.
func (p *Plane) adopt(ctx context.Context, d difference) error {
	p.compared = time.Now()
	p.stamp(p.base)
	changed, _, err := p.mend(ctx, d)
	if err != nil {
		return err
	}
	for _, n := range p.all() {
		if err := p.flush(ctx, n); err != nil && !isRefusal(err) {
			return err
		}
	}
	p.replayed("flows taken over", "changed", changed)
	return nil
}

// replayed notes that the switch has all flows.
func (p *Plane) replayed(text string, args ...any) {
	generation := uint32(p.cookie & generationMask)
	p.setStatus(func(s *Status) { s.Generation, s.baseFlows = generation, len(p.base) })
	p.log.Info(text, append(args, "flows", p.Status().Flows, "generation", generation)...)
}

// replayOver gives the switch all flows under a new generation, piece by piece, and deletes older generations after: traffic never stops. Those that
// all networks have in common come last: without them an empty switch forwards nothing.
func (p *Plane) replayOver(ctx context.Context, d difference) error {
	p.cookie = cookieOwner | (d.last()+1)&generationMask
	if err := p.replayAs(ctx, d.cookies); err != nil {
		p.cookie = 0
		return err
	}
	return nil
}

func (p *Plane) replayAs(ctx context.Context, old map[uint64]bool) error {
	p.baseFor = p.pipeline()
	p.base = pipeline.Base(p.baseFor)
	p.stamp(p.base)
	f := filling{plane: p, pieces: map[*network][]openflow.Flow{}}
	defer func() { _ = f.wait() }() // no goroutine of it is left
	networks := p.all()
	for _, n := range networks {
		p.mu.Lock()
		want := p.basisOf(n)
		n.edits.off = true
		p.mu.Unlock()
		clear(n.refused)
		n.entered = false // its entries' changes were not noted meanwhile
		err := p.walk(n, want, func(c openflow.Change) error { return f.add(ctx, n, c.Add) })
		if err != nil {
			return err
		}
	}
	if err := f.flush(ctx); err != nil {
		return err
	}
	for _, n := range networks {
		if err := p.flush(ctx, n); err != nil && !isRefusal(err) {
			return err
		}
	}
	if err := p.conn.Apply(ctx, openflow.Change{Add: p.base}); err != nil {
		return fmt.Errorf("%w: replay %d flows: %w", ErrNotReady, len(p.base), err)
	}
	for cookie := range old {
		if err := p.conn.DeleteCookie(ctx, cookie, ^uint64(0)); err != nil {
			return fmt.Errorf("delete flows of older generations: %w", err)
		}
	}
	p.replayed("flows replayed")
	return nil
}
