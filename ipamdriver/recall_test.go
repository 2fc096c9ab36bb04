package ipamdriver_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
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
