package ipamdriver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// recalls is how often a certain address is called back from whoever merely keeps it as a spare, and may claim it anew before it is claimed
// for who wants it.
const recalls = 3

// Reserve claims a certain address for a container of this host. It returns
// store.ErrTaken, naming the holder, if somebody has it; unless that is a container of
// this host with the same MAC, which can only be the same one.
func (d *Driver) Reserve(ctx context.Context, pool netip.Prefix, addr netip.Addr, mac string) error {
	s, err := d.find(ctx, pool)
	if err != nil {
		return err
	}
	unlock, err := s.busy.lock(ctx, addr)
	if err != nil {
		return err
	}
	defer unlock()
	a := address{Schema: store.Schema, Pool: pool, Addr: addr, holder: holder{MAC: mac, Static: true}, Since: int64(d.now())}
	err = d.reserve(ctx, s, a)
	for range recalls {
		if !errors.Is(err, store.ErrTaken) || s.has(addr) {
			break
		}
		again, recallErr := d.recall(ctx, pool, addr, time.Now().Add(d.recallWait))
		if err = errors.Join(err, recallErr); !again {
			break
		}
		err = d.reserve(ctx, s, a)
	}
	if errors.Is(err, store.ErrTaken) {
		return fmt.Errorf("%w: choose another --ip, or let 'docker network create --ipam-driver socketplane' choose addresses", err)
	}
	return err
}

// has says whether a container of this host has the address.
func (s *stock) has(addr netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.State(addr) == ipalloc.Held
}

// reserve is Reserve with the address's lock held, and without asking other hosts.
func (d *Driver) reserve(ctx context.Context, s *stock, a address) error {
	done, err := d.reserveOwn(ctx, s, a)
	if done || err != nil {
		return err
	}
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	defer s.endTurn()
	// Somebody may have claimed it as a spare meanwhile.
	if done, err := d.reserveOwn(ctx, s, a); done || err != nil {
		return err
	}
	return d.claimOne(ctx, s, a)
}

// reserveOwn hands out an address that this host has claimed already, if it has.
func (d *Driver) reserveOwn(ctx context.Context, s *stock, a address) (done bool, err error) {
	s.mu.Lock()
	switch s.ledger.State(a.Addr) {
	case ipalloc.Held:
		had := s.held[a.Addr]
		s.mu.Unlock()
		if a.MAC != "" && had.MAC == a.MAC {
			return true, nil
		}
		return false, fmt.Errorf("%w: %s of %s belongs to another container of this host", store.ErrTaken, a.Addr, a.Pool)
	case ipalloc.None:
		s.mu.Unlock()
		return false, nil
	}
	s.ledger.Put(a.Addr, ipalloc.Held, d.now())
	s.held[a.Addr] = a.holder
	s.mu.Unlock()
	if err := d.note(ctx, a.op()); err != nil {
		return false, errors.Join(fmt.Errorf("address %s is not handed out: %w", a.Addr, err), d.undo(ctx, s, a.Addr))
	}
	return true, nil
}

// claimOne claims an address in the cluster and journals it. The caller has the address's lock and the turn.
func (d *Driver) claimOne(ctx context.Context, s *stock, a address) error {
	var holder store.Owner
	block := store.BlockOf(a.Pool, a.Addr)
	after, taken, err := d.cluster.ChangeBlocks(ctx, a.Pool, []netip.Prefix{block}, nil,
		func(_ netip.Prefix, claims map[netip.Addr]store.Claim) (take, _ []netip.Addr) {
			if holder = claims[a.Addr].Owner; !holder.IsZero() && holder != d.cluster.Owner() {
				return nil, nil
			}
			return []netip.Addr{a.Addr}, nil
		})
	s.mu.Lock()
	if err != nil {
		s.unsure = s.unsure || errors.Is(err, store.ErrUnavailable)
		s.mu.Unlock()
		return err
	}
	s.see(d.cluster.Owner(), block, after[block])
	if len(taken) == 0 {
		s.mu.Unlock()
		if holder == store.SwarmOwner() && d.opts.SwarmSpace != "" {
			return nil // Swarm's manager has chosen it for this very container, and gives it back itself
		}
		return fmt.Errorf("%w: %s of %s belongs to %s", store.ErrTaken, a.Addr, a.Pool, d.cluster.OwnerName(ctx, holder))
	}
	delete(s.returning, a.Addr)
	s.ledger.Put(a.Addr, ipalloc.Held, d.now())
	s.held[a.Addr] = a.holder
	s.mu.Unlock()
	if err := d.note(ctx, a.op()); err != nil {
		return errors.Join(fmt.Errorf("address %s is not handed out: %w", a.Addr, err), d.undo(ctx, s, a.Addr))
	}
	return nil
}

// share claims an address for the network on all of its hosts, by claim. If a host keeps it as a spare, it is called back first.
func (d *Driver) share(ctx context.Context, pool netip.Prefix, addr netip.Addr, claim func() error) error {
	err := claim()
	if !errors.Is(err, store.ErrTaken) || !addr.IsValid() {
		return err
	}
	s, findErr := d.find(ctx, pool)
	if findErr != nil {
		return errors.Join(err, findErr)
	}
	for range recalls {
		again, callErr := d.surrender(ctx, s, addr)
		if !again {
			var recallErr error
			again, recallErr = d.recall(ctx, pool, addr, time.Now().Add(d.recallWait))
			callErr = errors.Join(callErr, recallErr)
		}
		if !again {
			return errors.Join(err, callErr)
		}
		if err = claim(); !errors.Is(err, store.ErrTaken) {
			break
		}
	}
	return err
}

// Release gives an address back that Docker has chosen, if it was handed out for that MAC ("" is any). It succeeds
// when that is journalled; what the cluster can't be told now, Sync tells later.
func (d *Driver) Release(ctx context.Context, pool netip.Prefix, addr netip.Addr, mac string) error {
	return d.release(ctx, pool, addr, mac, false)
}

// release ends the use of an address, which may then rest.
func (d *Driver) release(ctx context.Context, pool netip.Prefix, addr netip.Addr, mac string, rest bool) error {
	s, err := d.find(ctx, pool)
	if err != nil {
		return err
	}
	unlock, err := s.busy.lock(ctx, addr)
	if err != nil {
		return err
	}
	defer unlock()
	s.mu.Lock()
	had, held := s.held[addr]
	since := max(d.now(), s.released+1)
	s.released = since
	s.mu.Unlock()
	if !held || (mac != "" && had.MAC != mac) {
		return nil
	}
	if rest {
		a := address{Schema: store.Schema, Pool: pool, Addr: addr, State: stateResting, Since: int64(since)}
		err = d.note(ctx, a.op())
	} else {
		err = d.forget(ctx, s, addr)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.held, addr)
	if rest {
		s.ledger.Put(addr, ipalloc.Resting, since)
		s.mu.Unlock()
		return nil
	}
	s.ledger.Drop(addr)
	s.returning[addr] = true
	s.mu.Unlock()
	if err := d.returnNow(ctx, s); err != nil {
		d.log.Warn("address stays claimed until the store answers", "addr", addr, "pool", pool, "err", err)
	}
	return nil
}

// returnNow tells the cluster what is returning. It gives up soon.
func (d *Driver) returnNow(ctx context.Context, s *stock) error {
	ctx, cancel := context.WithTimeout(ctx, returnSoon)
	defer cancel()
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	defer s.endTurn()
	return d.unclaim(ctx, s)
}
