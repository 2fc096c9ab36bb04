package ipamdriver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// errDry says that nobody has left an address of the pool unclaimed.
var errDry = errors.New("every address is claimed")

// dynamic hands out an address: a spare one if there is any, which asks nobody, else one that it claims first.
func (d *Driver) dynamic(ctx context.Context, pool ipalloc.Pool, mac string) (netip.Addr, error) {
	s, err := d.find(ctx, pool.CIDR)
	if err != nil {
		return netip.Addr{}, err
	}
	s.choose(pool)
	addr, err := d.handOut(ctx, s, mac, false)
	if addr.IsValid() || err != nil {
		return addr, err
	}
	s.wait(1)
	defer s.wait(-1)
	var until time.Time
	for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
		refillErr := d.refill(ctx, s)
		// What rests is better than nothing.
		addr, err := d.handOut(ctx, s, mac, refillErr != nil)
		if addr.IsValid() || err != nil {
			return addr, err
		}
		switch {
		case refillErr == nil: // others of this host were faster
			continue
		case errors.Is(refillErr, store.ErrUnavailable):
			return addr, fmt.Errorf("no spare address of %s is left on this host, and no more can be claimed: %w", pool, refillErr)
		case !errors.Is(refillErr, errDry):
			return addr, refillErr
		}
		if until.IsZero() {
			until = time.Now().Add(d.recallWait)
		}
		if err := d.searchElsewhere(ctx, s, until, pause); err != nil {
			return addr, err
		}
	}
}

// Pauses between looks at a pool that has no free addresses.
const (
	pauseFirst = 10 * time.Millisecond
	pauseMost  = 250 * time.Millisecond
)

// searchElsewhere asks other hosts for what they do not use. Without an error it is worth looking again; in the end it
// says who has the addresses.
func (d *Driver) searchElsewhere(ctx context.Context, s *stock, until time.Time, pause time.Duration) error {
	// One request of this host asks for all that wait.
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return d.exhausted(ctx, s.pool, context.Cause(ctx))
	}
	if s.ready() {
		return nil
	}
	if now := time.Now(); now.After(until) && (now.After(until.Add(d.recallWait)) || !d.room(ctx, s)) {
		return d.exhausted(ctx, s.pool, nil)
	}
	asked, err := d.recall(ctx, s.pool, netip.Addr{}, until)
	if err != nil {
		return d.exhausted(ctx, s.pool, err)
	}
	// What was given back may have gone to somebody else, and come back again.
	if !asked {
		s.mu.Lock()
		room := s.free() > 0 // as of a moment ago
		s.mu.Unlock()
		if !room {
			return d.exhausted(ctx, s.pool, nil)
		}
	}
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return d.exhausted(ctx, s.pool, context.Cause(ctx))
	}
}

// room says whether somebody has given back an address that nobody has claimed yet: then a pool is not exhausted, but many are after its last ones.
func (d *Driver) room(ctx context.Context, s *stock) bool {
	if _, err := d.survey(ctx, s); err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free() > 0
}

// ready says that there is a spare.
func (s *stock) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _, spare := s.ledger.Counts(s.now())
	return spare > 0
}

// choose notes the range from which addresses are chosen.
func (s *stock) choose(pool ipalloc.Pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dynamic = true; s.within != pool {
		s.within = pool
		s.ledger.SetRange(pool)
	}
}

// wait counts the requests that wait for an address.
func (s *stock) wait(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting += n
}

// handOut takes a spare address, journals and answers it; the zero Addr means that there is none. With early, resting
// ones will do.
func (d *Driver) handOut(ctx context.Context, s *stock, mac string, early bool) (netip.Addr, error) {
	for {
		a, unlock, low, busy := s.take(mac, early)
		if unlock == nil {
			if !busy.IsValid() {
				return busy, nil
			}
			// Somebody asks for the only one by name, or a late release looks at it.
			wait, err := s.busy.lock(ctx, busy)
			if err != nil {
				return netip.Addr{}, err
			}
			wait()
			continue
		}
		err := d.note(ctx, a.op())
		if err != nil {
			err = errors.Join(fmt.Errorf("address %s is not handed out: %w", a.Addr, err), d.undo(ctx, s, a.Addr))
		}
		unlock()
		if low {
			d.wake()
		}
		if err != nil {
			return netip.Addr{}, err
		}
		return a.Addr, nil
	}
}

// take makes a spare a held address, whose lock the caller gets, and says whether spares are low then; without one, busy is an
// address that somebody works on.
func (s *stock) take(mac string, early bool) (_ *address, unlock func(), low bool, busy netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var skipped []netip.Addr
	defer func() {
		for _, addr := range skipped {
			s.ledger.Put(addr, ipalloc.Spare, now)
		}
	}()
	for {
		addr, ok := s.ledger.Take(now, early)
		if !ok {
			return nil, nil, false, busy
		}
		if unlock, _ = s.busy.try(addr); unlock != nil {
			a := &address{Schema: store.Schema, Pool: s.pool, Addr: addr, holder: holder{MAC: mac}, Since: int64(now)}
			s.held[addr] = a.holder
			return a, unlock, s.want() > 0, busy
		}
		skipped, busy = append(skipped, addr), addr
	}
}

