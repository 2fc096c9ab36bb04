package ipamdriver_test

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

// testStoreDown: releases wait in the journal, and Sync finishes them.
func testStoreDown(w *world) {
	a := w.host("a", ipamdriver.Options{})
	id := a.pool("10.1.0.0/24", "")
	address, err := a.container(id, "")
	w.must(err)
	a.shared.set(true, false)
	w.must(a.release(id, address))
	w.must(a.releasePool(id))
	for _, err := range []error{second(a.container(id, "")), second(a.container(id, "10.1.0.9")), second(a.requestPool("10.2.0.0/24", "")), a.Sync(w.ctx)} {
		w.wants(err, store.ErrUnavailable)
	}
	a.restart()
	if pending, err := a.Pending(w.ctx); !pending || err != nil {
		w.Fatalf("pending is %t, %v", pending, err)
	}
	a.shared.set(false, false)
	w.must(a.Sync(w.ctx))
	if pending, err := a.Pending(w.ctx); pending || err != nil {
		w.Fatalf("pending is %t, %v", pending, err)
	}
	w.clean(a)
}

// testAnswerLost: what took effect without an answer is given back, and can be asked for again.
func testAnswerLost(w *world) {
	a := w.host("a", ipamdriver.Options{})
	a.shared.set(false, true)
	_, err := a.requestPool("10.1.0.0/24", "")
	w.wants(err, store.ErrUnavailable)
	_, err = a.requestPool("", "")
	w.wants(err, store.ErrUnavailable)
	a.shared.set(false, false)
	w.must(a.Sync(w.ctx))
	w.clean(a)
	id := a.pool("10.1.0.0/24", "")
	a.shared.set(false, true)
	_, err = a.container(id, "10.1.0.9")
	w.wants(err, store.ErrUnavailable)
	_, err = a.container(id, "")
	w.wants(err, store.ErrUnavailable)
	_, err = a.requestPool("10.1.0.0/24", "") // repeated: the hold stays
	w.must(err)
	a.shared.set(false, false)
	_, err = a.request(id, "10.1.0.9", macOption, "02:00:00:00:00:77")
	w.must(err)
	w.must(a.Sync(w.ctx))
	w.wantClaims(id, "10.1.0.9=a")
	w.must(a.release(id, "10.1.0.9"))
	w.must(a.releasePool(id))
	w.clean(a)
}

// testCrash: claims and holds that no journal knows are given back; the journal can't be written.
func testCrash(w *world) {
	a, b := w.host("a", ipamdriver.Options{}), w.host("b", ipamdriver.Options{})
	id := a.pool("10.1.0.0/24", "")
	keep, err := a.container(id, "")
	w.must(err)
	_, err = a.gateway(id, "")
	w.must(err)
	b.pool("10.1.0.0/24", "")
	_, err = b.container(id, "10.1.0.100")
	w.must(err)
	before := w.claims("10.1.0.0/24")
	w.must(a.cluster.Claim(w.ctx, netip.MustParsePrefix(id), netip.MustParseAddr("10.1.0.200"), store.HostOwner("a")))
	_, err = a.cluster.AcquirePool(w.ctx, netip.MustParsePrefix("10.2.0.0/24"))
	w.must(err)
	a.local.set(true, false)
	for _, err := range []error{second(a.container(id, "")), second(a.container(id, "10.1.0.201")), second(a.requestPool("10.3.0.0/24", ""))} {
		w.wants(err, store.ErrUnavailable)
	}
	a.local.set(false, true) // written, but the answer is lost
	for _, err := range []error{second(a.container(id, "")), second(a.container(id, "10.1.0.202")), second(a.requestPool("10.3.0.0/24", ""))} {
		w.wants(err, store.ErrUnavailable)
	}
	a.local.set(false, false)
	a.restart()
	for range 2 {
		w.must(a.Sync(w.ctx))
		w.must(b.Sync(w.ctx))
	}
	w.wantClaims("10.1.0.0/24", before...)
	w.must(a.release(id, keep))
	w.must(b.release(id, "10.1.0.100"))
	w.must(a.releasePool(id))
	w.must(b.releasePool(id))
	w.clean(a, b)
}

// testClusterLost: what the cluster has lost is claimed again by those who have it.
func testClusterLost(w *world) {
	a, b := w.host("a", ipamdriver.Options{}), w.host("b", ipamdriver.Options{})
	id := a.pool("10.1.0.0/24", "")
	_, err := a.container(id, "10.1.0.7")
	w.must(err)
	entries, err := w.kv.List(w.ctx, "socketplane/")
	w.must(err)
	for _, e := range entries {
		w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpRemove, Key: e.Key}))
	}
	// Before Sync, the address is not handed out twice on this host.
	_, err = a.cluster.AcquirePool(w.ctx, netip.MustParsePrefix(id))
	w.must(err)
	_, err = a.request(id, "10.1.0.7", macOption, "02:00:00:00:00:77")
	w.wants(err, store.ErrTaken, "this host")
	for range 10 {
		other, err := a.container(id, "")
		w.must(err)
		if other == "10.1.0.7/24" {
			w.Fatal("an address was handed out twice")
		}
		w.must(a.release(id, other))
	}
	w.must(a.cluster.ReleasePool(w.ctx, netip.MustParsePrefix(id)))
	w.clean()
	w.must(a.Sync(w.ctx))
	w.wantClaims(id, "10.1.0.7=a")
	b.pool("10.1.0.0/24", "")
	_, err = b.container(id, "10.1.0.7")
	w.wants(err, store.ErrTaken)
	// Somebody else has it by now: said, but left.
	w.must(a.cluster.Unclaim(w.ctx, netip.MustParsePrefix(id), store.HostOwner("a"), netip.MustParseAddr("10.1.0.7")))
	_, err = b.container(id, "10.1.0.7")
	w.must(err)
	w.must(a.Sync(w.ctx))
	w.wantClaims(id, "10.1.0.7=b")
}

// testToldOnce: what Sync can't mend is logged when it is found, and when it is other addresses; not at each Sync.
func testToldOnce(w *world) {
	var log bytes.Buffer
	a, b := w.host("a", ipamdriver.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}), w.host("b", ipamdriver.Options{})
	cidr := netip.MustParsePrefix("10.1.0.0/24")
	lines := func(want int, level string, texts ...string) {
		w.Helper()
		for range 3 {
			w.must(a.Sync(w.ctx))
		}
		said := log.String()
		log.Reset()
		got := strings.Count(said, "level="+level)
		for _, text := range texts {
			if !strings.Contains(said, text) {
				got = -1
			}
		}
		if got != want {
			w.Fatalf("not %d lines of %s with %q: %s", want, level, texts, said)
		}
	}
	id := a.pool(cidr.String(), "")
	b.pool(cidr.String(), "")
	address, err := a.container(id, "10.1.0.7")
	w.must(err)
	w.must(a.cluster.Unclaim(w.ctx, cidr, store.HostOwner("a"), netip.MustParseAddr("10.1.0.7")))
	_, err = b.container(id, "10.1.0.7")
	w.must(err)
	lines(1, "ERROR", "10.1.0.7", "restart")
	lines(0, "ERROR")
	w.must(b.release(id, "10.1.0.7"))
	w.must(b.releasePool(id))
	w.must(a.Sync(w.ctx)) // has it again
	w.must(a.releasePool(id))
	lines(1, "WARN", "10.1.0.7", "10.1.0.0/24")
	lines(0, "WARN")
	w.must(a.release(id, address))
	lines(0, "WARN")
	w.clean(a, b)
}
