package store_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// other is a store of its own, as a host that is alone has it.
func (w *world) other() *world {
	w.Helper()
	kv, err := bolt.Open(filepath.Join(w.TempDir(), "other.db"), bolt.Options{NoSync: true})
	w.must(err)
	w.Cleanup(func() { kv.Close() })
	other := &world{w.T, w.ctx, kv, w.second}
	other.wipe()
	return other
}

// lone fills a store with what host a has: a declared network with two subnets and endpoints, one that is not declared, a pool without
// a network, and an unused first network.
func (w *world) lone() (web, raw store.Network) {
	w.Helper()
	a := w.host("a")
	web, err := a.Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolA, pool6}, MTU: 1400, Declaration: store.Declaration{
		Labels: map[string]string{"k": "v"}, IPv6: true}})
	w.must(err)
	_, err = a.AcquirePool(w.ctx, poolA)
	w.must(err)
	web, err = a.Bind(w.ctx, binding("da", "web", poolA, pool6))
	w.must(err)
	w.must(a.SetGateway(w.ctx, poolA, addr("10.1.0.1")))
	for _, text := range []string{"10.1.0.2", "10.1.0.3", "10.1.0.200"} {
		w.must(a.Keep(w.ctx, poolA, addr(text)))
	}
	w.must(a.Keep(w.ctx, pool6, addr("fd00:1::2")))
	w.must(w.host("gone").Keep(w.ctx, poolA, addr("10.1.0.77")))
	w.must(a.PutEndpoints(w.ctx, web.ID, []store.Endpoint{{ID: "e", MAC: "02:42:0a:01:00:02", Addrs: []netip.Addr{addr("10.1.0.2"), addr("fd00:1::2")}}}))
	raw, err = a.Bind(w.ctx, binding("dr", "", poolB))
	w.must(err)
	_, err = a.AcquirePool(w.ctx, netip.MustParsePrefix("10.3.0.0/24"))
	w.must(err)
	_, err = a.Create(w.ctx, store.NewNetwork{Name: "first", Pools: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/20")}})
	w.must(err)
	_, err = a.Bind(w.ctx, binding("df", "first", netip.MustParsePrefix("10.32.0.0/20")))
	w.must(err)
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.DefaultMadeKey, Value: []byte("first")}))
	// Swarm's manager on this host has a subnet of its own, and a task in another one.
	w.must(a.ManagePool(w.ctx, poolSwarm, "a", false))
	w.must(a.ManagePool(w.ctx, poolA, "a", false))
	w.must(a.ForSwarm().Keep(w.ctx, poolSwarm, addr("10.5.0.2")))
	w.must(a.ForSwarm().Keep(w.ctx, poolA, addr("10.1.0.4")))
	return web, raw
}

func names(networks []store.Network) []string {
	var all []string
	for _, n := range networks {
		all = append(all, n.Title())
	}
	slices.Sort(all)
	return all
}

