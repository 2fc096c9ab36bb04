package ipamdriver_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

func TestSpares(t *testing.T) {
	both(t, map[string]func(*world){
		"away": testAway, "settles": testSettles, "static-spare": testStaticSpare, "shared-again": testSharedAgain, "fill": testFill, "rest": testRest,
		"lost-journal": testLostJournal, "shared-spare": testSharedSpare, "dead-host": testDeadHost, "use-is-told": testUseIsTold, "leaves": testLeaves,
	})
}

// spares are a host's settings with what production has, but for a shorter rest.
var spares = ipamdriver.Options{Spares: 32, Rest: time.Hour}

// run lets a host work in the background, alive, until the test ends.
func (h *host) run() *host {
	ctx, cancel := context.WithCancel(h.w.ctx)
	done := make(chan struct{})
	d := h.Driver
	go func() { defer close(done); _ = d.Run(ctx) }()
	h.alive(true)
	h.w.Cleanup(func() { cancel(); <-done })
	return h
}

// alive sets the sign of life that the agent keeps.
func (h *host) alive(is bool) {
	op := store.Op{Kind: store.OpRemove, Key: store.AliveKey(h.cluster.Host())}
	if is {
		op = store.Op{Kind: store.OpPut, Key: op.Key, Value: []byte("1")}
	}
	h.w.must(h.w.kv.Apply(h.w.ctx, op))
}

// again is the agent's start after its death, with these settings.
func (h *host) again(opts ipamdriver.Options) { h.Driver = ipamdriver.New(h.cluster, h.local, opts) }

func (w *world) eventually(limit time.Duration, what string, ok func() bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			w.Fatalf("not within %s: %s", limit, what)
		case <-tick.C:
		}
	}
}

// owned counts a host's claims of a pool.
func (w *world) owned(pool, host string) (n int) {
	w.Helper()
	for _, c := range w.claims(pool) {
		if strings.HasSuffix(c, "="+host) {
			n++
		}
	}
	return n
}

// testAway: without the store addresses go out as long as there are spares, also after a crash, then the error says why.
func testAway(w *world) {
	a := w.host("a", spares)
	id := a.pool("10.1.0.0/24", "")
	first, err := a.container(id, "")
	w.must(err)
	a.shared.set(true, false)
	given := map[string]bool{first: true}
	take := func() error {
		address, err := a.container(id, "")
		if err == nil && given[address] {
			w.Fatalf("%s was given twice", address)
		}
		given[address] = err == nil
		return err
	}
	w.must(take())
	a.again(spares) // the spares are in the journal
	w.must(take())
	w.must(take())
	w.must(take())
	err = take()
	w.wants(err, store.ErrUnavailable, "no spare address of 10.1.0.0/24", "this host")
	_, err = a.container(id, "10.1.0.200")
	w.wants(err, store.ErrUnavailable)
	// What rests is better than nothing.
	w.must(a.release(id, first))
	again, err := a.container(id, "")
	w.must(err)
	if again != first {
		w.Fatalf("%s, want %s", again, first)
	}
	for address, is := range given {
		if is {
			w.must(a.release(id, address))
		}
	}
	w.must(a.releasePool(id))
	a.shared.set(false, false)
	w.must(a.Sync(w.ctx))
	w.clean(a)
}

// testSettles: what is claimed follows what is used.
func testSettles(w *world) {
	opts := spares
	opts.Rest = 50 * time.Millisecond
	a := w.host("a", opts).run()
	id := a.pool("10.1.0.0/20", "")
	var all []string
	for range 100 {
		address, err := a.container(id, "")
		w.must(err)
		all = append(all, address)
	}
	w.eventually(patience, "spares are those of a pool at rest", func() bool {
		n := w.owned(id, "a")
		return n > 100+16 && n <= 132
	})
	for _, address := range all {
		w.must(a.release(id, address))
	}
	w.eventually(patience, "an unused pool has no claims", func() bool { return w.owned(id, "a") == 0 })
	w.must(a.releasePool(id))
	a.alive(false)
	w.clean(a)
}

