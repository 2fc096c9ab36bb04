package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/socketplane/socketplane/store"
)

// forms counts the records of networks and pools by schema, and the keys beside them.
func (w *world) forms() string {
	w.Helper()
	count := map[string]int{}
	for _, prefix := range []string{store.NetworksPrefix, store.PoolsPrefix} {
		entries, err := w.kv.List(w.ctx, prefix)
		w.must(err)
		for _, e := range entries {
			schema, err := store.SchemaOf(e)
			w.must(err)
			count[fmt.Sprint("schema ", schema)]++
		}
	}
	for _, prefix := range []string{store.BoundPrefix, store.HoldersPrefix} {
		entries, err := w.kv.List(w.ctx, prefix)
		w.must(err)
		if len(entries) > 0 {
			count["beside"] += len(entries)
		}
	}
	return fmt.Sprint(count)
}

// populated is a cluster of the first layout with networks in every state, and more hosts than fit into one transaction.
func populated(w *world) (ids []string) {
	a := w.host("a")
	w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
	web, err := a.Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolA, pool6}})
	w.must(err)
	for i := range 300 {
		c := w.host(fmt.Sprintf("host-%03d", i))
		_, err = c.Bind(w.ctx, binding("d"+c.Host(), "", poolA, pool6))
		w.must(err)
		_, err = c.AcquirePool(w.ctx, poolA)
		w.must(err)
	}
	w.must(w.host("host-001").PutEndpoints(w.ctx, web.ID, []store.Endpoint{{ID: "e"}}))
	w.must(w.host("host-000").Release(w.ctx, web.ID, "dhost-000"))
	raw, err := a.Bind(w.ctx, binding("dr", "", poolB))
	w.must(err)
	none, err := a.Create(w.ctx, store.NewNetwork{Name: "none", Pools: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/24")}})
	w.must(err)
	w.must(a.ManagePool(w.ctx, poolSwarm, "a", false))
	going, err := a.Bind(w.ctx, binding("dg", "going", netip.MustParsePrefix("10.4.0.0/24")))
	w.must(err)
	_, err = a.Declare(w.ctx, going.ID, "going", store.Declaration{})
	w.must(err)
	w.must(w.host("b").Remove(w.ctx, going.ID))
	return []string{web.ID, raw.ID, none.ID, going.ID}
}

// told is all that callers see of networks and pools.
func (w *world) told() (all []string) {
	w.Helper()
	networks, err := w.host("reader").Networks(w.ctx)
	w.must(err)
	for _, n := range networks {
		all = append(all, fmt.Sprint(n.ID, n.Name, n.VNI, n.Pools, n.State, n.Declared != nil, w.bound(n.ID)))
	}
	pools, err := w.host("reader").Pools(w.ctx)
	w.must(err)
	for _, p := range pools {
		all = append(all, fmt.Sprint(p.CIDR, p.Network, p.Gateway, p.Manager, p.State, w.holders(p.CIDR)))
	}
	return all
}

// testBoundRaised: raising and lowering the layout changes nothing that callers see, and every record's form.
func testBoundRaised(w *world) {
	populated(w)
	before := w.told()
	if got := w.forms(); got != "map[schema 1:10]" {
		w.Fatalf("forms are %s", got)
	}
	for range 2 {
		w.must(w.host("a").SetLayout(w.ctx, 2))
		if after := w.told(); !slices.Equal(after, before) {
			w.Fatalf("raised:\n%q, was\n%q", after, before)
		}
		if got := w.forms(); got != "map[beside:603 schema 2:10]" {
			w.Errorf("raised, forms are %s", got)
		}
		if _, found := w.garbage(w.host("a")); slices.ContainsFunc(found, func(text string) bool { return !strings.HasPrefix(text, "host ") }) {
			w.Errorf("raised, garbage is %q", found)
		}
		w.must(w.host("a").SetLayout(w.ctx, 1))
		if after := w.told(); !slices.Equal(after, before) {
			w.Fatalf("lowered:\n%q, was\n%q", after, before)
		}
		if got := w.forms(); got != "map[schema 1:10]" {
			w.Errorf("lowered, forms are %s", got)
		}
	}
}

// testBoundStrays: what lies beside a record of the first form means nothing, is put right when the layout is raised, and is garbage in the first layout.
func testBoundStrays(w *world) {
	a := w.host("a")
	w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
	n, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	_, err = a.AcquirePool(w.ctx, poolA)
	w.must(err)
	plant := func() {
		w.put(store.BoundKey(n.ID, "b"), `{"schema":1,"docker_id":"stray"}`)
		w.put(store.BoundKey(n.ID, "a"), `{"schema":1,"docker_id":"other"}`)
		w.put(store.HolderKey(poolA, store.HostOwner("b")), `{"schema":1}`)
	}
	plant()
	check := func() {
		w.Helper()
		if bound, holders := w.bound(n.ID), w.holders(poolA); !slices.Equal(bound, []string{"a=da"}) || !slices.Equal(holders, []string{"a"}) {
			w.Errorf("bound are %q, holders %q", bound, holders)
		}
	}
	check()
	all, found := w.garbage(a)
	if want := []string{"binding bound/" + n.ID + "/a", "binding bound/" + n.ID + "/b", "holder holders/10.1.0.0_24/b"}; !slices.Equal(found, want) {
		w.Errorf("garbage is %q, want %q", found, want)
	}
	w.must(a.SetLayout(w.ctx, 2))
	check()
	for _, g := range all { // found before the layout was raised: what it found is needed now
		w.must(g.Remove(w.ctx))
	}
	check()
	w.must(a.SetLayout(w.ctx, 1))
	plant()
	all, _ = w.garbage(a)
	for _, g := range all {
		w.must(g.Remove(w.ctx))
	}
	check()
	if got := w.forms(); got != "map[schema 1:2]" {
		w.Errorf("forms are %s", got)
	}
}

// testBoundCutOff: wherever a change of the layout is cut off, nothing is lost, and repeating it ends it.
func testBoundCutOff(w *world) {
	setup := func() {
		w.wipe()
		a := w.host("a")
		w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
		_, err := a.Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolA}})
		w.must(err)
		for i := range 150 {
			c := w.host(fmt.Sprintf("host-%03d", i))
			_, err = c.Bind(w.ctx, binding("d"+c.Host(), "", poolA))
			w.must(err)
		}
		_, err = a.AcquirePool(w.ctx, poolA)
		w.must(err)
	}
	setup()
	told := func() string {
		all, err := w.host("reader").Networks(w.ctx)
		w.must(err)
		return fmt.Sprint(w.bound(all[0].ID), w.holders(poolA))
	}
	want := told()
	for _, layout := range []int{2, 1} {
		clean := &faulty{KV: w.kv}
		w.must(store.NewCluster(clean, "a").SetLayout(w.ctx, layout))
		for at := int64(1); at <= clean.count.Load(); at++ {
			for _, f := range []fault{failBefore, failAfter, failConflict} {
				if f != failAfter && strings.Contains(w.Name(), "consul") { // bolt shows these
					continue
				}
				w.must(w.host("a").SetLayout(w.ctx, 3-layout))
				c := store.NewCluster(&faulty{KV: w.kv, at: at, fault: f}, "a")
				err := c.SetLayout(w.ctx, layout)
				if got := told(); got != want {
					w.Fatalf("to layout %d, cut off at %d with fault %d (%v):\n%s, want\n%s", layout, at, f, err, got, want)
				}
				w.must(c.SetLayout(w.ctx, layout))
				if got := told(); got != want {
					w.Fatalf("to layout %d, after fault %d at %d:\n%s, want\n%s", layout, f, at, got, want)
				}
				if got, want := w.forms(), map[int]string{1: "map[schema 1:2]", 2: "map[beside:151 schema 2:2]"}[layout]; got != want {
					w.Fatalf("to layout %d, after fault %d at %d, forms are %s, want %s", layout, f, at, got, want)
				}
			}
		}
	}
}