func testImport(w *world) {
	from := w.other()
	web, raw := from.lone()
	a := w.host("a")
	// The cluster has a network of its own, with a VNI that is web's.
	_, err := w.host("b").Bind(w.ctx, binding("db", "db", netip.MustParsePrefix("10.9.0.0/24")))
	w.must(err)
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.VNIKey(web.VNI), Value: []byte("another")}))
	before := from.dump()
	for try := range 2 { // again changes nothing
		done, err := a.Import(w.ctx, from.kv)
		w.must(err)
		if got, want := names(done.Networks), []string{"first", raw.ID, "web"}; !slices.Equal(got, slices.Sorted(slices.Values(want))) || len(done.GaveWay) > 0 {
			w.Fatalf("try %d took %q and left %q", try, got, done.GaveWay)
		}
	}
	got, err := a.NetworkNamed(w.ctx, "web")
	w.must(err)
	if got.ID != web.ID || got.VNI == web.VNI || got.MTU != 1400 || !slices.Equal(w.bound(got.ID), []string{"a=da"}) || got.Declared == nil || got.Declared.Labels["k"] != "v" {
		w.Errorf("web is %+v, was %+v", got, web)
	}
	if holder, err := w.kv.Get(w.ctx, store.VNIKey(got.VNI)); err != nil || string(holder.Value) != web.ID {
		w.Errorf("its VNI belongs to %s, %v", holder.Value, err)
	}
	if kept, err := a.Network(w.ctx, raw.ID); err != nil || kept.VNI != raw.VNI || kept.Declared != nil || !slices.Equal(w.bound(raw.ID), []string{"a=dr"}) {
		w.Errorf("the other is %+v, was %+v, %v", kept, raw, err)
	}
	want := []string{"10.1.0.1=network", "10.1.0.200=a", "10.1.0.2=a", "10.1.0.3=a", "10.1.0.4=swarm"}
	if got := w.claims(poolA); !slices.Equal(got, want) {
		w.Errorf("claims are %q, want %q", got, want)
	}
	if got := w.claims(pool6); !slices.Equal(got, []string{"fd00:1::2=a"}) {
		w.Errorf("claims are %q", got)
	}
	if got := w.claims(poolSwarm); !slices.Equal(got, []string{"10.5.0.2=swarm"}) {
		w.Errorf("claims are %q", got)
	}
	for _, cidr := range []netip.Prefix{poolA, poolSwarm} {
		if p, err := a.Pool(w.ctx, cidr); err != nil || !slices.Contains(w.holders(cidr), "swarm") || p.Manager != "a" {
			w.Errorf("pool %+v, %v", p, err)
		}
	}
	for cidr, held := range map[netip.Prefix]bool{poolA: true, pool6: false, netip.MustParsePrefix("10.3.0.0/24"): true} {
		p, err := a.Pool(w.ctx, cidr)
		if err != nil || slices.Contains(w.holders(cidr), "a") != held || (cidr == poolA && p.Gateway != addr("10.1.0.1")) {
			w.Errorf("pool %+v, %v", p, err)
		}
	}
	if e, err := a.Endpoints(w.ctx, web.ID, "a"); err != nil || len(e.Endpoints) != 1 || e.Endpoints[0].ID != "e" {
		w.Errorf("endpoints %+v, %v", e, err)
	}
	if declared, err := a.DeclaredNames(w.ctx); err != nil || !maps.Equal(declared, map[string]string{web.ID: "web", pickID(w, a, "first"): "first"}) {
		w.Errorf("declared are %v, %v", declared, err)
	}
	if after := from.dump(); !slices.Equal(after, before) {
		w.Errorf("the former store has changed to\n%q", after)
	}
	// What came can be removed like any other: nothing is left.
	w.must(a.PutEndpoints(w.ctx, web.ID, nil))
	w.must(a.KV().Apply(w.ctx, store.Op{Kind: store.OpRemove, Key: store.VNIKey(web.VNI)}))
	w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
	w.must(a.RemoveHost(w.ctx, "a"))
	for _, id := range []string{web.ID, pickID(w, a, "first")} {
		w.must(a.Remove(w.ctx, id))
	}
	// Swarm's goes only when its manager ends it.
	if got := append(w.claims(poolSwarm), w.claims(poolA)...); !slices.Equal(got, []string{"10.5.0.2=swarm", "10.1.0.1=network", "10.1.0.4=swarm"}) {
		w.Errorf("claims are %q", got)
	}
	w.must(a.LeaveManaged(w.ctx, poolSwarm, "a"))
	w.must(a.LeaveManaged(w.ctx, poolA, "a"))
	all, err := a.Networks(w.ctx)
	w.must(err)
	w.must(w.host("b").Unbind(w.ctx, all[0].ID, "db"))
	w.empty()
}

func pickID(w *world, c *store.Cluster, name string) string {
	n, err := c.NetworkNamed(w.ctx, name)
	w.must(err)
	return n.ID
}

