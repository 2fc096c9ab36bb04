package ipalloc_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/socketplane/socketplane/internal/ipalloc"
)

// naive is a ledger that anybody understands: a list that is searched.
type naive struct {
	pool  ipalloc.Pool
	rest  ipalloc.Moment
	list  []naiveAddr
	order int
}

type naiveAddr struct {
	addr         netip.Addr
	state        ipalloc.State
	since        ipalloc.Moment
	ripe, queued int // the order in which resting ones were released, and in which spares came
}

func (n *naive) find(a netip.Addr) int {
	return slices.IndexFunc(n.list, func(x naiveAddr) bool { return x.addr == a })
}

func (n *naive) put(a netip.Addr, st ipalloc.State, since ipalloc.Moment) {
	n.drop(a)
	n.order++
	if st != ipalloc.None {
		n.list = append(n.list, naiveAddr{a, st, since, n.order, n.order})
	}
}

func (n *naive) drop(a netip.Addr) {
	if i := n.find(a); i >= 0 {
		n.list = slices.Delete(n.list, i, i+1)
	}
}

// ripen makes spares of what has rested, the longest released first.
func (n *naive) ripen(now ipalloc.Moment) {
	for {
		best := -1
		for i, x := range n.list {
			if x.state == ipalloc.Resting && x.since+n.rest <= now &&
				(best < 0 || x.since < n.list[best].since || x.since == n.list[best].since && x.ripe < n.list[best].ripe) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		n.order++
		n.list[best].state, n.list[best].queued = ipalloc.Spare, n.order
	}
}

func (n *naive) take(now ipalloc.Moment, early bool) (netip.Addr, bool) {
	n.ripen(now)
	best := -1
	better := func(i, j int) bool {
		a, b := n.list[i], n.list[j]
		if a.state != b.state {
			return a.state == ipalloc.Spare
		}
		if a.state == ipalloc.Spare {
			return a.queued < b.queued
		}
		return a.since < b.since || a.since == b.since && a.ripe < b.ripe
	}
	for i, x := range n.list {
		usable := x.state == ipalloc.Spare || early && x.state == ipalloc.Resting
		if usable && n.pool.Range.Contains(x.addr) && n.pool.Assignable(x.addr) && (best < 0 || better(i, best)) {
			best = i
		}
	}
	if best < 0 {
		return netip.Addr{}, false
	}
	a := n.list[best].addr
	n.put(a, ipalloc.Held, now)
	return a, true
}

func (n *naive) counts() (c [4]int) {
	for _, x := range n.list {
		c[x.state]++
	}
	return c
}

// TestLedgerModel compares the ledger with a naive one over a million random steps for each kind of pool.
func TestLedgerModel(t *testing.T) {
	steps := 1_000_000
	if testing.Short() {
		steps = 50_000
	}
	for i, c := range []struct{ cidr, within string }{
		{"10.1.0.0/24", ""}, {"10.1.0.0/24", "10.1.0.64/26"}, {"10.1.0.0/28", ""}, {"10.1.0.0/30", ""}, {"10.1.0.0/31", ""},
		{"10.1.0.0/32", ""}, {"fd00::/64", ""}, {"fd00::/127", ""}, {"10.0.0.0/16", ""},
	} {
		t.Run(c.cidr, func(t *testing.T) {
			testLedger(t, pool(t, c.cidr, c.within), rand.New(rand.NewPCG(uint64(i), 7)), steps)
		})
	}
}

func testLedger(t *testing.T, p ipalloc.Pool, rng *rand.Rand, steps int) {
	policy := ipalloc.Policy{Spares: 1 + rng.IntN(32), Burst: 256, Rest: 1000}
	l, n := ipalloc.NewLedger(p, policy), &naive{pool: p, rest: policy.Rest}
	now := ipalloc.Moment(1)
	draw := func() netip.Addr {
		a := p.CIDR.Addr()
		for range rng.IntN(24) {
			if next := a.Next(); p.CIDR.Contains(next) {
				a = next
			}
		}
		return a
	}
	for step := range steps {
		now += ipalloc.Moment(rng.IntN(40))
		free := rng.Uint64N(1 + min(p.Size(), 1<<20))
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("step %d at %d: %s", step, now, fmt.Sprintf(format, args...))
		}
		switch rng.IntN(8) {
		case 0, 1:
			early := rng.IntN(4) == 0
			got, ok := l.Take(now, early)
			want, wantOK := n.take(now, early)
			if got != want || ok != wantOK {
				fail("Take(%t) = %s, %t, want %s, %t", early, got, ok, want, wantOK)
			}
			if ok && (!p.Assignable(got) || !p.Range.Contains(got)) {
				fail("%s was handed out", got)
			}
		case 2:
			a := draw()
			if l.State(a) == ipalloc.None {
				l.Claimed(now, a)
				n.put(a, ipalloc.Spare, now)
			}
		case 3, 4:
			if a := draw(); l.State(a) == ipalloc.Held {
				l.Put(a, ipalloc.Resting, now)
				n.put(a, ipalloc.Resting, now)
			}
		case 5:
			a := draw()
			l.Put(a, ipalloc.Held, now)
			n.put(a, ipalloc.Held, now)
		case 6:
			if a := draw(); rng.IntN(3) == 0 {
				l.Drop(a)
				n.drop(a)
			}
		case 7:
			checkMarks(fail, l, n, now, rng.IntN(4), free)
		}
		n.ripen(now)
		held, resting, spare := l.Counts(now)
		if c := n.counts(); held != c[ipalloc.Held] || resting != c[ipalloc.Resting] || spare != c[ipalloc.Spare] {
			fail("counts are %d %d %d, want %v", held, resting, spare, c)
		}
	}
}

