package ipalloc

import "net/netip"

// Moment is a time in milliseconds since a point that is the same for all moments of a Ledger.
type Moment int64

// State says what a host does with an address that it has claimed.
type State uint8

// The states of a claimed address. None is that of all others.
const (
	None State = iota
	// Held addresses were handed out.
	Held
	// Resting ones were released a moment ago: nobody's stale neighbour entry shall meet a new owner.
	Resting
	// Spare ones can be handed out.
	Spare
)

// Policy are the numbers by which a host keeps spare addresses of a pool.
type Policy struct {
	// Spares is the most that is kept of a large pool at rest.
	Spares int
	// Burst is the most that is kept while addresses go out quickly.
	Burst int
	// Rest is how long a released address is not used again if there are others.
	Rest Moment
}

// Sizes and times of watermarks.
const (
	smallPool    = 256  // pools below have no spares
	spareShare   = 64   // a host's spares at rest are at most this part of the pool,
	burstShare   = 32   // in a burst this,
	freeShare    = 16   // and always at most this part of what nobody has claimed
	burstWithin  = 1000 // ms: who needs more within that time is in a burst
	burstForgets = 5000 // ms after which a burst is over
)

// Ledger is what one host has claimed of a pool: handed out, resting and spare. It decides which address goes out
// next, how many more are wanted, and which are to be given back. It knows no clock: moments are arguments, which must
// not go back. All operations but those that return many addresses take constant time. It is not safe for concurrent use.
type Ledger struct {
	pool   Pool
	size   uint64 // of its range
	policy Policy
	at     map[netip.Addr]*slot
	held   int
	rest   queue // the longest released first
	spares queue // in the order in which they go out

	boost    int    // what the watermarks are multiplied with
	refilled Moment // the last Claimed
	dry      Moment // until then no spares are kept: others need them
}

type slot struct {
	addr         netip.Addr
	since        Moment
	state        State
	before, next *slot // in the queue of its state
}

// NewLedger returns an empty ledger of a pool.
func NewLedger(pool Pool, policy Policy) *Ledger {
	return &Ledger{pool: pool, size: pool.Size(), policy: policy, at: map[netip.Addr]*slot{}, boost: 1}
}

// SetRange changes the part of the pool from which addresses are chosen. Spares outside are given back.
func (l *Ledger) SetRange(p Pool) { l.pool, l.size = p, p.Size() }

// Size is how many addresses the pool's range has.
func (l *Ledger) Size() uint64 { return l.size }

// State tells the state of an address.
func (l *Ledger) State(a netip.Addr) State {
	if s := l.at[a]; s != nil {
		return s.state
	}
	return None
}

// Put sets an address's state, whatever it was before. since matters for Resting.
func (l *Ledger) Put(a netip.Addr, state State, since Moment) {
	l.Drop(a)
	if state != None {
		l.add(a, state, since)
	}
}

// add is Put of an address that is not there.
func (l *Ledger) add(a netip.Addr, state State, since Moment) {
	s := &slot{addr: a, state: state, since: since}
	l.at[a] = s
	switch state {
	case Held:
		l.held++
	case Spare:
		l.spares.insert(s, l.spares.last)
	case Resting:
		// In order: only those that were read from a journal come late.
		before := l.rest.last
		for before != nil && before.since > since {
			before = before.before
		}
		l.rest.insert(s, before)
	}
}

// Drop forgets an address.
func (l *Ledger) Drop(a netip.Addr) {
	s := l.at[a]
	if s == nil {
		return
	}
	switch s.state {
	case Held:
		l.held--
	case Resting:
		l.rest.remove(s)
	case Spare:
		l.spares.remove(s)
	}
	delete(l.at, a)
}

// ripen makes spares of what has rested.
func (l *Ledger) ripen(now Moment) {
	for s := l.rest.first; s != nil && s.since+l.policy.Rest <= now; s = l.rest.first {
		l.rest.remove(s)
		s.state = Spare
		l.spares.insert(s, l.spares.last)
	}
}

