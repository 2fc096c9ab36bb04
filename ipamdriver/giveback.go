package ipamdriver

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// atOnce is how many addresses are given back in one step.
const atOnce = 1024

// giveBack ends the claims of surplus spares and of what is returning; the caller has the turn.
func (d *Driver) giveBack(ctx context.Context, s *stock) error {
	for {
		s.mu.Lock()
		addrs := s.ledger.Surplus(d.now(), s.waiting, s.free(), atOnce)
		s.mu.Unlock()
		if err := d.retire(ctx, s, addrs); err != nil {
			return err
		}
		if err := d.unclaim(ctx, s); err != nil || len(addrs) < atOnce {
			return err
		}
	}
}

// retire makes idle addresses ones that are to be given back. The caller has the turn.
func (d *Driver) retire(ctx context.Context, s *stock, addrs []netip.Addr) error {
	s.mu.Lock()
	was := map[netip.Addr]ipalloc.State{}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool {
		st := s.ledger.State(a)
		if st != ipalloc.Spare && st != ipalloc.Resting {
			return true // handed out meanwhile
		}
		was[a] = st
		s.ledger.Drop(a)
		return false
	})
	s.mu.Unlock()
	err := d.forget(ctx, s, addrs...)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range addrs {
		if err == nil {
			s.returning[a] = true
		} else {
			s.ledger.Put(a, was[a], d.now())
		}
	}
	return err
}

// unclaim gives back what is returning. The caller has the turn.
func (d *Driver) unclaim(ctx context.Context, s *stock) error {
	s.mu.Lock()
	byBlock := map[netip.Prefix][]netip.Addr{}
	for a := range s.returning {
		b := store.BlockOf(s.pool, a)
		byBlock[b] = append(byBlock[b], a)
	}
	s.mu.Unlock()
	blocks := make([]netip.Prefix, 0, len(byBlock))
	for b := range byBlock {
		blocks = append(blocks, b)
	}
	slices.SortFunc(blocks, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	for part := range slices.Chunk(blocks, store.MaxBlocks) {
		after, _, err := d.cluster.ChangeBlocks(ctx, s.pool, part, nil,
			func(block netip.Prefix, _ map[netip.Addr]store.Claim) (_, give []netip.Addr) {
				return nil, byBlock[block]
			})
		s.mu.Lock()
		if err != nil {
			s.unsure = s.unsure || errors.Is(err, store.ErrUnavailable)
			s.mu.Unlock()
			return err
		}
		for _, b := range part {
			s.see(d.cluster.Owner(), b, after[b])
			for _, a := range byBlock[b] {
				delete(s.returning, a)
			}
		}
		s.mu.Unlock()
	}
	return nil
}

// empty gives back all of a pool that no container has, because this host lets go of the pool.
func (d *Driver) empty(ctx context.Context, pool netip.Prefix) error {
	s, err := d.find(ctx, pool)
	if err != nil {
		return err
	}
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	defer s.endTurn()
	s.mu.Lock()
	s.dynamic = false
	const all = 1 << 30
	idle := append(s.ledger.Idle(ipalloc.Spare, all), s.ledger.Idle(ipalloc.Resting, all)...)
	s.mu.Unlock()
	if err := d.retire(ctx, s, idle); err != nil {
		return err
	}
	return d.unclaim(ctx, s)
}