// testStaticSpare: an address that another host merely keeps can be had by name; one that a container has can't.
func testStaticSpare(w *world) {
	a, b := w.host("a", spares).run(), w.host("b", spares).run()
	id := a.pool("10.1.0.0/24", "")
	b.pool("10.1.0.0/24", "")
	first, err := a.container(id, "")
	w.must(err)
	others := w.claims(id)
	if len(others) != 5 {
		w.Fatalf("claims are %q, want one and four spares", others)
	}
	for _, c := range others {
		address := strings.TrimSuffix(c, "=a")
		_, err := b.container(id, address)
		if address+"/24" == first {
			w.wants(err, store.ErrTaken, "host a")
		} else {
			w.must(err)
			w.must(b.release(id, address))
			_, err = a.container(id, address) // it rests on b
			w.must(err)
		}
	}
	if asks, err := a.cluster.Asks(w.ctx); err != nil || len(asks) > 0 {
		w.Fatalf("asks are left: %v, %v", asks, err)
	}
}

// testSharedSpare: gateways and auxiliary addresses call spares back, too, also this host's own.
func testSharedSpare(w *world) {
	a, b := w.host("a", spares).run(), w.host("b", spares).run()
	id := a.pool("10.1.0.0/24", "")
	b.pool("10.1.0.0/24", "")
	first, err := a.container(id, "")
	w.must(err)
	for i, c := range w.claims(id) {
		address := strings.TrimSuffix(c, "=a")
		ask := []*host{a, b}[i%2]
		if i < 2 {
			_, err = ask.gateway(id, address)
			if i == 1 && err != nil {
				w.wants(err, store.ErrMismatch) // it has one
				continue
			}
		} else {
			_, err = ask.request(id, address)
		}
		if address+"/24" == first {
			w.wants(err, store.ErrTaken, "host a")
		} else {
			w.must(err)
		}
	}
}

// testSharedAgain: a host that was asked for a spare, and claimed it anew before it was claimed for the network, is asked again.
func testSharedAgain(w *world) {
	a, b := w.host("a", spares), w.host("b", spares)
	id := a.pool("10.1.0.0/24", "")
	b.pool(id, "")
	pool, addr := netip.MustParsePrefix(id), netip.MustParseAddr("10.1.0.9")
	w.must(a.cluster.Claim(w.ctx, pool, addr, "a"))
	a.alive(true)
	ctx, cancel := context.WithCancel(w.ctx)
	var wg sync.WaitGroup
	wg.Go(func() { // a's agent, as others see it
		asked := 0
		for index := uint64(0); ; {
			asks, next, err := a.cluster.WatchAsks(ctx, index)
			if ctx.Err() != nil {
				return
			}
			for _, ask := range asks {
				if asked++; err == nil && asked == 2 {
					err = a.cluster.Unclaim(ctx, pool, "a", addr)
				}
				err = errors.Join(err, a.cluster.Answer(ctx, ask))
			}
			if index = next; err != nil {
				w.Error(err)
				return
			}
		}
	})
	defer wg.Wait()
	defer cancel()
	_, err := b.request(id, addr.String())
	w.must(err)
	w.wantClaims(id, addr.String()+"=network")
}