// undo ends a claim of this host whose journal record could not be written: it is given back. The caller has the address's lock.
func (d *Driver) undo(ctx context.Context, s *stock, addr netip.Addr) error {
	s.mu.Lock()
	s.ledger.Drop(addr)
	delete(s.held, addr)
	s.returning[addr], s.unsure = true, true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnSoon)
	defer cancel()
	return d.forget(ctx, s, addr)
}

// refill claims addresses for those who wait and for the watermark, unless somebody else does so meanwhile.
func (d *Driver) refill(ctx context.Context, s *stock) error {
	s.mu.Lock()
	more := s.more
	s.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
		defer s.endTurn()
		return d.claim(ctx, s)
	case <-more:
		return nil
	case <-ctx.Done():
		return s.late(ctx)
	}
}

// claim claims what is wanted, as far as one transaction goes; the caller has the turn. It returns errDry if nothing is left.
func (d *Driver) claim(ctx context.Context, s *stock) error {
	tried := map[netip.Prefix]bool{}
	for fresh := false; ; {
		s.mu.Lock()
		n, seen := s.want(), s.seen
		var blocks []netip.Prefix
		if seen && n > 0 {
			blocks = s.view.Choose(s.within, d.cluster.Host(), n, store.MaxBlocks, tried)
		}
		s.mu.Unlock()
		switch {
		case n == 0:
			return nil
		case !seen || len(blocks) == 0 && !fresh:
			// Others have given blocks back, perhaps.
			if _, err := d.survey(ctx, s); err != nil {
				return err
			}
			fresh = true
			clear(tried)
			continue
		case len(blocks) == 0:
			return errDry
		}
		got, err := d.claimFrom(ctx, s, blocks, n)
		if err != nil || got > 0 {
			return err
		}
		for _, b := range blocks {
			tried[b] = true
		}
	}
}

// survey reads all blocks of a pool.
func (d *Driver) survey(ctx context.Context, s *stock) (map[netip.Addr]store.Claim, error) {
	blocks, err := d.cluster.Blocks(ctx, s.pool)
	if err != nil {
		return nil, err
	}
	all := map[netip.Addr]store.Claim{}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view, s.seen = ipalloc.NewView(), true
	for _, b := range blocks {
		for a := range b.Claims {
			s.see(d.cluster.Owner(), store.BlockOf(s.pool, a), b.Claims)
			break
		}
		maps.Copy(all, b.Claims)
	}
	return all, nil
}

// claimFrom claims up to n addresses of some blocks, and makes spares of them.
func (d *Driver) claimFrom(ctx context.Context, s *stock, blocks []netip.Prefix, n int) (int, error) {
	left := 0
	decide := func(block netip.Prefix, claims map[netip.Addr]store.Claim) (take, _ []netip.Addr) {
		if block == blocks[0] {
			left = n // the first of a new round
		}
		take = make([]netip.Addr, 0, ipalloc.BlockSize)
		s.mu.Lock()
		defer s.mu.Unlock()
		first, next := block.Addr(), netip.Addr.Next
		if s.within.Top {
			first, next = ipalloc.Last(block), netip.Addr.Prev
		}
		for a := first; left > 0 && a.IsValid() && block.Contains(a); a = next(a) {
			has, is := claims[a]
			if is && has.Owner != d.cluster.Owner() || s.ledger.State(a) != ipalloc.None ||
				!s.within.Range.Contains(a) || !s.within.Assignable(a) {
				continue
			}
			take = append(take, a)
			left--
		}
		return take, nil
	}
	after, taken, err := d.cluster.ChangeBlocks(ctx, s.pool, blocks, s.looksEmpty, decide)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unsure = s.unsure || errors.Is(err, store.ErrUnavailable)
		return 0, err
	}
	s.mu.Lock()
	for block, claims := range after {
		s.see(d.cluster.Owner(), block, claims)
	}
	s.mu.Unlock()
	return len(taken), d.stockUp(ctx, s, taken)
}

// stockUp makes spares of addresses that were claimed.
func (d *Driver) stockUp(ctx context.Context, s *stock, taken []netip.Addr) error {
	if len(taken) == 0 {
		return nil
	}
	err := d.noteClaimed(ctx, s, taken)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		for _, a := range taken {
			s.returning[a], s.unsure = true, true
		}
		return err
	}
	for _, a := range taken {
		delete(s.returning, a)
	}
	s.ledger.Claimed(d.now(), taken...)
	close(s.more)
	s.more = make(chan struct{})
	return nil
}

// exhausted says who holds the pool's addresses.
func (d *Driver) exhausted(ctx context.Context, pool netip.Prefix, cause error) error {
	s, err := d.find(ctx, pool)
	if err != nil {
		return err
	}
	s.mu.Lock()
	within := s.within
	s.mu.Unlock()
	count := map[store.Owner]int{}
	blocks, err := d.cluster.Blocks(ctx, pool)
	for _, b := range blocks {
		for _, c := range b.Claims {
			count[c.Owner]++
		}
	}
	var who []string
	for _, owner := range slices.SortedFunc(maps.Keys(count), store.Owner.Compare) {
		who = append(who, fmt.Sprintf("%s: %d", d.cluster.OwnerName(ctx, owner), count[owner]))
	}
	return errors.Join(fmt.Errorf("%w in %s: all %d are in use (%s): remove containers or use a larger --subnet",
		ErrExhausted, within, within.Size(), strings.Join(who, ", ")), cause, err)
}
