package ipamdriver

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// publishEvery is the least time between two times that this host tells how it uses its addresses: it is for people who look.
const publishEvery = 10 * time.Second

// told is what this host has told of its use, and when. It belongs to Run.
type told struct {
	pools map[netip.Prefix]store.PoolUse // nil before the first time
	at    time.Time
	sure  time.Time // until then it is told again whatever it was: a write that failed may take effect late
}

// publish tells the others what their own look at claims can't show, if it has changed.
func (d *Driver) publish(ctx context.Context, all []*stock, last *told) {
	if time.Since(last.at) < publishEvery {
		return
	}
	pools := map[netip.Prefix]store.PoolUse{}
	for _, s := range all {
		if use := s.use(); use.Static > 0 || use.Resting > 0 {
			pools[s.pool] = store.PoolUse{Static: use.Static, Resting: use.Resting}
		}
	}
	if last.pools != nil && maps.Equal(pools, last.pools) && time.Now().After(last.sure) {
		return
	}
	last.at = time.Now()
	ctx, cancel := context.WithTimeout(ctx, tendLimit)
	defer cancel()
	if err := d.cluster.PutUse(ctx, pools); err != nil {
		last.pools, last.sure = nil, time.Now().Add(3*publishEvery)
		d.log.Debug("other hosts are told later how this one uses its addresses", "err", err)
		return
	}
	last.pools = pools
}

// use counts this host's addresses of a pool.
func (s *stock) use() (u Use) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u.HandedOut, u.Resting, u.Spare = s.ledger.Counts(s.now())
	for addr, a := range s.held {
		if a.Static && s.ledger.State(addr) == ipalloc.Held {
			u.Static++
		}
	}
	return u
}
