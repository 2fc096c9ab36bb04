package ipamdriver_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

func testExhausted(w *world) {
	a, b := w.host("a", ipamdriver.Options{}), w.host("b", ipamdriver.Options{})
	w.must(a.cluster.PutHost(w.ctx, store.Host{Name: "alpha"}))
	id := a.pool("10.1.0.0/28", "")
	b.pool("10.1.0.0/28", "")
	_, err := a.gateway(id, "")
	w.must(err)
	for n := range 13 {
		_, err := []*host{a, b}[n%2].container(id, "")
		w.must(err)
	}
	_, err = a.container(id, "")
	w.wants(err, ipamdriver.ErrExhausted, "10.1.0.0/28", "all 14", "host alpha: 7", "host b: 6", "network itself", ": 1", "--subnet")
	w.must(b.release(id, strings.Split(w.claims("10.1.0.0/28")[0], "=")[0])) // a's: unknown to b
	_, err = b.container(id, "")
	w.wants(err, ipamdriver.ErrExhausted)
}

// testTwoHosts: hosts that ask at once share the whole pool, and no address is given twice.
func testTwoHosts(w *world) {
	hosts := []*host{w.host("a", ipamdriver.Options{}), w.host("b", ipamdriver.Options{}), w.host("c", ipamdriver.Options{})}
	var mu sync.Mutex
	given := map[string]int{}
	var wg sync.WaitGroup
	for _, h := range hosts {
		id := h.pool("10.1.0.0/26", "")
		for range 7 {
			wg.Go(func() {
				for range 2 {
					address, err := h.container(id, "")
					mu.Lock()
					if err != nil {
						w.Error(err)
					}
					given[address]++
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	for address, n := range given {
		if n != 1 {
			w.Errorf("%s was given %d times", address, n)
		}
	}
	if len(given) != 42 {
		w.Errorf("%d addresses, want 42", len(given))
	}
	// Callers that wait together are claimed for together; Run gives back what is left over.
	ctx, stop := context.WithCancel(w.ctx)
	for _, h := range hosts {
		wg.Go(func() { w.must(h.Run(ctx)) })
	}
	defer wg.Wait()
	defer stop()
	w.eventually(patience, "just what was given is claimed", func() bool { return len(w.claims("10.1.0.0/26")) == 42 })
}

func testRelease(w *world) {
	a := w.host("a", ipamdriver.Options{})
	id := a.pool("10.1.0.0/24", "")
	address, err := a.container(id, "10.1.0.7")
	w.must(err)
	w.must(a.Release(w.ctx, netip.MustParsePrefix(id), netip.MustParseAddr("10.1.0.7"), "02:00:00:00:00:99")) // another container's
	w.wantClaims(id, "10.1.0.7=a")
	for range 2 {
		w.must(a.release(id, address))
	}
	w.wantClaims(id)
	for range 2 {
		w.must(a.releasePool(id))
	}
	w.clean(a)
}

// testChoose: a chosen pool avoids the cluster's pools and the routes of all hosts.
func testChoose(w *world) {
	subnets := func(context.Context) ([]netip.Prefix, error) {
		return []netip.Prefix{netip.MustParsePrefix("10.8.3.0/24")}, nil
	}
	a := w.host("a", ipamdriver.Options{
		Pools: []ipamdriver.PoolRange{{Prefix: netip.MustParsePrefix("10.8.0.0/21"), Bits: 24}}, Subnets: subnets})
	w.must(w.host("b", ipamdriver.Options{}).cluster.PutHost(w.ctx, store.Host{Name: "b", Subnets: []netip.Prefix{netip.MustParsePrefix("10.8.0.0/23")}}))
	_, err := a.requestPool("10.8.4.64/26", "")
	w.must(err)
	var got []string
	for range 4 {
		got = append(got, a.pool("", "")) // Docker asks again while it dislikes the answer
	}
	if want := []string{"10.8.2.0/24", "10.8.5.0/24", "10.8.6.0/24", "10.8.7.0/24"}; !slices.Equal(got, want) {
		w.Fatalf("chose %q, want %q", got, want)
	}
	_, err = a.requestPool("", "")
	w.wants(err, ipamdriver.ErrExhausted, "--subnet")
	r, err := a.RequestPool(w.ctx, &ipam.RequestPoolRequest{V6: true})
	w.must(err)
	if p := netip.MustParsePrefix(r.Pool); p.Bits() != 64 || p.Addr().As16()[0] != 0xfd || p != p.Masked() {
		w.Errorf("chose %s", p)
	}
}

// testChooseRace: requests that choose at once, on one host and on several, get different pools.
func testChooseRace(w *world) {
	var mu sync.Mutex
	got := map[string]int{}
	var wg sync.WaitGroup
	for i := range 4 {
		h := w.host(fmt.Sprint("host", i), ipamdriver.Options{})
		for range 3 {
			wg.Go(func() {
				id, err := h.requestPool("", "")
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					w.Error(err)
				}
				got[id]++
			})
		}
	}
	wg.Wait()
	if len(got) != 12 {
		w.Fatalf("12 requests chose %v", got)
	}
}

func testSecondNetwork(w *world) {
	a, b := w.host("a", ipamdriver.Options{}), w.host("b", ipamdriver.Options{})
	id := a.pool("10.1.0.0/24", "")
	n, err := a.cluster.Bind(w.ctx, store.Binding{DockerID: "docker-a", Pools: []netip.Prefix{netip.MustParsePrefix(id)}})
	w.must(err)
	_, err = a.requestPool("10.1.0.0/24", "")
	w.wants(err, store.ErrInUse, "docker-a", "10.1.0.0/24")
	b.pool("10.1.0.0/24", "") // another host joins
	w.must(b.releasePool(id))
	w.must(a.releasePool(id)) // Docker releases the pool first
	w.must(a.cluster.Unbind(w.ctx, n.ID, "docker-a"))
	w.clean(a, b)
}