// checkMarks: what is wanted and what is too much agree with each other and with the state.
func checkMarks(fail func(string, ...any), l *ipalloc.Ledger, n *naive, now ipalloc.Moment, waiting int, free uint64) {
	n.ripen(now)
	c := n.counts()
	want, surplus := l.Want(now, waiting, free), l.Surplus(now, waiting, free, 1<<20)
	if want > 0 && len(surplus) > 0 && n.pool.Range == n.pool.CIDR {
		for _, a := range surplus {
			if n.pool.Assignable(a) {
				fail("%d are wanted, and %v are too many", want, surplus)
			}
		}
	}
	if c[ipalloc.Spare] < waiting && want < waiting-c[ipalloc.Spare] {
		fail("%d wait, %d are spare, %d are wanted", waiting, c[ipalloc.Spare], want)
	}
	for i, a := range surplus {
		j := n.find(a)
		if j < 0 || n.list[j].state != ipalloc.Spare || slices.Contains(surplus[:i], a) {
			fail("%s is no spare, or twice too many", a)
		}
	}
	if n.pool.Size()+2 < 256 && want > max(0, waiting-c[ipalloc.Spare]) {
		fail("%d are wanted of a small pool for %d who wait", want, waiting)
	}
	if uint64(want) > free/16+uint64(waiting) {
		fail("%d are wanted of %d free ones", want, free)
	}
}

func TestWatermarks(t *testing.T) {
	policy := ipalloc.Policy{Spares: 32, Burst: 2048, Rest: 60_000}
	for _, c := range []struct {
		cidr                           string
		atRest, afterBurst, nearlyFull int
	}{
		{"10.1.0.0/16", 32, 2047, 1}, {"10.1.0.0/20", 32, 127, 1}, {"10.1.0.0/22", 16, 31, 1}, {"10.1.0.0/24", 4, 7, 1},
		{"10.1.0.0/25", 0, 0, 0}, {"10.1.0.0/30", 0, 0, 0}, {"fd00::/64", 32, 2048, 1}, {"fd00::/127", 0, 0, 0},
	} {
		t.Run(c.cidr, func(t *testing.T) {
			p := pool(t, c.cidr, "")
			l := ipalloc.NewLedger(p, policy)
			if got := l.Want(1, 0, p.Size()); got != 0 {
				t.Errorf("%d are wanted of a pool that is not in use", got)
			}
			if got := l.Want(1, 3, p.Size()); got != c.atRest+3 {
				t.Errorf("%d are wanted for the first three, want %d", got, c.atRest+3)
			}
			l.Put(p.CIDR.Addr().Next(), ipalloc.Held, 1)
			if got := l.Want(1, 0, p.Size()); got != c.atRest {
				t.Errorf("%d are wanted at rest, want %d", got, c.atRest)
			}
			if got := l.Want(1, 0, 31); got != c.nearlyFull {
				t.Errorf("%d are wanted of a nearly full pool, want %d", got, c.nearlyFull)
			}
			for i := range 12 {
				l.Claimed(ipalloc.Moment(i + 1))
			}
			if got := l.Want(20, 0, p.Size()); got != c.afterBurst {
				t.Errorf("%d are wanted in a burst, want %d", got, c.afterBurst)
			}
			if got := l.Want(9_000, 0, p.Size()); got != c.atRest {
				t.Errorf("%d are wanted after a burst, want %d", got, c.atRest)
			}
			l.Dry(20_000)
			if got := l.Want(10_000, 2, p.Size()); got != 2 {
				t.Errorf("%d are wanted while others need them, want 2", got)
			}
		})
	}
}

