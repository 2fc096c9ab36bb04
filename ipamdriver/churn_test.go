package ipamdriver_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

// testChurn: requests, releases and Syncs of a nearly full pool at once never lose or share an address.
func testChurn(w *world) {
	var mu sync.Mutex
	inUse := map[string]string{}
	var wg sync.WaitGroup
	var hosts []*host
	for i := range 2 {
		h := w.host(fmt.Sprint("host", i), ipamdriver.Options{})
		hosts = append(hosts, h)
		id := h.pool("10.1.0.0/28", "")
		done := make(chan struct{})
		var workers sync.WaitGroup
		for worker := range 4 {
			workers.Go(func() {
				for range 12 {
					static := ""
					if worker == 0 {
						static = "10.1.0.2" // what dynamic requests of this host like, too
					}
					address, err := h.request(id, static, macOption, fmt.Sprintf("02:00:00:00:%02x:%02x", i, worker))
					if err != nil {
						continue // taken: checked by the end state
					}
					me := fmt.Sprintf("%d/%d", i, worker)
					mu.Lock()
					if other := inUse[address]; other != "" {
						w.Errorf("%s is in use by %s and %s", address, other, me)
					}
					inUse[address] = me
					mu.Unlock()
					runtime.Gosched()
					mu.Lock()
					delete(inUse, address)
					mu.Unlock()
					if err := h.release(id, address); err != nil {
						w.Error(err)
					}
				}
			})
		}
		wg.Go(func() { workers.Wait(); close(done) })
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if err := h.Sync(w.ctx); err != nil {
						w.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	w.wantClaims("10.1.0.0/28")
	for _, h := range hosts {
		w.must(h.releasePool("10.1.0.0/28"))
	}
	w.clean(hosts...)
}

// slowOnce holds the answer to its next write back.
type slowOnce struct {
	store.KV
	once         sync.Once
	held, resume chan struct{}
}

func (s *slowOnce) Apply(ctx context.Context, ops ...store.Op) error {
	err := s.KV.Apply(ctx, ops...)
	s.once.Do(func() {
		close(s.held)
		<-s.resume
	})
	return err
}

// testReleaseMeetsRequest: an address that is asked for while its release is under way stays with who asked.
func testReleaseMeetsRequest(w *world) {
	a := w.host("a", ipamdriver.Options{})
	id := a.pool("10.1.0.0/24", "")
	for _, wish := range []string{"10.1.0.7", ""} {
		first, err := a.container(id, wish)
		w.must(err)
		slow := &slowOnce{KV: w.kv, held: make(chan struct{}), resume: make(chan struct{})}
		a.shared.KV = slow
		released, got := make(chan error, 1), make(chan string, 1)
		go func() { released <- a.release(id, first) }()
		<-slow.held // the cluster has it back, the journal does not know
		go func() {
			second, err := a.request(id, wish, macOption, "02:00:00:00:00:77")
			if err != nil {
				w.Error(err)
			}
			got <- second
		}()
		second := ""
		select { // without the lock the request would be answered now
		case second = <-got:
		case <-time.After(100 * time.Millisecond):
		}
		close(slow.resume)
		w.must(<-released)
		if second == "" {
			second = <-got
		}
		a.restart()
		w.must(a.Sync(w.ctx))
		address := strings.TrimSuffix(second, "/24")
		w.wantClaims(id, address+"=a")
		w.must(a.release(id, address))
	}
}

// testModel: random operations of four hosts, compared with a plain model of who has what.
func testModel(w *world) {
	const pool = "10.1.0.0/27"
	rng := rand.New(rand.NewPCG(1, 2))
	var hosts []*host
	for i := range 4 {
		hosts = append(hosts, w.host(fmt.Sprint("host", i), ipamdriver.Options{}))
		hosts[i].pool(pool, "")
	}
	model := map[string]string{} // address to host
	for step := range 250 {
		i := rng.IntN(4)
		h, id := hosts[i], fmt.Sprint("host", i)
		addr := fmt.Sprintf("10.1.0.%d", 1+rng.IntN(30))
		switch op := rng.IntN(10); {
		case op < 4:
			got, err := h.container(pool, "")
			got = strings.TrimSuffix(got, "/27")
			if len(model) == 30 {
				w.wants(err, ipamdriver.ErrExhausted)
			} else if w.must(err); model[got] != "" {
				w.Fatalf("step %d: %s was given to %s, %s has it", step, got, id, model[got])
			} else {
				model[got] = id
			}
		case op < 6:
			_, err := h.container(pool, addr)
			if owner := model[addr]; owner != "" && owner != id {
				w.wants(err, store.ErrTaken)
			} else {
				w.must(err)
				model[addr] = id
			}
		case op < 9:
			w.must(h.release(pool, addr))
			if model[addr] == id {
				delete(model, addr)
			}
		default:
			h.restart()
			w.must(h.Sync(w.ctx))
		}
	}
	var want []string
	for a, o := range model {
		want = append(want, a+"="+o)
	}
	slices.Sort(want)
	w.wantClaims(pool, want...)
}
