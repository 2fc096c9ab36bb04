package ipamdriver_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

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

// testBrokenAsk: a request that can't be read, or answered, keeps nobody from answering the others.
func testBrokenAsk(w *world) {
	a, b := w.host("a", spares).run(), w.host("b", spares).run()
	id := a.pool("10.1.0.0/24", "")
	b.pool("10.1.0.0/24", "")
	first, err := a.container(id, "")
	w.must(err)
	w.must(w.kv.Apply(w.ctx,
		store.Op{Kind: store.OpPut, Key: store.AsksPrefix + "10.1.0.0_24/0", Value: []byte(`{"schema":99}`)},
		store.Op{Kind: store.OpPut, Key: store.AsksPrefix + "10.1.0.0_24/1", Value: []byte(`{"schema":1,"id":"other","pool":"10.1.0.0/24","from":"b","hosts":["a"],"addr":"fd00::1"}`)}))
	for _, c := range w.claims(id) {
		if address := strings.TrimSuffix(c, "=a"); address+"/24" != first {
			_, err := b.container(id, address)
			w.must(err)
		}
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
	w.must(a.cluster.Claim(w.ctx, pool, addr, store.HostOwner("a")))
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
					err = a.cluster.Unclaim(ctx, pool, store.HostOwner("a"), addr)
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
		hosts = append(hosts, w.host(fmt.Sprint("host", i), spares))
	}
	asks := asksOf(hosts[7])
	for i := range 8 {
		hosts[i].run().pool(pool, "")
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
	// From now on only the test's own patience ends a request: what is of no use fails however fast the machine is.
	hosts[7].WaitForOthers(forever)
	for address, h := range given {
		if h == hosts[7] {
			continue
		}
		before := asks.Load()
		w.must(h.release(pool, address))
		got, err := hosts[7].container(pool, "")
		w.must(err)
		if got != address {
			w.Fatalf("got %s, want %s, which another host has released", got, address)
		}
		if n := asks.Load() - before; n > 1 {
			w.Errorf("the others were asked %d times for what one of them had released before, want once", n)
		}
		break
	}
}

// forever is longer than any test has.
const forever = time.Hour

// asksOf counts the requests for addresses that a host, which does not run yet, makes of other hosts.
func asksOf(h *host) *atomic.Int64 {
	c := &askCounter{KV: h.shared.KV}
	h.shared.KV = c
	return &c.asks
}

// askCounter is a store that counts the requests for addresses that were written to it.
type askCounter struct {
	store.KV
	asks atomic.Int64
}

// Apply implements store.KV.
func (c *askCounter) Apply(ctx context.Context, ops ...store.Op) error {
	err := c.KV.Apply(ctx, ops...)
	for _, op := range ops {
		if err == nil && op.Kind == store.OpPut && strings.HasPrefix(op.Key, store.AsksPrefix) {
			c.asks.Add(1)
		}
	}
	return err
}

// testDeadHost: a host whose agent is dead is not asked, and so not waited for; one that is alive is.
func testDeadHost(w *world) {
	a, b := w.host("a", spares).run(), w.host("b", spares)
	asks := asksOf(b)
	b.run()
	id := a.pool("10.1.0.0/24", "")
	_, err := a.container(id, "")
	w.must(err)
	spare := strings.TrimSuffix(w.claims(id)[3], "=a")
	a.alive(false)
	b.WaitForOthers(forever)
	_, err = b.container(id, spare)
	w.wants(err, store.ErrTaken, "host a")
	w.must(w.ctx.Err()) // it did not wait
	if n := asks.Load(); n != 0 {
		w.Errorf("a dead host was asked %d times", n)
	}
	a.alive(true)
	_, err = b.container(id, spare)
	w.must(err)
	if n := asks.Load(); n != 1 {
		w.Errorf("a host that is alive was asked %d times, want once", n)
	}
}
