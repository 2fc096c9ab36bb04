package store_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store"
)

func TestUseForbids(t *testing.T) {
	lan := func(subnet, addr string) store.Use {
		u := store.Use{Subnet: netip.MustParsePrefix(subnet), Dev: "eth0"}
		u.Addr, _ = netip.ParseAddr(addr)
		return u
	}
	docker := func(subnet string) store.Use { return store.Use{Subnet: netip.MustParsePrefix(subnet), Network: "web"} }
	for _, c := range []struct {
		use  store.Use
		cidr string
		want bool
	}{
		{lan("10.99.0.0/16", "10.99.1.1"), "10.99.0.0/16", true},
		{lan("10.99.0.0/16", "10.99.1.1"), "10.99.7.0/24", true},
		{lan("10.99.0.0/16", "10.99.1.1"), "10.96.0.0/12", true},
		{lan("10.99.0.0/16", "10.99.1.1"), "10.98.0.0/16", false},
		{lan("10.99.0.0/16", "10.99.1.1"), "fd00::/64", false},
		{lan("10.0.0.0/8", "10.1.2.3"), "10.50.0.0/16", false},
		{lan("10.0.0.0/8", "10.1.2.3"), "10.1.0.0/16", true},
		{lan("10.0.0.0/8", "10.1.2.3"), "10.0.0.0/8", true},
		{lan("10.0.0.0/8", ""), "10.50.0.0/16", false},
		{docker("10.0.0.0/8"), "10.50.0.0/16", true},
		{docker("172.18.0.0/16"), "172.18.0.0/16", true},
		{lan("fd00::/8", "fd00::1"), "fd00:1::/64", true},
	} {
		if got := c.use.Forbids(netip.MustParsePrefix(c.cidr)); got != c.want {
			t.Errorf("%v of %s forbids %s: %t", c.use.Subnet, c.use, c.cidr, got)
		}
	}
}

// testUsesRefused: no host makes a network with a subnet that any host uses; one that is there is joined all the same.
func testUsesRefused(w *world) {
	a, b := w.host("a"), w.host("b")
	lan := store.Use{Subnet: netip.MustParsePrefix("10.99.0.0/16"), Dev: "eth0", Addr: addr("10.99.1.1")}
	w.must(a.PutHost(w.ctx, store.Host{Name: "alpha", Uses: []store.Use{lan}}))
	made, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	w.must(b.PutHost(w.ctx, store.Host{Name: "beta", Uses: []store.Use{lan, {Subnet: poolA, Network: "shop"}, {Subnet: poolB, Network: "shop"}}}))
	w.must(w.host("d").PutHost(w.ctx, store.Host{Name: "delta", Uses: []store.Use{{Subnet: netip.MustParsePrefix("172.17.0.0/16"), Network: "bridge"}}}))
	w.must(w.host("c").PutHost(w.ctx, store.Host{Name: "old", Subnets: []netip.Prefix{netip.MustParsePrefix("10.98.0.0/16")}}))
	before := w.dump()
	for _, c := range []struct {
		host  *store.Cluster
		pool  string
		texts []string
	}{
		{a, "10.2.0.0/16", []string{"10.2.0.0/16", "10.2.0.0/24", "host beta", "Docker network shop", "docker network rm shop", "--subnet"}},
		{b, "10.2.0.0/24", []string{"host beta"}},
		{a, "10.99.0.0/16", []string{"host alpha", "eth0", "1 other host"}},
		{b, "10.99.0.0/16", []string{"host alpha", "eth0", "1 other host"}},
		{a, "172.17.0.0/16", []string{"host delta", "Docker network bridge", "'bip'"}},
		{a, "10.98.1.0/24", []string{"host old", "an interface"}},
	} {
		pools := []netip.Prefix{netip.MustParsePrefix(c.pool)}
		_, err := c.host.Bind(w.ctx, binding("dx", "x", pools...))
		w.wants(err, store.ErrOverlap, c.texts...)
		_, err = c.host.Create(w.ctx, store.NewNetwork{Name: "x", Pools: pools})
		w.wants(err, store.ErrOverlap, c.texts...)
	}
	if after := w.dump(); strings.Join(after, "\n") != strings.Join(before, "\n") {
		w.Errorf("records changed:\n%v\nwere\n%v", after, before)
	}
	joined, err := b.Bind(w.ctx, binding("db", "", poolA))
	w.must(err)
	if joined.ID != made.ID {
		w.Errorf("b joined %+v, a made %+v", joined, made)
	}
}

// noting notes the prefixes that are listed.
type noting struct {
	store.KV
	listed []string
}

func (l *noting) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	l.listed = append(l.listed, prefix)
	return l.KV.List(ctx, prefix)
}

// testUsesKnown: who makes a network beside a watcher of the hosts asks that one what they use, and lists no hosts; one that does not know, as after a start, is not relied on.
func testUsesKnown(w *world) {
	w.must(w.host("a").PutHost(w.ctx, store.Host{Name: "alpha", Uses: []store.Use{{Subnet: poolA, Network: "shop"}}}))
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.HostKey("c"), Value: []byte(`{"schema":99}`)}))
	kv := &noting{KV: w.kv}
	var known map[string]store.Host
	current := false
	b := store.NewCluster(kv, "b").WithHosts(func() (map[string]store.Host, bool) { return known, current })
	refused := func(what string, pool netip.Prefix, listed bool) {
		w.Helper()
		kv.listed = nil
		_, err := b.Bind(w.ctx, binding("dx", "x", pool))
		w.wants(err, store.ErrOverlap, pool.String(), "host alpha", "Docker network shop")
		_, err = b.Create(w.ctx, store.NewNetwork{Name: "x", Pools: []netip.Prefix{pool}})
		w.wants(err, store.ErrOverlap, pool.String(), "host alpha", "Docker network shop")
		got := slices.ContainsFunc(kv.listed, func(prefix string) bool {
			return strings.HasPrefix(prefix, store.HostsPrefix) || strings.HasPrefix(prefix, store.AlivePrefix)
		})
		if got != listed {
			w.Errorf("%s: hosts are listed: %t: %q", what, got, kv.listed)
		}
	}
	refused("the watcher knows nothing yet", poolA, true)
	known = map[string]store.Host{"a": {ID: "a", Name: "alpha", Uses: []store.Use{{Subnet: poolB, Network: "shop"}}}}
	refused("the watcher has not heard the last change", poolA, true)
	current = true
	refused("the watcher knows the hosts", poolB, false)
	if swarm, err := b.ForSwarm().Used(w.ctx); err != nil || len(swarm) != 1 || swarm["a"].Uses[0].Subnet != poolB {
		w.Errorf("for Swarm the hosts are %v: %v", swarm, err)
	}
	known["a"] = store.Host{ID: "a", Name: "alpha"}
	kv.listed = nil
	made, err := b.Bind(w.ctx, binding("dx", "x", poolB))
	w.must(err)
	if kv.listed = slices.DeleteFunc(kv.listed, func(prefix string) bool { return !strings.HasPrefix(prefix, store.HostsPrefix) }); len(kv.listed) > 0 || made.ID == "" {
		w.Errorf("%+v was made, and %q listed", made, kv.listed)
	}
}
