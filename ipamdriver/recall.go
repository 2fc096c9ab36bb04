package ipamdriver

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// askEvery is how often a host that has asked looks for answers: seldom enough not to burden the store.
const askEvery = 20 * time.Millisecond

// recall asks the other hosts whose agents are alive for a certain address, or for any that they do not use, and waits until
// all have answered, or until then. It is worth trying again if it returns true.
func (d *Driver) recall(ctx context.Context, pool netip.Prefix, addr netip.Addr, until time.Time) (bool, error) {
	hosts, err := d.holders(ctx, pool, addr)
	if err != nil || len(hosts) == 0 {
		return false, err
	}
	ask, err := d.cluster.Ask(ctx, pool, addr, hosts)
	if err != nil {
		return false, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnSoon)
		defer cancel()
		if err := d.cluster.EndAsk(ctx, ask); err != nil {
			d.log.Warn("a request for spare addresses stays in the store until it answers", "pool", pool, "err", err)
		}
	}()
	tick, enough := time.NewTicker(askEvery), time.NewTimer(time.Until(until))
	defer tick.Stop()
	defer enough.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case <-enough.C:
			return true, nil // some have answered, perhaps
		case <-tick.C:
		}
		if waits, err := d.cluster.Asked(ctx, ask); err != nil || !waits {
			return err == nil, err
		}
	}
}

// holders are the other hosts that have claims of the pool, or of that address, and whose agents are alive.
func (d *Driver) holders(ctx context.Context, pool netip.Prefix, addr netip.Addr) ([]string, error) {
	blocks, err := d.cluster.Blocks(ctx, pool)
	if err != nil {
		return nil, err
	}
	members, err := d.cluster.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	var hosts []string
	for _, b := range blocks {
		for a, c := range b.Claims {
			id, host := c.Owner.Host()
			if host && id != d.cluster.Host() && members.Alive[id] && (!addr.IsValid() || a == addr) && !slices.Contains(hosts, id) {
				hosts = append(hosts, id)
			}
		}
	}
	slices.Sort(hosts)
	return hosts, nil
}

// answerAsks gives back what other hosts ask for, until ctx ends.
func (d *Driver) answerAsks(ctx context.Context) {
	loop := retry.Loop{
		Pause:   retry.Pause{First: time.Second, Last: 5 * time.Second, Steady: 5 * time.Second},
		Trouble: retry.Trouble{Logger: d.log, Level: slog.LevelDebug, Text: "other hosts' requests for addresses can't be seen or answered"},
	}
	loop.Follow(ctx, func(ctx context.Context, since uint64) (uint64, error) {
		asks, next, err := d.cluster.WatchAsks(ctx, since)
		for _, a := range asks { // one that fails does not keep the others from their answers
			err = errors.Join(err, d.answer(ctx, a))
		}
		return next, err
	})
}

// answer does what one ask wants of this host.
func (d *Driver) answer(ctx context.Context, a store.Ask) error {
	if a.From == d.cluster.Host() || !slices.Contains(a.Hosts, d.cluster.Host()) {
		return nil
	}
	s, err := d.find(ctx, a.Pool)
	if err != nil {
		return err
	}
	if a.Addr.IsValid() {
		_, err = d.surrender(ctx, s, a.Addr)
	} else {
		err = d.surrenderAny(ctx, s)
	}
	return errors.Join(err, d.cluster.Answer(ctx, a))
}

// surrender gives one address back if no container has it.
func (d *Driver) surrender(ctx context.Context, s *stock, addr netip.Addr) (bool, error) {
	if err := s.takeTurn(ctx); err != nil {
		return false, err
	}
	defer s.endTurn()
	s.mu.Lock()
	idle := s.ledger.State(addr) == ipalloc.Spare || s.ledger.State(addr) == ipalloc.Resting || s.returning[addr]
	s.mu.Unlock()
	if !idle {
		return false, nil
	}
	if err := d.retire(ctx, s, []netip.Addr{addr}); err != nil {
		return false, err
	}
	return true, d.unclaim(ctx, s)
}

// surrenderAny gives back all spares, or what rests if there are none, and keeps none for a while.
func (d *Driver) surrenderAny(ctx context.Context, s *stock) error {
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	defer s.endTurn()
	s.mu.Lock()
	s.ledger.Dry(d.now() + ipalloc.Moment(dryTime.Milliseconds()))
	idle := s.ledger.Surplus(d.now(), s.waiting, s.free(), atOnce)
	if len(idle) == 0 && s.waiting == 0 {
		idle = s.ledger.Idle(ipalloc.Resting, atOnce)
	}
	s.mu.Unlock()
	if err := d.retire(ctx, s, idle); err != nil {
		return err
	}
	return d.unclaim(ctx, s)
}
