package ovs

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
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

// basis is all that a network's flows depend on.
type basis struct {
	revision uint64
	port     uint32
	config   pipeline.Config
	cookie   uint64
	vtep     netip.Addr // of this host: peers that no tunnel reaches from it are left out
}

func (r *Reconciler) basisOf(n *network) basis {
	return basis{n.revision, n.tunnelPort(), r.pipeline(), r.cookie, r.underlay.Addr}
}

// pipeline is what all networks of this host have in common. The kernel's datapath can't set what
// a whole answer to a neighbour solicitation needs (docs/design/0002-pipeline.md).
func (r *Reconciler) pipeline() pipeline.Config {
	return pipeline.Config{Tunnel: r.tunnel, NDExtensions: r.datapath == ovsctl.DatapathNetdev, Host: r.opts.Host}
}

func (r *Reconciler) keyed(flows []openflow.Flow) flowSet {
	byKey := make(flowSet, len(flows))
	for _, f := range flows {
		f.Cookie = r.cookie
		byKey[f.Key()] = f
	}
	return byKey
}

// syncFlows makes the flows of these networks the wanted ones, in one bundle.
func (r *Reconciler) syncFlows(ctx context.Context, networks ...*network) error {
	var c openflow.Change
	next := map[*network]flowParts{}
	for _, n := range networks {
		if n.basis == r.basisOf(n) {
			continue
		}
		flows := r.flowsOf(n, n.flows)
		flows.from(n.flows, &c)
		next[n] = flows
	}
	if err := r.change(ctx, c); err != nil {
		return err
	}
	for n, flows := range next {
		n.flows, n.basis = flows, r.basisOf(n)
	}
	r.countFlows()
	return nil
}

// change changes flows. When it fails nobody knows what the switch did, so all are compared anew.
func (r *Reconciler) change(ctx context.Context, c openflow.Change) error {
	if len(c.Add) == 0 && len(c.Delete) == 0 {
		return nil
	}
	if err := r.conn.Apply(ctx, c); err != nil {
		r.cookie = 0
		return fmt.Errorf("%w: change %d flows: %w", ErrNotReady, len(c.Add)+len(c.Delete), err)
	}
	return nil
}

// replay gives the switch all flows under a new generation, and deletes older generations after: traffic never stops. Those that
// all networks have in common come last: without them an empty switch forwards nothing.
func (r *Reconciler) replay(ctx context.Context) error {
	have, err := r.conn.Dump(ctx, cookieOwner, cookieOwnerMask)
	if err != nil {
		return err
	}
	old := map[uint64]bool{}
	var last uint64
	for _, f := range have {
		old[f.Cookie] = true
		last = max(last, f.Cookie&generationMask)
	}
	r.cookie = cookieOwner | (last+1)&generationMask
	r.baseFor = r.pipeline()
	r.base = r.keyed(pipeline.Base(r.baseFor))
	var flows []openflow.Flow
	for _, n := range r.networks {
		n.flows, n.basis = r.flowsOf(n, flowParts{}), r.basisOf(n)
		for _, f := range n.flows.all() {
			flows = append(flows, f)
		}
	}
	if err := openflow.Fill(ctx, r.sw.MgmtPath(), flows); err != nil {
		r.cookie = 0
		return fmt.Errorf("%w: replay %d flows: %w", ErrNotReady, len(flows), err)
	}
	if err := r.change(ctx, openflow.Change{Add: slices.Collect(maps.Values(r.base))}); err != nil {
		return err
	}
	for cookie := range old {
		if err := r.conn.DeleteCookie(ctx, cookie, ^uint64(0)); err != nil {
			r.cookie = 0
			return fmt.Errorf("delete flows of older generations: %w", err)
		}
	}
	generation := uint32(r.cookie & generationMask)
	r.log.Info("flows replayed", "flows", len(flows)+len(r.base), "generation", generation)
	r.setStatus(func(s *Status) { s.Generation = generation })
	r.countFlows()
	return nil
}

// mendFlows compares the switch's flows with those that it was given.
func (r *Reconciler) mendFlows(ctx context.Context) error {
	dump, err := r.conn.Dump(ctx, cookieOwner, cookieOwnerMask)
	if err != nil {
		return err
	}
	have := make(flowSet, len(dump))
	for _, f := range dump {
		have[f.Key()] = f
	}
	want := maps.Clone(r.base)
	for _, n := range r.networks {
		maps.Insert(want, n.flows.all())
	}
	var c openflow.Change
	want.from(have, &c)
	if len(c.Add) == 0 && len(c.Delete) == 0 {
		r.drift.Note(nil)
		return nil
	}
	example := slices.Concat(c.Add, c.Delete)[0]
	r.drift.Note(fmt.Errorf("%d are missing or changed, %d are foreign", len(c.Add), len(c.Delete)), "example", example.Key())
	r.setStatus(func(s *Status) {
		s.Drift.Flows++
		s.Drift.FlowsAt = time.Now()
	})
	return r.change(ctx, c)
}

func (r *Reconciler) countFlows() {
	count := len(r.base)
	for _, n := range r.networks {
		count += n.flows.count()
	}
	r.setStatus(func(s *Status) { s.Flows = count })
}
