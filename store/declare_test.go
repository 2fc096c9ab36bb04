package store_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/socketplane/socketplane/store"
)

// testDeclare: a network gets its name and declaration once, and one name has one network.
func testDeclare(w *world) {
	a, b := w.host("a"), w.host("b")
	web, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	other, err := b.Bind(w.ctx, binding("db", "", poolB))
	w.must(err)
	n, err := a.Declare(w.ctx, web.ID, "web", store.Declaration{Labels: map[string]string{"a": "b"}})
	w.must(err)
	if n.Name != "web" || n.Declared == nil || n.Declared.Labels["a"] != "b" {
		w.Fatalf("declared %+v", n)
	}
	again, err := a.Declare(w.ctx, web.ID, "web", store.Declaration{})
	w.must(err)
	if again.Declared.Labels["a"] != "b" {
		w.Error("a second declaration changed the first")
	}
	_, err = b.Declare(w.ctx, other.ID, "web", store.Declaration{})
	w.wants(err, store.ErrNameTaken, "web")
	_, err = a.Declare(w.ctx, web.ID, "db", store.Declaration{})
	w.wants(err, store.ErrMismatch, "web", "--subnet")
	_, err = b.Declare(w.ctx, web.ID, "web", store.Declaration{})
	w.wants(err, store.ErrNotFound) // b has not bound it
	names, err := a.DeclaredNames(w.ctx)
	w.must(err)
	if fmt.Sprint(names) != fmt.Sprint(map[string]string{web.ID: "web"}) {
		w.Errorf("declared are %v", names)
	}
	w.must(a.Release(w.ctx, web.ID, "da"))
	w.must(b.Release(w.ctx, other.ID, "db"))
	w.empty()
}

// testDeclareRace: many hosts give their own networks one name at once, and create one name at once.
func testDeclareRace(w *world) {
	const hosts = 8
	var mu sync.Mutex
	won, created := 0, 0
	w.together(hosts, func(i int, c *store.Cluster) {
		pool := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i), 0}), 24)
		n, err := c.Bind(w.ctx, binding("d", "", pool))
		if err != nil {
			w.Error(err)
			return
		}
		_, err = c.Declare(w.ctx, n.ID, "same", store.Declaration{})
		if err != nil && !errors.Is(err, store.ErrNameTaken) {
			w.Error(err)
		}
		_, createErr := c.Create(w.ctx, store.NewNetwork{Name: "first", Pools: []netip.Prefix{poolA}})
		if createErr != nil && !errors.Is(createErr, store.ErrNameTaken) && !errors.Is(createErr, store.ErrOverlap) {
			w.Error(createErr)
		}
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			won++
		}
		if createErr == nil {
			created++
		}
	})
	if won != 1 || created != 1 {
		w.Errorf("%d hosts won the name, %d created the network", won, created)
	}
}

// testCreate: a network is there before any host has it, and stays when its last host merely lets go.
func testCreate(w *world) {
	a := w.host("a")
	made, err := a.Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolA, pool6}, MTU: 1400})
	w.must(err)
	_, err = a.Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolB}})
	w.wants(err, store.ErrNameTaken, "web")
	_, err = a.Create(w.ctx, store.NewNetwork{Name: "db", Pools: []netip.Prefix{poolA}})
	w.wants(err, store.ErrOverlap, poolA.String())
	_, err = a.Bind(w.ctx, store.Binding{DockerID: "da", ID: "no such network", Pools: []netip.Prefix{poolB}})
	w.wants(err, store.ErrNotFound, "removed meanwhile")
	copied := binding("da", "", poolA, pool6)
	copied.ID = made.ID
	n, err := a.Bind(w.ctx, copied)
	w.must(err)
	if n.ID != made.ID || n.VNI != made.VNI || n.Name != "web" {
		w.Errorf("bound %+v", n)
	}
	w.must(a.Unbind(w.ctx, made.ID, "da"))
	if n, err = a.Network(w.ctx, made.ID); err != nil || len(w.bound(made.ID)) != 0 || n.State != store.Active {
		w.Errorf("after its last host let go: %+v, %v", n, err)
	}
	w.must(a.Remove(w.ctx, made.ID))
	w.must(a.Remove(w.ctx, made.ID))
	w.empty()
}

