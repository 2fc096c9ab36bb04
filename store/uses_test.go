package store_test

import (
	"net/netip"
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