func testImportCollides(w *world) {
	from := w.other()
	from.lone()
	b := w.host("b")
	_, err := b.Bind(w.ctx, binding("db", "web", netip.MustParsePrefix("10.9.0.0/24")))
	w.must(err)
	_, err = b.Bind(w.ctx, binding("dc", "shop", netip.MustParsePrefix("10.2.0.0/16")))
	w.must(err)
	_, err = b.AcquirePool(w.ctx, netip.MustParsePrefix("10.3.0.0/24"))
	w.must(err)
	before := w.dump()
	_, err = w.host("a").Import(w.ctx, from.kv)
	w.wants(err, store.ErrCollides, "another network web", "10.2.0.0/24 of network", "overlaps 10.2.0.0/16 of the cluster's shop",
		"10.3.0.0/24 of a subnet overlaps 10.3.0.0/24 of the cluster's hosts", "docker network rm")
	if strings.Contains(err.Error(), "10.1.0.0") || strings.Contains(err.Error(), "first") {
		w.Errorf("what does not collide is named: %v", err)
	}
	if after := w.dump(); !slices.Equal(after, before) {
		w.Errorf("the cluster has changed to\n%q, from\n%q", after, before)
	}
}

func testImportGivesWay(w *world) {
	first := netip.MustParsePrefix("10.32.0.0/20")
	for _, there := range []netip.Prefix{first, netip.MustParsePrefix("10.48.0.0/20")} {
		w.wipe()
		from := w.other()
		from.lone()
		b := w.host("b")
		theirs, err := b.Create(w.ctx, store.NewNetwork{Name: "first", Pools: []netip.Prefix{there}})
		w.must(err)
		_, err = b.Bind(w.ctx, binding("db", "first", there))
		w.must(err)
		w.must(b.SetGateway(w.ctx, there, there.Addr().Next()))
		a := w.host("a")
		for range 2 {
			done, err := a.Import(w.ctx, from.kv)
			w.must(err)
			if len(done.GaveWay) != 1 || len(done.Networks) != 2 {
				w.Fatalf("took %q, left %q", names(done.Networks), done.GaveWay)
			}
		}
		// This host's own is on its way out, so that Docker's goes; it has neither name nor subnet.
		ours := pickID(from, from.host("a"), "first")
		n, err := a.Network(w.ctx, ours)
		w.must(err)
		if n.State != store.Deleting || !slices.Equal(w.bound(ours), []string{"a=df"}) || n.Name != "" {
			w.Errorf("the first network that gave way is %+v", n)
		}
		w.must(a.Unbind(w.ctx, ours, "df"))
		_, err = a.Network(w.ctx, ours)
		w.wants(err, store.ErrNotFound)
		if n, err := a.NetworkNamed(w.ctx, "first"); err != nil || n.ID != theirs.ID {
			w.Errorf("the cluster's is %+v, %v", n, err)
		}
		if got := w.claims(there); len(got) != 1 {
			w.Errorf("claims in the cluster's pool: %q", got)
		}
	}
	// One that is used is as good as any other.
	from := w.other()
	from.lone()
	id := pickID(from, from.host("a"), "first")
	w.must(from.host("a").PutEndpoints(w.ctx, id, []store.Endpoint{{ID: "e"}}))
	_, err := w.host("a").Import(w.ctx, from.kv)
	w.wants(err, store.ErrCollides, "another network first")
}

// testImportBig: more claims than one transaction takes.
func testImportBig(w *world) {
	from := w.other()
	big := netip.MustParsePrefix("10.7.0.0/16")
	a := from.host("a")
	n, err := a.Bind(w.ctx, binding("da", "big", big))
	w.must(err)
	from.fill(a, big, 150)
	last := addr("10.7.255.9") // the block of a container comes with the network itself
	w.must(a.Keep(w.ctx, big, last))
	w.must(a.Claim(w.ctx, big, addr("10.7.250.1"), store.NetworkOwner()))
	w.must(a.PutEndpoints(w.ctx, n.ID, []store.Endpoint{{ID: "e", Addrs: []netip.Addr{last}}}))
	want := from.claims(big)
	cut := &faulty{KV: w.kv, fault: failBefore}
	_, err = store.NewCluster(&onlyApply{faulty: cut, allow: 1}, "a").Import(w.ctx, from.kv)
	w.wants(err, store.ErrUnavailable)
	if got := w.claims(big); !slices.Contains(got, last.String()+"=a") || !slices.Contains(got, "10.7.250.1=network") {
		w.Errorf("the network is there without its container's address: %d claims", len(got))
	}
	_, err = w.host("a").Import(w.ctx, from.kv)
	w.must(err)
	if got := w.claims(big); !slices.Equal(got, want) {
		w.Errorf("%d claims, want %d", len(got), len(want))
	}
}

