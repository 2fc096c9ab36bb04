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

// sum stands for a flow with all that it does but its cookie; 300,000 flows are kept as sums in some 10 MiB. That two flows have one is
// as likely as 1 in 10^8 for so many, and would leave one flow that another program changed until the next comparison.
func sum(f openflow.Flow) uint64 {
	var room [256]byte
	content, _ := f.AppendContent(room[:0])
	return maphash.Bytes(seed, content)
}

// keySum is sum of what says which flow it is.
func keySum(f openflow.Flow) uint64 {
	var room [256]byte
	content, key := f.AppendContent(room[:0])
	return maphash.Bytes(seed, content[:key])
}

// smallDifference is how many flows are mended one by one, some 0.5 KiB each in memory.
const smallDifference = 16 << 10

// difference is how the switch's flows of ours differ from the wanted ones.
type difference struct {
	missing map[uint64]bool // sums of the wanted flows that the switch does not have with the present cookie
	// extra are, by Key, flows that the switch has besides; smallDifference of them at most. extras is how many there are.
	extra  map[string]openflow.Flow
	extras int
	// cookies are all that the switch's flows have.
	cookies map[uint64]bool
}

// large says that there is so much to send that pieces under a new generation need less memory, and less of the switch's time.
func (d difference) large() bool { return len(d.missing)+d.extras > smallDifference }

// last is the highest generation among the switch's flows.
func (d difference) last() (last uint64) {
	for c := range d.cookies {
		last = max(last, c&generationMask)
	}
	return last
}

// compare reads the switch's flows, of which it holds none but those that are not wanted. Without a cookie it takes up
// that of the first flow that is as it is wanted: it stays 0 if there is none. have is about how many flows there are.
func (p *Plane) compare(ctx context.Context, have int) (difference, error) {
	d := difference{missing: make(map[uint64]bool, have), extra: map[string]openflow.Flow{}, cookies: map[uint64]bool{}}
	p.eachWanted(func(_ *network, f openflow.Flow) { d.missing[sum(f)] = true })
	cookie := p.cookie
	err := p.conn.Each(ctx, cookieOwner, cookieOwnerMask, func(f openflow.Flow) {
		d.cookies[f.Cookie] = true
		h := sum(f)
		wanted := f.Opaque == "" && d.missing[h]
		if wanted && cookie == 0 {
			cookie = f.Cookie
		}
		if wanted && f.Cookie == cookie {
			delete(d.missing, h)
			return
		}
		if d.extras++; d.extras <= smallDifference {
			d.extra[f.Key()] = f.Clone()
		}
	})
	if err != nil {
		return d, err
	}
	p.cookie = cookie
	return d, nil
}

// mendFlows compares the switch's flows with the wanted ones, and gives it what is missing.
func (p *Plane) mendFlows(ctx context.Context) error {
	p.compared = time.Now()
	d, err := p.compare(ctx, p.Status().Flows)
	if err != nil {
		return err
	}
	if d.large() {
		p.noteDrift(len(d.missing), d.extras, "very many")
		return p.replayOver(ctx, d)
	}
	count, example, err := p.mend(ctx, d)
	if count == 0 {
		p.drift.Note(nil)
	} else {
		p.noteDrift(count-len(d.extra), len(d.extra), example)
	}
	return err
}

// mend gives the switch what a small difference says. It returns how many flows that are, one of them, and leaves in extra those that it deletes.
func (p *Plane) mend(ctx context.Context, d difference) (count int, example string, err error) {
	add := map[*network][]openflow.Flow{}
	if len(d.missing) > 0 {
		p.eachWanted(func(n *network, f openflow.Flow) {
			if d.missing[sum(f)] {
				add[n] = append(add[n], f)
				delete(d.extra, f.Key()) // it is replaced
				count++
				example = f.Key()
			}
		})
	}
	p.forgetEdited(d.extra)
	for key := range d.extra {
		count++
		example = key
	}
	common := openflow.Change{Add: add[nil], Delete: slices.Collect(maps.Values(d.extra))}
	delete(add, nil)
	for n, flows := range add {
		if err := p.give(ctx, n, openflow.Change{Add: flows}); err != nil && !isRefusal(err) {
			return count, example, err
		}
	}
	if len(common.Add)+len(common.Delete) > 0 {
		err = p.conn.Apply(ctx, common)
	}
	if err != nil {
		return count, example, fmt.Errorf("%w: mend %d flows: %w", ErrNotReady, len(common.Add)+len(common.Delete), err)
	}
	return count, example, nil
}

// confirm makes a replay count as a comparison: the switch has acknowledged each flow, and if it now has as many as are wanted, and no
// others, no other program has removed, replaced or added any before the flow monitor began. Else all are compared with the next full pass.
func (p *Plane) confirm(ctx context.Context) error {
	if !p.monitored || !p.compared.IsZero() {
		return nil
	}
	ours, err := p.conn.Count(ctx, p.cookie, ^uint64(0))
	if err != nil {
		return err
	}
	all, err := p.conn.Count(ctx, 0, 0)
	if err != nil {
		return err
	}
	if want := p.Status().Flows; ours == want && all == want {
		p.compared = time.Now()
	}
	return nil
}

func (p *Plane) noteDrift(missing, extra int, example string) {
	p.drift.Note(fmt.Errorf("%d are missing or changed, %d are foreign", missing, extra), "example", example)
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
		var but exceptions
		each := func(flows []openflow.Flow) {
			p.stamp(flows)
			n.noteExceptions(&but)
			for _, f := range flows {
				if len(but.keys) == 0 || !but.keys[keySum(f)] {
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
					each(n.wanted(s, n.basis))
				}
			}
			p.mu.Unlock()
		}
	}
}

// exceptions are the flows that are yet to be sent, or were refused, by the sums of their keys: those of all flows are compared with them.
type exceptions struct {
	keys            map[uint64]bool
	edited, refused int
}

// noteExceptions brings them up to date. Edits only become more in a turn that does not send them. Called with mu held.
func (n *network) noteExceptions(x *exceptions) {
	if len(n.edits.flows) == x.edited && len(n.refused) == x.refused {
		return
	}
	*x = exceptions{map[uint64]bool{}, len(n.edits.flows), len(n.refused)}
	for _, all := range []map[string]edit{n.edits.flows, n.refused} {
		for _, e := range all {
			x.keys[keySum(e.flow)] = true
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
