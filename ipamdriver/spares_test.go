package ipamdriver_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

func TestSpares(t *testing.T) {
	both(t, map[string]func(*world){
		"away": testAway, "settles": testSettles, "static-spare": testStaticSpare, "broken-ask": testBrokenAsk, "shared-again": testSharedAgain, "fill": testFill, "rest": testRest,
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
	use, err := a.Use(w.ctx, prefix, map[string][]netip.Addr{"b": {addr(other)}})
	w.must(err)
	want := []ipamdriver.Use{
		{Owner: store.HostOwner("a"), HandedOut: 3, Static: 2}, {Owner: store.HostOwner("b"), HandedOut: 1, Spare: 4},
		{Owner: store.NetworkOwner(), HandedOut: 1},
	}
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
	published := map[string][]netip.Addr{"a": have}
	look := func() ipamdriver.Use {
		all, err := b.Use(w.ctx, netip.MustParsePrefix(id), published)
		w.must(err)
		for _, u := range all {
			if u.Owner == store.HostOwner("a") {
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
	published = nil
	if u := look(); u.HandedOut != 0 || u.Static != 0 || u.Resting != 1 {
		w.Errorf("without endpoints a's use is %+v", u)
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
