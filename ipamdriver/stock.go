package ipamdriver

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/internal/lock"
	"github.com/socketplane/socketplane/store"
)

// stock is what this host has of one pool, in memory. The journal has the same, but for the order.
//
// Locks are taken in the order busy, turn, mu.
type stock struct {
	pool netip.Prefix
	clock
	// busy are the addresses whose journal record is being changed.
	busy    busy[netip.Addr]
	claimed claimed
	// turn is held by the one who changes this host's claims of the pool in the cluster.
	turn lock.Lock
	// asking is held by the one who asks other hosts for spares.
	asking chan struct{}

	mu     sync.Mutex
	ledger *ipalloc.Ledger
	within ipalloc.Pool
	view   *ipalloc.View
	seen   bool // view has the whole pool
	held   map[netip.Addr]holder
	// returning are claims that are to be given back: no journal has them, and none of them is handed
	// out before it was claimed anew.
	returning map[netip.Addr]bool
	released  ipalloc.Moment // the last one: no two at once, so that their order survives a restart
	waiting   int            // requests that found no spare
	more      chan struct{}  // closed, and made anew, when there are more spares
	dynamic   bool           // addresses are chosen here, so that spares are of use
	unsure    bool           // a write of claims was not acknowledged: Sync is to look
	retry     time.Time
	told      string // the trouble that was logged last
}

// find returns the stock of a pool; the journal is read at the first call.
func (d *Driver) find(ctx context.Context, pool netip.Prefix) (*stock, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.load(ctx); err != nil {
		return nil, err
	}
	return d.stockOf(pool), nil
}

// stockOf is find with d.mu held and the journal read.
func (d *Driver) stockOf(pool netip.Prefix) *stock {
	s := d.stocks[pool]
	if s == nil {
		whole := ipalloc.Pool{CIDR: pool, Range: pool}
		s = &stock{
			pool: pool, turn: lock.New(), asking: make(chan struct{}, 1), within: whole, ledger: ipalloc.NewLedger(whole, d.policy),
			more: make(chan struct{}), clock: d.clock, view: ipalloc.NewView(), held: map[netip.Addr]holder{}, returning: map[netip.Addr]bool{},
		}
		d.stocks[pool] = s
	}
	return s
}

// all returns the stocks of all pools.
func (d *Driver) all(ctx context.Context) ([]*stock, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.load(ctx); err != nil {
		return nil, err
	}
	var all []*stock
	for _, s := range d.stocks {
		all = append(all, s)
	}
	return all, nil
}

// load reads the journal once; d.mu is held.
func (d *Driver) load(ctx context.Context) error {
	if d.loaded {
		return nil
	}
	entries, err := d.journal.List(ctx, store.LocalAddresses)
	if err != nil {
		return err
	}
	d.stocks = map[netip.Prefix]*stock{}
	if err := d.loadClaimed(ctx); err != nil {
		return err
	}
	for _, e := range entries {
		a, err := readAddress(e)
		if err != nil {
			return err
		}
		d.stockOf(a.Pool).put(a)
	}
	d.loaded = true
	return nil
}

// put takes over a record of the journal.
func (s *stock) put(a address) {
	if a.state() == ipalloc.Held {
		s.held[a.Addr] = a.holder
	}
	// A clock that was set back must not make an address rest for hours; a second is within order.
	s.ledger.Put(a.Addr, a.state(), min(ipalloc.Moment(a.Since), s.now()+1000))
	s.dynamic = s.dynamic || a.State != stateHeld || !a.Static
}

// Held is an address that an endpoint of this host has.
type Held struct {
	Pool netip.Prefix
	Addr netip.Addr
	MAC  string
	// Static says that Docker or its user chose it.
	Static bool
}

// Restore tells which addresses the host's endpoints have, before anything is asked for: a journal that was lost is
// made again from that, so that they are neither handed out nor given back. What the journal knows stays as it is.
func (d *Driver) Restore(ctx context.Context, held []Held) error {
	var ops []store.Op
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.load(ctx); err != nil {
		return err
	}
	for _, h := range held {
		s := d.stockOf(h.Pool)
		s.mu.Lock()
		if s.ledger.State(h.Addr) != ipalloc.Held {
			a := address{Schema: store.Schema, Pool: h.Pool, Addr: h.Addr, holder: holder{MAC: h.MAC, Static: h.Static}, Since: int64(d.now())}
			s.ledger.Drop(h.Addr)
			s.put(a)
			s.unsure = true // the claim may be missing
			ops = append(ops, a.op())
		}
		s.mu.Unlock()
	}
	if len(ops) > 0 {
		d.log.Info("the journal of addresses did not know all that containers have", "addresses", len(ops))
	}
	return d.note(ctx, ops...)
}

// takeTurn waits until nobody else changes this host's claims of the pool.
func (s *stock) takeTurn(ctx context.Context) error {
	if s.turn.Take(ctx) != nil {
		return s.late(ctx)
	}
	return nil
}

// late says why the turn did not come.
func (s *stock) late(ctx context.Context) error {
	return fmt.Errorf("%w: an earlier change of addresses of %s is still under way: %w", store.ErrUnavailable, s.pool, context.Cause(ctx))
}

func (s *stock) endTurn() { s.turn.Release() }

// see notes a block as it is in the cluster; s.mu is held.
func (s *stock) see(host store.Owner, block netip.Prefix, claims map[netip.Addr]store.Claim) {
	u := ipalloc.Use{Claims: len(claims)}
	for _, c := range claims {
		switch c.Owner {
		case host:
			u.Own++
		case store.NetworkOwner():
			u.Shared++
		}
	}
	s.view.See(block, u)
}

// looksEmpty says that nobody is known to have a claim in a block.
func (s *stock) looksEmpty(block netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view.Empty(block)
}

// free estimates how many addresses nobody has claimed; s.mu is held.
func (s *stock) free() uint64 {
	size, claims := s.ledger.Size(), uint64(s.view.Claims())
	if claims >= size {
		return 0
	}
	return size - claims
}

// want tells how many addresses are to be claimed; s.mu is held.
func (s *stock) want() int {
	if !s.dynamic {
		return 0
	}
	return s.ledger.Want(s.now(), s.waiting, s.free())
}