// testFill: eight hosts at once use a pool to its last address, the next request says who has them, and one release is enough for it.
func testFill(w *world) {
	const pool = "10.1.0.0/24"
	var hosts []*host
	for i := range 8 {
		hosts = append(hosts, w.host(fmt.Sprint("host", i), spares).run())
		hosts[i].pool(pool, "")
	}
	_, err := hosts[0].gateway(pool, "")
	w.must(err)
	var mu sync.Mutex
	given := map[string]*host{}
	var wg sync.WaitGroup
	turns := make(chan struct{}, 253)
	for range cap(turns) {
		turns <- struct{}{}
	}
	close(turns)
	for _, h := range hosts {
		for range 4 {
			wg.Go(func() {
				for range turns {
					address, err := h.container(pool, "")
					mu.Lock()
					if err != nil {
						w.Error(err)
					} else if given[address] != nil {
						w.Errorf("%s was given twice", address)
					}
					given[address] = h
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	if len(given) != 253 {
		w.Fatalf("%d addresses went out, want 253", len(given))
	}
	began := time.Now()
	_, err = hosts[7].container(pool, "")
	w.wants(err, ipamdriver.ErrExhausted, pool, "host host0: ", "host host7: ", "network itself", "--subnet")
	w.Logf("refused after %v: %v", time.Since(began).Round(time.Millisecond), err)
	// A busy machine is slower now and then, also than the request waits; what was released is free then still.
	const waits, tries = 2 * time.Second, 3
	free, tried, soon := map[string]bool{}, 0, false
	for address, h := range given {
		if h == hosts[7] {
			continue
		}
		if soon || tried == tries {
			break
		}
		tried++
		w.must(h.release(pool, address))
		free[address] = true
		began = time.Now()
		got, err := hosts[7].container(pool, "")
		took := time.Since(began)
		w.Logf("after another host's release the answer is %s, %v, after %v", got, err, took.Round(time.Millisecond))
		if err != nil {
			w.wants(err, ipamdriver.ErrExhausted)
			continue
		}
		if !free[got] {
			w.Fatalf("got %s, want one of %v", got, free)
		}
		delete(free, got)
		soon = took <= waits
	}
	if !soon {
		w.Errorf("another host's release was of no use within %v, %d times", waits, tried)
	}
}

// testRest: a released address is not used again while there are others, and the longest released is first.
func testRest(w *world) {
	a := w.host("a", ipamdriver.Options{Spares: -1, Rest: time.Hour})
	id := a.pool("10.1.0.0/28", "")
	first, err := a.container(id, "")
	w.must(err)
	second, err := a.container(id, "")
	w.must(err)
	w.must(a.release(id, second))
	w.must(a.release(id, first))
	a.again(ipamdriver.Options{Spares: -1, Rest: time.Hour})
	for range 12 {
		got, err := a.container(id, "")
		w.must(err)
		if got == first || got == second {
			w.Fatalf("%s is used while others are free", got)
		}
	}
	for _, want := range []string{second, first} {
		got, err := a.container(id, "")
		w.must(err)
		if got != want {
			w.Fatalf("got %s, want %s, which was released before", got, want)
		}
	}
	_, err = a.container(id, "")
	w.wants(err, ipamdriver.ErrExhausted)
}

// testLostJournal: what endpoints have is kept, the rest is given back.
func testLostJournal(w *world) {
	a := w.host("a", spares)
	id := a.pool("10.1.0.0/24", "")
	kept, err := a.container(id, "")
	w.must(err)
	static, err := a.container(id, "10.1.0.99")
	w.must(err)
	lost, err := a.container(id, "")
	w.must(err)
	for _, prefix := range []string{store.LocalBlocks, store.LocalAddresses} {
		entries, err := a.local.List(w.ctx, prefix)
		w.must(err)
		for _, e := range entries {
			w.must(a.local.Apply(w.ctx, store.Op{Kind: store.OpRemove, Key: e.Key}))
		}
	}
	a.again(spares)
	addr := func(s string) netip.Addr { return netip.MustParsePrefix(s).Addr() }
	prefix := netip.MustParsePrefix(id)
	w.must(a.Restore(w.ctx, []ipamdriver.Held{
		{Pool: prefix, Addr: addr(kept), MAC: mac}, {Pool: prefix, Addr: addr(static), MAC: mac, Static: true},
	}))
	if pending, err := a.Pending(w.ctx); !pending || err != nil {
		w.Fatalf("pending is %t, %v", pending, err)
	}
	w.must(a.Sync(w.ctx))
	w.wantClaims(id, addr(kept).String()+"=a", "10.1.0.99=a")
	a.again(spares)
	_, err = a.request(id, "10.1.0.99", macOption, "02:00:00:00:00:77")
	w.wants(err, store.ErrTaken, "this host")
	_, err = a.container(id, addr(lost).String())
	w.must(err)
	b := w.host("b", spares)
	b.pool(id, "")
	other, err := b.container(id, "")
	w.must(err)
	_, err = b.gateway(id, "")
	w.must(err)
	use, err := a.Use(w.ctx, prefix, []store.Endpoints{{Host: "b", Endpoints: []store.Endpoint{{Addrs: []netip.Addr{addr(other)}}}}})
	w.must(err)
	want := []ipamdriver.Use{{Host: "a", HandedOut: 3, Static: 2}, {Host: "b", HandedOut: 1, Spare: 4}, {Host: "network", HandedOut: 1}}
	if !slices.Equal(use, want) {
		w.Errorf("use is %+v, want %+v", use, want)
	}
}

// testUseIsTold: what a host does with its addresses is seen from another one.
func testUseIsTold(w *world) {
	a, b := w.host("a", spares), w.host("b", spares)
	id := a.pool("10.1.0.0/24", "")
	b.pool(id, "")
	var have []netip.Addr
	for _, want := range []string{"", "10.1.0.99", "10.1.0.98"} {
		got, err := a.container(id, want)
		w.must(err)
		have = append(have, netip.MustParsePrefix(got).Addr())
	}
	gone, err := a.container(id, "")
	w.must(err)
	w.must(a.release(id, gone))
	a.run()
	endpoints := []store.Endpoints{{Host: "a", Endpoints: []store.Endpoint{{Addrs: have}}}}
	look := func() ipamdriver.Use {
		all, err := b.Use(w.ctx, netip.MustParsePrefix(id), endpoints)
		w.must(err)
		for _, u := range all {
			if u.Host == "a" {
				return u
			}
		}
		return ipamdriver.Use{}
	}
	var seen ipamdriver.Use
	if testenv.Poll(w.ctx, 20*time.Millisecond, func() bool {
		seen = look()
		return seen.HandedOut == 3 && seen.Static == 2 && seen.Resting == 1
	}) != nil {
		w.Fatalf("b sees %+v", seen)
	}
	// What was told may be old: it is never more than there is.
	endpoints = nil
	if u := look(); u.HandedOut != 0 || u.Static != 0 || u.Resting != 1 {
		w.Errorf("without endpoints a's use is %+v", u)
	}
}

// testDeadHost: nobody waits for a host whose agent is dead.
func testDeadHost(w *world) {
	a, b := w.host("a", spares).run(), w.host("b", spares).run()
	id := a.pool("10.1.0.0/24", "")
	_, err := a.container(id, "")
	w.must(err)
	a.alive(false)
	// So long it waits for one that is alive, each time; a busy machine is as slow now and then.
	const waits, tries = 2 * time.Second, 3
	took := time.Duration(0)
	for try := 0; try == 0 || took > waits && try < tries; try++ {
		began := time.Now()
		_, err = b.container(id, strings.TrimSuffix(w.claims(id)[3], "=a"))
		w.wants(err, store.ErrTaken, "host a")
		took = time.Since(began)
	}
	if took > waits {
		w.Errorf("it took %v, %d times", took, tries)
	}
}

// testLeaves: a host that lets go of a pool gives its spares back while others use it.
func testLeaves(w *world) {
	a, b := w.host("a", spares), w.host("b", spares)
	id := a.pool("10.1.0.0/24", "")
	b.pool("10.1.0.0/24", "")
	first, err := a.container(id, "")
	w.must(err)
	other, err := b.container(id, "")
	w.must(err)
	w.must(a.release(id, first))
	w.must(a.releasePool(id))
	if n := w.owned(id, "a"); n > 0 {
		w.Fatalf("%d claims are left of a host that has left", n)
	}
	w.must(b.release(id, other))
	w.must(b.releasePool(id))
	w.clean(a, b)
}