// testBoundWhileRaised: while the layout is raised and lowered, hosts join, publish, hold and leave; no binding and no hold is lost, and none stays.
func testBoundWhileRaised(w *world) {
	a := w.host("a")
	w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
	made, err := a.Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolA}})
	w.must(err)
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var turning sync.WaitGroup
	turns := 0
	turning.Go(func() {
		for layout := 2; ctx.Err() == nil; layout = 3 - layout {
			if err := a.SetLayout(ctx, layout); err != nil && ctx.Err() == nil {
				w.Error(err)
				return
			}
			turns++
		}
	})
	w.together(6, func(i int, c *store.Cluster) {
		for round := range 15 {
			if err := w.visit(c, made.ID, fmt.Sprintf("d%d-%d", i, round)); err != nil {
				w.Errorf("%s in round %d: %v", c.Host(), round, err)
				return
			}
		}
	})
	cancel()
	turning.Wait()
	w.Logf("the layout changed %d times", turns)
	w.must(a.SetLayout(w.ctx, 1))
	if bound, holders := w.bound(made.ID), w.holders(poolA); len(bound)+len(holders) > 0 {
		w.Errorf("bound are %q, holders %q", bound, holders)
	}
	w.must(a.Remove(w.ctx, made.ID))
	if got := w.forms(); got != "map[]" {
		w.Errorf("left are %s", got)
	}
}

// visit is a host that has a network for a moment, and looks all the time whether the cluster says so.
func (w *world) visit(c *store.Cluster, id, docker string) error {
	if _, err := c.AcquirePool(w.ctx, poolA); err != nil {
		return err
	}
	b := binding(docker, "", poolA)
	b.ID = id
	if _, err := c.Bind(w.ctx, b); err != nil {
		return err
	}
	for range 3 {
		own, err := c.BoundTo(w.ctx, id)
		holders, errHolders := c.Holders(w.ctx, poolA)
		if err := errors.Join(err, errHolders); err != nil {
			return err
		}
		if own[c.Host()].DockerID != docker || !slices.Contains(holders, c.Owner()) {
			return fmt.Errorf("is bound as %+v and holds with %v, want %s", own, holders, docker)
		}
		if err := c.PutEndpoints(w.ctx, id, []store.Endpoint{{ID: "e"}}); err != nil {
			return err
		}
	}
	if err := errors.Join(c.ReleasePool(w.ctx, poolA), c.Unbind(w.ctx, id, docker)); err != nil {
		return err
	}
	own, err := c.BoundTo(w.ctx, id)
	if err == nil && own[c.Host()] != (store.Bound{}) {
		err = fmt.Errorf("is still bound as %+v", own[c.Host()])
	}
	if e, errE := c.Endpoints(w.ctx, id, c.Host()); errE != nil || len(e.Endpoints) > 0 {
		err = errors.Join(err, errE, fmt.Errorf("endpoints %+v outlive the binding", e))
	}
	return err
}