func TestRest(t *testing.T) {
	l := ipalloc.NewLedger(pool(t, "10.1.0.0/24", ""), ipalloc.Policy{Spares: 8, Rest: 60_000})
	addr := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, 0, n}) }
	for i := range byte(3) {
		l.Put(addr(i+1), ipalloc.Resting, ipalloc.Moment(i)*10_000)
	}
	if a, ok := l.Take(59_999, false); ok {
		t.Fatalf("%s goes out before it has rested", a)
	}
	if a, _ := l.Take(59_999, true); a != addr(1) {
		t.Fatalf("%s goes out first, when there are no others", a)
	}
	l.Put(addr(1), ipalloc.Resting, 60_000)
	for _, want := range []byte{2, 3, 1} {
		if a, _ := l.Take(130_000, false); a != addr(want) {
			t.Fatalf("%s goes out, want %s: the one used longest ago", a, addr(want))
		}
	}
}

// TestView: blocks are chosen so that hosts do not meet, and every address of a pool is found in the end.
func TestView(t *testing.T) {
	for _, c := range []struct {
		cidr, within string
		want         int
	}{
		{"10.1.0.0/24", "", 254}, {"10.1.0.0/22", "10.1.1.0/24", 256}, {"10.1.0.0/28", "", 14}, {"10.1.0.0/31", "", 2}, {"10.1.0.0/32", "", 1},
		{"fd00::/120", "", 255}, {"fd00::/127", "", 2}, {"10.1.0.0/24", "10.1.0.32/30", 4},
	} {
		t.Run(c.cidr+c.within, func(t *testing.T) {
			p := pool(t, c.cidr, c.within)
			taken := map[netip.Addr]string{}
			for turn, dry := 0, 0; dry < 3; turn++ {
				host := fmt.Sprint("host", turn%3)
				if fill(p, host, taken) {
					dry = 0
				} else {
					dry++
				}
			}
			if len(taken) != c.want {
				t.Errorf("%d addresses were found, want %d", len(taken), c.want)
			}
		})
	}
}

// fill takes up to 5 addresses for the host, as whoever has seen everything.
func fill(p ipalloc.Pool, host string, taken map[netip.Addr]string) bool {
	v := ipalloc.NewView()
	use := map[netip.Prefix]ipalloc.Use{}
	for a, owner := range taken {
		u := use[p.BlockOf(a)]
		u.Claims++
		if owner == host {
			u.Own++
		}
		use[p.BlockOf(a)] = u
	}
	for b, u := range use {
		v.See(b, u)
	}
	tried := map[netip.Prefix]bool{}
	for {
		blocks := v.Choose(p, host, 5, 1, tried)
		if len(blocks) == 0 {
			return false
		}
		block, got := blocks[0], 0
		tried[block] = true
		for a := block.Addr(); a.IsValid() && block.Contains(a) && got < 5; a = a.Next() {
			if _, is := taken[a]; !is && p.Range.Contains(a) && p.Assignable(a) {
				taken[a] = host
				got++
			}
		}
		if got > 0 {
			return true
		}
	}
}

func TestViewRanks(t *testing.T) {
	p := pool(t, "10.1.0.0/24", "")
	block := func(n byte) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, n * 64}), 26) }
	v := ipalloc.NewView()
	v.See(block(0), ipalloc.Use{Claims: 3, Own: 1})             // shared with others
	v.See(block(1), ipalloc.Use{Claims: 64, Own: 64})           // full
	v.See(block(2), ipalloc.Use{Claims: 10, Own: 9, Shared: 1}) // own, with the gateway
	for n, want := range map[int][]netip.Prefix{1: {block(2)}, 54: {block(2)}, 55: {block(2), block(3)}, 119: {block(2), block(3), block(0)}, 0: nil} {
		if got := v.Choose(p, "me", n, 8, nil); !slices.Equal(got, want) {
			t.Errorf("for %d: %v, want %v", n, got, want)
		}
	}
	if got := v.Choose(p, "me", 1, 8, map[netip.Prefix]bool{block(2): true, block(3): true}); !slices.Equal(got, []netip.Prefix{block(0)}) {
		t.Errorf("but for those that were tried: %v", got)
	}
	if v.Claims() != 77 {
		t.Errorf("%d claims", v.Claims())
	}
	v.See(block(2), ipalloc.Use{})
	if v.Claims() != 67 {
		t.Errorf("%d claims after a block was emptied", v.Claims())
	}
}

func FuzzLedger(f *testing.F) {
	f.Add(uint64(1), uint8(8))
	f.Add(uint64(2), uint8(0))
	f.Fuzz(func(t *testing.T, seed uint64, bits uint8) {
		p := pool(t, netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 16+int(bits%17)).String(), "")
		testLedger(t, p, rand.New(rand.NewPCG(seed, 1)), 300)
	})
}
