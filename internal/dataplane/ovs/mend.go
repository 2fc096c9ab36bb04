package ovs

import (
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// seed is of this program's life: sums are compared with one another only.
var seed = maphash.MakeSeed()

// sum stands for a flow with all that it does; 300,000 flows are kept as sums in some 10 MiB. That two flows have one is
// as likely as 1 in 10^8 for so many, and would leave one flow that another program changed until the next comparison.
func sum(f openflow.Flow) uint64 { return maphash.String(seed, f.String()) }

// mendFlows compares the switch's flows with the wanted ones, and gives it what is missing.
func (p *Plane) mendFlows(ctx context.Context) error {
	p.compared = time.Now()
	missing := map[uint64]bool{}
	p.eachWanted(func(_ *network, f openflow.Flow) { missing[sum(f)] = true })
	dump, err := p.conn.Dump(ctx, cookieOwner, cookieOwnerMask)
	if err != nil {
		return err
	}
	extra := map[string]openflow.Flow{}
	for _, f := range dump {
		if h := sum(f); f.Opaque == "" && missing[h] {
			delete(missing, h)
		} else {
			extra[f.Key()] = f
		}
	}
	add := map[*network][]openflow.Flow{}
	count := 0
	if len(missing) > 0 {
		p.eachWanted(func(n *network, f openflow.Flow) {
			if missing[sum(f)] {
				add[n] = append(add[n], f)
				delete(extra, f.Key()) // it is replaced
				count++
			}
		})
	}
	p.forgetEdited(extra)
	if count+len(extra) == 0 {
		p.drift.Note(nil)
		return nil
	}
	p.noteDrift(count, extra, add)
	return p.mend(ctx, add, extra)
}

func (p *Plane) mend(ctx context.Context, add map[*network][]openflow.Flow, extra map[string]openflow.Flow) error {
	common := openflow.Change{Add: add[nil], Delete: slices.Collect(maps.Values(extra))}
	delete(add, nil)
	for n, flows := range add {
		if err := p.give(ctx, n, openflow.Change{Add: flows}); err != nil && !isRefusal(err) {
			return err
		}
	}
	if len(common.Add)+len(common.Delete) == 0 {
		return nil
	}
	if err := p.conn.Apply(ctx, common); err != nil {
		return fmt.Errorf("%w: mend %d flows: %w", ErrNotReady, len(common.Add)+len(common.Delete), err)
	}
	return nil
}

func (p *Plane) noteDrift(missing int, extra map[string]openflow.Flow, add map[*network][]openflow.Flow) {
	var example openflow.Flow
	for _, f := range extra {
		example = f
	}
	for _, flows := range add {
		example = flows[0]
	}
	p.drift.Note(fmt.Errorf("%d are missing or changed, %d are foreign", missing, len(extra)), "example", example.Key())
	p.setStatus(func(s *Status) {
		s.Drift.Flows++
		s.Drift.FlowsAt = time.Now()
	})
}

// eachWanted computes all flows that the switch should have now: not those that it refused, or that are yet to be sent. The network is nil
// for those that all have in common.
func (p *Plane) eachWanted(do func(*network, openflow.Flow)) {
	for _, f := range p.base {
		do(nil, f)
	}
	for _, n := range p.all() {
		each := func(flows []openflow.Flow) {
			p.stamp(flows)
			for _, f := range flows {
				key := f.Key()
				if _, edited := n.edits.flows[key]; !edited && !n.isRefused(key) {
					do(n, f)
				}
			}
		}
		p.mu.Lock()
		each(n.commonFlows(n.basis))
		all := n.stations()
		p.mu.Unlock()
		for piece := range slices.Chunk(all, walkPiece) {
			p.mu.Lock()
			for _, s := range piece {
				if n.has(s) {
					each(n.flowsOf(s, n.basis))
				}
			}
			p.mu.Unlock()
		}
	}
}

// forgetEdited leaves out the flows of which an edit says what they are to be.
func (p *Plane) forgetEdited(flows map[string]openflow.Flow) {
	if len(flows) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.networks {
		for key := range n.edits.flows {
			delete(flows, key)
		}
	}
}
