package presence

import (
	"context"
	"slices"

	"github.com/socketplane/socketplane/store"
)

// record is what this host says of itself. What can't be found out now is as in the former record, which may be nil.
func (p *Presence) record(ctx context.Context, former *store.Host) store.Host {
	at := p.deps.Where()
	h := store.Host{Name: p.deps.Name, VTEP: at.Addr, MTU: at.MTU, Version: p.deps.Version, Started: p.deps.Started, VXLANPort: p.deps.VXLANPort}
	h.Answered = p.seat.answer()
	p.seat.say(h.VTEP)
	h.Uses = p.uses(ctx, former)
	var err error
	if h.Routed, err = p.deps.Subnets.Routed(ctx); err != nil && former != nil {
		h.Routed = former.Routed
	}
	for _, u := range h.Uses { // sorted
		if n := len(h.Subnets); n == 0 || h.Subnets[n-1] != u.Subnet {
			h.Subnets = append(h.Subnets, u.Subnet)
		}
	}
	return h
}

// uses are the subnets that this host uses. Those that can't be read are taken to be as they were: another host would use them, else.
func (p *Presence) uses(ctx context.Context, former *store.Host) []store.Use {
	complete := p.deps.Subnets.Complete()
	uses, err := p.deps.Subnets.Uses(ctx)
	if ctx.Err() == nil {
		p.unread.Note(err)
	}
	if former == nil || err == nil && complete {
		return uses
	}
	if err != nil {
		return former.Uses
	}
	for _, u := range former.Uses { // Docker may take a while
		same := func(other store.Use) bool { return other.Subnet == u.Subnet }
		if u.Network != "" && !slices.ContainsFunc(uses, same) {
			uses = append(uses, u)
		}
	}
	slices.SortFunc(uses, store.Use.Compare)
	return uses
}