// testRelease: who removes a network where nobody uses it removes it everywhere.
func testRelease(w *world) {
	a, b, c := w.host("a"), w.host("b"), w.host("c")
	made, err := a.Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolA}})
	w.must(err)
	for id, h := range map[string]*store.Cluster{"da": a, "db": b, "dc": c} {
		_, err := h.Bind(w.ctx, binding(id, "", poolA))
		w.must(err)
	}
	w.must(b.PutEndpoints(w.ctx, made.ID, []store.Endpoint{{ID: "e"}}))
	// In use on b: a is away, and only a.
	w.must(a.Release(w.ctx, made.ID, "da"))
	n, err := a.Network(w.ctx, made.ID)
	w.must(err)
	if n.State != store.Active || !slices.Equal(w.bound(made.ID), []string{"a away", "b=db", "c=dc"}) {
		w.Fatalf("network is %+v, %q", n, w.bound(made.ID))
	}
	w.wants(a.Remove(w.ctx, made.ID), store.ErrHasEndpoints, "web", "b")
	w.must(a.Attach(w.ctx, made.ID))
	if bound := w.bound(made.ID); !slices.Equal(bound, []string{"b=db", "c=dc"}) {
		w.Fatalf("attached: %q", bound)
	}
	// Not in use any more: c's removal is everybody's, and the name is free at once.
	w.must(b.PutEndpoints(w.ctx, made.ID, nil))
	w.must(c.Release(w.ctx, made.ID, "dc"))
	if n, err = a.Network(w.ctx, made.ID); err != nil || n.State != store.Deleting {
		w.Fatalf("released: %+v, %v", n, err)
	}
	next, err := a.Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolB}})
	w.must(err)
	copied := binding("da", "", poolA)
	copied.ID = made.ID
	_, err = a.Bind(w.ctx, copied)
	w.wants(err, store.ErrNotFound)
	w.wants(a.Attach(w.ctx, made.ID), store.ErrNotFound)
	w.must(b.Unbind(w.ctx, made.ID, "db")) // its mirror's work; the last host's
	named, err := a.NetworkNamed(w.ctx, "web")
	w.must(err)
	if named.ID != next.ID {
		w.Error("the old network took the new one's name along")
	}
	w.must(a.Remove(w.ctx, next.ID))
	w.empty()
}

// testMadeAnew: subnets that are bound while their network is being removed make it live again, without a name.
func testMadeAnew(w *world) {
	a, b := w.host("a"), w.host("b")
	made, err := a.Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolA}})
	w.must(err)
	for id, h := range map[string]*store.Cluster{"da": a, "db": b} {
		_, err := h.Bind(w.ctx, binding(id, "", poolA))
		w.must(err)
	}
	w.must(a.SetGateway(w.ctx, poolA, addr("10.1.0.1")))
	w.must(a.Release(w.ctx, made.ID, "da"))
	// In another form it is another network, which has to wait for the former one's end.
	for _, other := range []store.Binding{
		{DockerID: "da2", Pools: []netip.Prefix{poolA}, Internal: true},
		{DockerID: "da2", Pools: []netip.Prefix{poolA}, MTU: 1400},
		{DockerID: "da2", Pools: []netip.Prefix{poolA, pool6}},
	} {
		_, err := a.Bind(w.ctx, other)
		w.wants(err, store.ErrInUse, "10.1.0.0/24", "still being removed on b", "repeat the command")
	}
	_, err = a.Create(w.ctx, store.NewNetwork{Name: "api", Pools: []netip.Prefix{poolA}})
	w.wants(err, store.ErrInUse, "10.1.0.0/24", "still being removed on b", "host rm")
	w.wants(a.SetGateway(w.ctx, poolA, addr("10.1.0.9")), store.ErrInUse, "10.1.0.0/24", "still being removed on b", "repeat the command")
	n, err := a.Bind(w.ctx, binding("da2", "", poolA))
	w.must(err)
	if n.ID != made.ID || n.State != store.Active || n.Name != "" || n.Declared != nil {
		w.Fatalf("made anew: %+v", n)
	}
	// b may be off, with containers that start before it knows: theirs is the former segment.
	if holder, err := w.kv.Get(w.ctx, store.VNIKey(n.VNI)); n.VNI == made.VNI || err != nil || string(holder.Value) != n.ID {
		w.Errorf("its VNI is %d, that of the former network %d; it belongs to %s, %v", n.VNI, made.VNI, holder.Value, err)
	}
	if _, err := w.kv.Get(w.ctx, store.VNIKey(made.VNI)); !errors.Is(err, store.ErrNotFound) {
		w.Errorf("the former VNI: %v", err)
	}
	_, err = a.Declare(w.ctx, n.ID, "api", store.Declaration{})
	w.must(err)
	w.must(b.Unbind(w.ctx, made.ID, "db"))
	w.must(a.Release(w.ctx, made.ID, "da2"))
	w.empty()
}

// testRemoveHost: a host that will not come back leaves nothing behind.
func testRemoveHost(w *world) {
	a, gone := w.host("a"), w.host("gone")
	w.must(gone.PutHost(w.ctx, store.Host{Name: "old"}))
	w.must(a.PutHost(w.ctx, store.Host{Name: "new"}))
	_, err := gone.AcquirePool(w.ctx, poolA)
	w.must(err)
	n, err := gone.Bind(w.ctx, binding("dg", "", poolA))
	w.must(err)
	w.must(gone.Claim(w.ctx, poolA, addr("10.1.0.9"), store.HostOwner("gone")))
	w.must(gone.PutEndpoints(w.ctx, n.ID, []store.Endpoint{{ID: "e"}}))
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.AliveKey("gone"), Value: []byte("gone")}))
	w.wants(a.RemoveHost(w.ctx, "gone"), store.ErrConflict, "old", "stop it")
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpRemove, Key: store.AliveKey("gone")}))
	w.wants(a.RemoveHost(w.ctx, "nobody"), store.ErrNotFound)
	w.must(a.RemoveHost(w.ctx, "gone"))
	w.must(w.host("b").RemoveHost(w.ctx, "a"))
	w.empty()
}
