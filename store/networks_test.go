package store_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/socketplane/socketplane/store"
)

func binding(dockerID, name string, pools ...netip.Prefix) store.Binding {
	return store.Binding{DockerID: dockerID, Name: name, Pools: pools}
}

func testBind(w *world) {
	a, b := w.host("a"), w.host("b")
	made, err := a.Bind(w.ctx, store.Binding{DockerID: "da", Name: "web", Pools: []netip.Prefix{poolA}, MTU: 1400, Internal: true})
	w.must(err)
	if made.VNI < 1<<20 || made.VNI >= 1<<24 || made.MTU != 1400 || !made.Internal || made.Name != "web" {
		w.Fatalf("network is %+v", made)
	}
	for _, bind := range []store.Binding{ // by subnet, by name too, again, with the same MTU
		{DockerID: "db", Pools: []netip.Prefix{poolA}, Internal: true},
		{DockerID: "db", Name: "web", Pools: []netip.Prefix{poolA}, Internal: true},
		{DockerID: "db", Name: "web", Pools: []netip.Prefix{poolA}, Internal: true, MTU: 1400},
	} {
		joined, err := b.Bind(w.ctx, bind)
		w.must(err)
		if joined.ID != made.ID || joined.VNI != made.VNI || joined.MTU != 1400 || !joined.Internal {
			w.Fatalf("b joined %+v, a made %+v", joined, made)
		}
	}
	named, err := b.NetworkNamed(w.ctx, "web")
	w.must(err)
	if want := []string{"a=da", "b=db"}; !slices.Equal(w.bound(named.ID), want) || named.ID != made.ID {
		w.Fatalf("network is %+v with %q, want %q", named, w.bound(named.ID), want)
	}
	_, err = b.NetworkNamed(w.ctx, "db")
	w.wants(err, store.ErrNotFound)
	w.must(a.Unbind(w.ctx, made.ID, "other")) // not this Docker network
	w.must(a.Unbind(w.ctx, "unknown", "da"))
	for range 2 {
		w.must(a.Unbind(w.ctx, made.ID, "da"))
	}
	all, err := a.Networks(w.ctx)
	w.must(err)
	if len(all) != 1 || !slices.Equal(w.bound(all[0].ID), []string{"b=db"}) {
		w.Fatalf("networks are %+v", all)
	}
	w.must(b.Unbind(w.ctx, made.ID, "db"))
	_, err = a.Network(w.ctx, made.ID)
	w.wants(err, store.ErrNotFound, made.ID)
	w.empty()
}

func testBindRefused(w *world) {
	a, b := w.host("a"), w.host("b")
	_, err := a.Bind(w.ctx, binding("da", "web", poolA))
	w.must(err)
	_, err = a.Bind(w.ctx, binding("d2", "db", poolB))
	w.must(err)
	before := w.dump()
	inner := netip.MustParsePrefix("10.1.0.0/25")
	for _, c := range []struct {
		name  string
		host  *store.Cluster
		bind  store.Binding
		want  error
		texts []string
	}{
		{"other subnet of that name", b, binding("x", "web", netip.MustParsePrefix("10.3.0.0/24")), store.ErrMismatch, []string{"web", "10.1.0.0/24"}},
		{"subnet of another name", b, binding("x", "mail", poolA), store.ErrMismatch, []string{"web", "mail"}},
		{"name and subnet of two", b, binding("x", "web", poolB), store.ErrMismatch, []string{"10.2.0.0/24"}},
		{"subnets of two", b, binding("x", "", poolA, poolB), store.ErrMismatch, []string{"another network"}},
		{"one subnet more", b, binding("x", "", poolA, pool6), store.ErrMismatch, []string{"fd00:1::/64"}},
		{"overlap", b, binding("x", "", inner), store.ErrOverlap, []string{"10.1.0.0/24"}},
		{"twice on a host", a, binding("x", "", poolA), store.ErrInUse, []string{"da"}},
		{"other options", b, store.Binding{DockerID: "x", Pools: []netip.Prefix{poolA}, Agree: func(n store.Network) error { return fmt.Errorf("made as %s, not so", n.Name) }},
			store.ErrMismatch, []string{"network web was made as web"}},
		{"internal", b, store.Binding{DockerID: "x", Pools: []netip.Prefix{poolA}, Internal: true}, store.ErrMismatch, []string{"--internal"}},
		{"the same subnet twice", b, binding("x", "", pool6, pool6), store.ErrInvalid, []string{"fd00:1::/64"}},
		{"overlap with itself", b, binding("x", "", pool6, netip.MustParsePrefix("fd00:1::/80")), store.ErrInvalid, nil},
		{"no subnet", b, binding("x", "n"), store.ErrInvalid, nil},
		{"no id", b, binding("", "n", pool6), store.ErrInvalid, nil},
	} {
		_, err := c.host.Bind(w.ctx, c.bind)
		w.Log(c.name)
		w.wants(err, c.want, c.texts...)
		if after := w.dump(); !slices.Equal(after, before) {
			w.Fatalf("%s: changed %q to %q", c.name, before, after)
		}
	}
}