// Take hands out the spare that was used longest ago, or never. If there is none and early is set, the
// longest resting address goes out before its time.
func (l *Ledger) Take(now Moment, early bool) (netip.Addr, bool) {
	l.ripen(now)
	for _, from := range []*queue{&l.spares, &l.rest} {
		if from == &l.rest && !early {
			break
		}
		for s := from.first; s != nil; s = s.next {
			if l.pool.Range.Contains(s.addr) && l.pool.Assignable(s.addr) {
				from.remove(s)
				s.state, s.since = Held, now
				l.held++
				return s.addr, true
			}
		}
	}
	return netip.Addr{}, false
}

// Claimed adds addresses that were claimed because of Want.
func (l *Ledger) Claimed(now Moment, addrs ...netip.Addr) {
	if l.refilled != 0 {
		switch since := now - l.refilled; {
		case since < burstWithin:
			l.boost = min(l.boost*4, max(1, l.policy.Burst))
		case since > burstForgets:
			l.boost = 1
		}
	}
	l.refilled = now
	for _, a := range addrs {
		if l.at[a] == nil {
			l.add(a, Spare, now)
		}
	}
}

// Dry notes that the pool has no free addresses: until then none is kept that is not needed.
func (l *Ledger) Dry(until Moment) { l.dry = max(l.dry, until) }

// target is how many spares are to be kept; free is how many addresses nobody has claimed.
func (l *Ledger) target(now Moment, waiting int, free uint64) int {
	size := l.size
	// A pool's network and broadcast address do not make it small.
	if size+2 < smallPool || now < l.dry || l.policy.Spares <= 0 || l.held+l.rest.len+waiting == 0 {
		return 0
	}
	t := min(uint64(l.policy.Spares), size/spareShare+1)
	if l.boost > 1 && now-l.refilled <= burstForgets {
		t = max(t, min(t*uint64(l.boost), uint64(l.policy.Burst), size/burstShare))
	}
	return int(min(t, free/freeShare))
}

// Want tells how many addresses are to be claimed now, so that the waiting requests and the watermark are served;
// 0 while more than half of the spares are there.
func (l *Ledger) Want(now Moment, waiting int, free uint64) int {
	l.ripen(now)
	t, have := l.target(now, waiting, free), l.spares.len
	if have >= waiting && have-waiting > t/2 || waiting == 0 && t == 0 {
		return 0
	}
	if waiting > 0 && have < waiting || have <= t/2 {
		return max(0, t+waiting-have)
	}
	return 0
}

// Surplus tells which addresses are to be given back, at most limit.
func (l *Ledger) Surplus(now Moment, waiting int, free uint64, limit int) []netip.Addr {
	l.ripen(now)
	var out []netip.Addr
	for s := l.spares.first; s != nil && len(out) < limit; s = s.next {
		if a := s.addr; !l.pool.Range.Contains(a) || !l.pool.Assignable(a) {
			out = append(out, a)
		}
	}
	keep := l.target(now, waiting, free) + waiting
	for s, n := l.spares.last, l.spares.len-len(out); s != nil && n > keep && len(out) < limit; s = s.before {
		if a := s.addr; l.pool.Range.Contains(a) && l.pool.Assignable(a) {
			out = append(out, a)
			n--
		}
	}
	return out
}

// Idle are all addresses in one of the states, at most limit: what another host may have.
func (l *Ledger) Idle(state State, limit int) []netip.Addr {
	from := l.spares.first
	if state == Resting {
		from = l.rest.first
	}
	var out []netip.Addr
	for s := from; s != nil && len(out) < limit; s = s.next {
		out = append(out, s.addr)
	}
	return out
}

// All calls each for all addresses, in no particular order.
func (l *Ledger) All(each func(netip.Addr, State)) {
	for a, s := range l.at {
		each(a, s.state)
	}
}

// Counts tells how many addresses are in each state.
func (l *Ledger) Counts(now Moment) (held, resting, spare int) {
	l.ripen(now)
	return l.held, l.rest.len, l.spares.len
}