// onlyApply lets a number of writes through.
type onlyApply struct {
	*faulty
	allow int64
	done  atomic.Int64
}

func (o *onlyApply) Apply(ctx context.Context, ops ...store.Op) error {
	if o.done.Add(1) > o.allow {
		return store.ErrUnavailable
	}
	return o.KV.Apply(ctx, ops...)
}

// testImportRace: another host takes a name between the look and the write.
func testImportRace(w *world) {
	from := w.other()
	from.lone()
	b := w.host("b")
	meanwhile := false
	kv := &hooked{KV: w.kv, before: func(ops []store.Op) {
		if !meanwhile && slices.ContainsFunc(ops, func(o store.Op) bool { return o.Key == store.NameKey("web") }) {
			meanwhile = true
			_, err := b.Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}})
			w.must(err)
		}
	}}
	_, err := store.NewCluster(kv, "a").Import(w.ctx, from.kv)
	w.wants(err, store.ErrCollides, "another network web")
	all, err := b.Networks(w.ctx)
	w.must(err)
	for _, n := range all {
		if n.Name != "web" && n.State != store.Deleting {
			w.Errorf("%s is left of what was refused: %+v", n.Title(), n)
		}
	}
}

type hooked struct {
	store.KV
	before func([]store.Op)
}

func (h *hooked) Apply(ctx context.Context, ops ...store.Op) error {
	h.before(ops)
	return h.KV.Apply(ctx, ops...)
}

// testImportFaults: wherever it is cut off, doing it again leads to the same state.
func testImportFaults(w *world) {
	from := w.other()
	from.lone()
	setup := func() {
		w.wipe()
		_, err := w.host("b").Create(w.ctx, store.NewNetwork{Name: "first", Pools: []netip.Prefix{netip.MustParsePrefix("10.48.0.0/20")}})
		w.must(err)
	}
	setup()
	clean := &faulty{KV: w.kv}
	_, err := store.NewCluster(clean, "a").Import(w.ctx, from.kv)
	w.must(err)
	want := w.dump()
	for at := int64(1); at <= clean.count.Load(); at++ {
		for _, f := range []fault{failBefore, failAfter, failConflict} {
			where := fmt.Sprintf("operation %d, fault %d", at, f)
			setup()
			c := store.NewCluster(&faulty{KV: w.kv, at: at, fault: f}, "a")
			if _, err := c.Import(w.ctx, from.kv); err != nil {
				w.wants(err, store.ErrUnavailable)
				if _, err = c.Import(w.ctx, from.kv); err != nil {
					w.Fatalf("%s: again: %v", where, err)
				}
			}
			if got := w.dump(); !slices.Equal(got, want) {
				w.Fatalf("%s: the store has\n%q, want\n%q", where, got, want)
			}
		}
	}
}

// testImportFrom: the other way round, and the same arrives.
func testImportFrom(w *world) {
	to := w.other()
	w.lone()
	_, err := to.host("a").Import(w.ctx, w.kv)
	w.must(err)
	if got, want := to.claims(poolA), []string{"10.1.0.1=network", "10.1.0.200=a", "10.1.0.2=a", "10.1.0.3=a", "10.1.0.4=swarm"}; !slices.Equal(got, want) {
		w.Errorf("claims are %q, want %q", got, want)
	}
	if e, err := to.host("a").Endpoints(w.ctx, pickID(to, to.host("a"), "web"), "a"); err != nil || len(e.Endpoints) != 1 {
		w.Errorf("endpoints %+v, %v", e, err)
	}
}