// testBindRace: hosts that create the same network at once have one, and nothing is left when all have gone.
func testBindRace(w *world) {
	for _, hold := range []bool{false, true} {
		networks := make([]store.Network, 8)
		w.together(len(networks), func(i int, c *store.Cluster) {
			var err error
			if hold {
				_, err = c.AcquirePool(w.ctx, poolA)
			}
			if err == nil {
				networks[i], err = c.Bind(w.ctx, binding("docker-"+c.Host(), "", poolA))
			}
			if err != nil {
				w.Error(err)
			}
		})
		all, err := w.host("reader").Networks(w.ctx)
		w.must(err)
		if len(all) != 1 || len(w.bound(all[0].ID)) != len(networks) {
			w.Fatalf("networks are %+v", all)
		}
		for _, n := range networks {
			if n.ID != all[0].ID || n.VNI != all[0].VNI {
				w.Fatalf("a host got %+v, the record is %+v", n, all[0])
			}
		}
		w.together(len(networks), func(_ int, c *store.Cluster) {
			if hold { // Docker releases the pool first
				if err := c.ReleasePool(w.ctx, poolA); err != nil {
					w.Error(err)
				}
			}
			if err := c.Unbind(w.ctx, all[0].ID, "docker-"+c.Host()); err != nil {
				w.Error(err)
			}
		})
		w.empty()
	}
}

// testBindChurn: hosts make, use and remove networks of a few subnets in any order.
func testBindChurn(w *world) {
	var mu sync.Mutex
	w.together(6, func(i int, c *store.Cluster) {
		for round := range 5 {
			pool := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, byte((i + round) % 2), 0}), 24)
			own := netip.AddrFrom4([4]byte{10, 5, byte((i + round) % 2), byte(10 + i)})
			err := cycle(w.ctx, c, pool, own)
			if err != nil {
				mu.Lock()
				w.Errorf("%s: %v", c.Host(), err)
				mu.Unlock()
			}
		}
	})
	w.empty()
}

func cycle(ctx context.Context, c *store.Cluster, pool netip.Prefix, own netip.Addr) error {
	if _, err := c.AcquirePool(ctx, pool); err != nil {
		return err
	}
	n, err := c.Bind(ctx, binding("docker-"+c.Host(), "", pool))
	if err != nil {
		return err
	}
	if err = c.Claim(ctx, pool, own, store.HostOwner(c.Host())); err != nil {
		return err
	}
	if err = c.PutEndpoints(ctx, n.ID, []store.Endpoint{{ID: "e", MAC: "02:00:00:00:00:01", Addrs: []netip.Addr{own}}}); err != nil {
		return err
	}
	if err = c.Unclaim(ctx, pool, store.HostOwner(c.Host()), own); err != nil {
		return err
	}
	if err = c.ReleasePool(ctx, pool); err != nil {
		return err
	}
	return c.Unbind(ctx, n.ID, "docker-"+c.Host())
}

// testNameLater: a network without a name takes the first that a host tells.
func testNameLater(w *world) {
	a, b := w.host("a"), w.host("b")
	n, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	if n.Title() != n.ID {
		w.Errorf("a network without a name is called %q", n.Title())
	}
	n, err = b.Bind(w.ctx, binding("db", "web", poolA))
	w.must(err)
	if n.Title() != "web" {
		w.Errorf("the network is called %q", n.Title())
	}
	n, err = a.Bind(w.ctx, binding("da", "", poolA)) // a repetition learns it
	w.must(err)
	if n.Name != "web" {
		w.Errorf("the network is called %q", n.Name)
	}
	w.must(b.Unbind(w.ctx, n.ID, "db"))
	w.must(a.Unbind(w.ctx, n.ID, "da"))
	w.empty()
}

func testDualStack(w *world) {
	a, b := w.host("a"), w.host("b")
	n, err := a.Bind(w.ctx, binding("da", "", poolA, pool6))
	w.must(err)
	_, err = b.AcquirePool(w.ctx, pool6) // b holds one of both through IPAM
	w.must(err)
	w.must(a.Unbind(w.ctx, n.ID, "da"))
	pools, err := a.Pools(w.ctx)
	w.must(err)
	if len(pools) != 1 || pools[0].CIDR != pool6 || pools[0].Network != "" {
		w.Fatalf("pools are %+v, want only the one that b holds", pools)
	}
	again, err := b.Bind(w.ctx, binding("db", "", poolA, pool6))
	w.must(err)
	if again.ID == n.ID {
		w.Errorf("a removed network came back")
	}
	w.must(b.ReleasePool(w.ctx, pool6))
	w.must(b.Unbind(w.ctx, again.ID, "db"))
	w.empty()
}

// testMostPools: a network of as many subnets as are allowed, each with many blocks, can be removed.
func testMostPools(w *world) {
	a := w.host("a")
	var pools []netip.Prefix
	for i := range store.MaxPools + 1 {
		pools = append(pools, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + i), 0, 0}), 20))
	}
	_, err := a.Bind(w.ctx, binding("da", "", pools...))
	w.wants(err, store.ErrInvalid, "16")
	n, err := a.Bind(w.ctx, binding("da", "web", pools[:store.MaxPools]...))
	w.must(err)
	for _, p := range n.Pools {
		w.fill(a, p, 8)
	}
	w.must(a.Unbind(w.ctx, n.ID, "da"))
	w.empty()
}
