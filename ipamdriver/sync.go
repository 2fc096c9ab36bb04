package ipamdriver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// Sync makes the cluster's claims equal to this host's journal: releases that
// did not get through are repeated, pools and addresses that no journal knows (a crash
// between claim and journal, an answer that was lost) are given back, and those that the cluster has lost are
// claimed again. It can be called at any time; what it can't do now it returns as an error.
//
// What it has read is only a hint: it decides anew on each pool and address while nobody else works on it.
func (d *Driver) Sync(ctx context.Context) error {
	errs := []error{d.syncSwarm(ctx), d.syncHolds(ctx)}
	stocks, err := d.all(ctx)
	if err != nil {
		return err
	}
	pools, err := d.cluster.OwnPools(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	synced := d.synced
	d.mu.Unlock()
	for _, p := range pools {
		mine := func(s *stock) bool { return s.pool == p.CIDR }
		// Claims of pools that this host does not know are left by a lost journal: they are looked for once.
		if !synced || slices.ContainsFunc(stocks, mine) || p.Held {
			errs = append(errs, d.syncPool(ctx, p.CIDR))
		}
		stocks = slices.DeleteFunc(stocks, mine)
	}
	for _, s := range stocks {
		errs = append(errs, d.syncGone(ctx, s))
	}
	err = errors.Join(errs...)
	if err == nil {
		d.mu.Lock()
		d.synced = true
		d.mu.Unlock()
	}
	return err
}

// Pending says whether a release waits for the cluster, or a claim's outcome is unknown.
func (d *Driver) Pending(ctx context.Context) (bool, error) {
	stocks, err := d.all(ctx)
	if err != nil {
		return false, err
	}
	for _, s := range stocks {
		s.mu.Lock()
		pending := s.unsure || len(s.returning) > 0
		s.mu.Unlock()
		if pending {
			return true, nil
		}
	}
	if returns, err := d.readReturns(ctx); err != nil || len(returns) > 0 {
		return len(returns) > 0, err
	}
	held, err := d.readHolds(ctx)
	return slices.ContainsFunc(held, func(h heldPool) bool { return h.Returning }), err
}

func (d *Driver) readHolds(ctx context.Context) ([]heldPool, error) {
	entries, err := d.local.List(ctx, store.LocalPools)
	if err != nil {
		return nil, err
	}
	var held []heldPool
	for _, e := range entries {
		h, err := store.Decode[heldPool](e)
		if err != nil {
			return nil, err
		}
		held = append(held, h)
	}
	return held, nil
}

// syncPool compares a pool's claims with what this host has.
func (d *Driver) syncPool(ctx context.Context, pool netip.Prefix) error {
	s, err := d.find(ctx, pool)
	if err != nil {
		return err
	}
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	defer s.endTurn()
	claims, err := d.survey(ctx, s)
	if err != nil {
		return err
	}
	lost, keep, unknown := s.compare(d.cluster.Owner(), claims)
	if len(unknown) > 0 {
		d.log.Info("giving back addresses that no container has", "pool", pool, "addrs", unknown)
	}
	errs := []error{d.forget(ctx, s, lost...), d.giveBack(ctx, s)}
	var taken []netip.Addr
	var why error
	for _, addr := range keep {
		err := d.keep(ctx, s, addr)
		if errors.Is(err, store.ErrTaken) { // nothing that is tried again would help
			taken, why = append(taken, addr), errors.Join(why, err)
			continue
		}
		errs = append(errs, err)
	}
	if s.news("taken", taken) {
		d.log.Error("containers of this host have addresses that belong to somebody else: restart these containers",
			"pool", pool, "addrs", taken, "err", why)
	}
	err = errors.Join(errs...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsure = err != nil
	return err
}

// compare finds spares that the cluster does not know as this host's, which it drops, held addresses for which that is so, and
// claims that this host does not know, which are to be given back. The caller has the turn.
func (s *stock) compare(host store.Owner, claims map[netip.Addr]store.Claim) (lost, keep, unknown []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.All(func(a netip.Addr, st ipalloc.State) {
		switch {
		case claims[a].Owner == host:
		case st == ipalloc.Held:
			keep = append(keep, a)
		default:
			lost = append(lost, a)
		}
	})
	for _, a := range lost {
		s.ledger.Drop(a)
	}
	for a := range s.returning {
		if claims[a].Owner != host {
			delete(s.returning, a)
		}
	}
	for a, c := range claims {
		if c.Owner == host && s.ledger.State(a) == ipalloc.None && !s.returning[a] {
			s.returning[a] = true
			unknown = append(unknown, a)
		}
	}
	return lost, keep, unknown
}

// keep claims an address again that a container has; store.ErrTaken says that somebody else got it. The caller has the turn.
func (d *Driver) keep(ctx context.Context, s *stock, addr netip.Addr) error {
	if !s.has(addr) {
		return nil // released meanwhile
	}
	return d.cluster.Keep(ctx, s.pool, addr)
}

// news says whether there are addresses in a trouble that was not told of with just these addresses; it is told of now.
func (s *stock) news(trouble string, addrs []netip.Addr) bool {
	now := ""
	if len(addrs) > 0 {
		slices.SortFunc(addrs, netip.Addr.Compare)
		now = fmt.Sprint(trouble, addrs)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := now != s.told && now != ""
	s.told = now
	return fresh
}

// syncGone drops what this host has of a pool that the cluster does not know.
func (d *Driver) syncGone(ctx context.Context, s *stock) error {
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	defer s.endTurn()
	// The pool may have come a moment ago.
	if _, err := d.cluster.Pool(ctx, s.pool); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	lost, keep, _ := s.compare(d.cluster.Owner(), nil)
	if s.news("gone", keep) {
		// Mostly Docker has forgotten a container's address when it removed its network: that is found and given back a while later.
		d.log.Warn("addresses are handed out of a subnet that the cluster does not know; those that no container has are given back soon",
			"addrs", keep, "pool", s.pool)
	}
	err := d.forget(ctx, s, lost...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsure, s.seen = err != nil, false
	return err
}

// syncHolds compares the pools that this host holds with the journal.
func (d *Driver) syncHolds(ctx context.Context) error {
	held, err := d.readHolds(ctx)
	if err != nil {
		return err
	}
	pools, err := d.cluster.OwnPools(ctx)
	if err != nil {
		return err
	}
	differ := map[netip.Prefix]bool{}
	for _, p := range pools {
		if p.Held {
			differ[p.CIDR] = true
		}
	}
	for _, h := range held {
		differ[h.CIDR] = h.Returning || !differ[h.CIDR]
	}
	var errs []error
	for cidr, differs := range differ {
		if differs {
			errs = append(errs, d.syncHold(ctx, cidr))
		}
	}
	return errors.Join(errs...)
}

// syncHold makes the hold of one pool what the journal says.
func (d *Driver) syncHold(ctx context.Context, cidr netip.Prefix) error {
	unlock, err := d.pools.lock(ctx, cidr)
	if err != nil {
		return err
	}
	defer unlock()
	h, err := d.held(ctx, cidr)
	switch {
	case err != nil:
		return err
	case h == nil:
		d.log.Info("giving back a subnet that no network has", "pool", cidr)
		return d.cluster.ReleasePool(ctx, cidr)
	case h.Returning:
		return d.returnPool(ctx, *h)
	}
	_, err = d.cluster.AcquirePool(ctx, cidr)
	return err
}
