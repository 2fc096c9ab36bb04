package ipamdriver_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

// TestChosenSubnetsCost: choosing a subnet reads as many records among 500 hosts with 100 networks as among 10 hosts with 10, and takes none that a host uses.
func TestChosenSubnetsCost(t *testing.T) {
	cost := map[int]int64{}
	for _, size := range []struct{ hosts, networks int }{{10, 10}, {500, 100}} {
		kv := &countedReads{KV: file(t, "cluster")}
		hosts := map[string]store.Host{}
		for i := range size.hosts {
			other := store.NewCluster(kv.KV, fmt.Sprintf("%016x", i))
			h := store.Host{ID: other.Host(), Name: fmt.Sprint("h", i), Subnets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24)}}
			if hosts[h.ID] = h; i == 0 {
				if err := other.BeginLayout(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := other.PutHost(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			if i >= size.networks {
				continue
			}
			if _, err := other.AcquirePool(t.Context(), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100, byte(i), 0}), 24)); err != nil {
				t.Fatal(err)
			}
		}
		me := store.NewCluster(kv, "me").WithHosts(func() (map[string]store.Host, bool) { return hosts, true })
		d := ipamdriver.New(me, file(t, "local"), ipamdriver.Options{Pools: []ipamdriver.PoolRange{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Bits: 24}}})
		choose := func() {
			t.Helper()
			r, err := d.RequestPool(t.Context(), &ipam.RequestPoolRequest{AddressSpace: "socketplane"})
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range hosts {
				if h.Subnets[0].Overlaps(netip.MustParsePrefix(r.Pool)) {
					t.Errorf("%s is chosen, which %s uses", r.Pool, h.Name)
				}
			}
		}
		choose() // the subnets of others are listed once
		before := kv.records.Load()
		choose()
		cost[size.hosts] = kv.records.Load() - before
	}
	if cost[500] > cost[10] {
		t.Errorf("choosing a subnet reads %d records at 10 hosts and %d at 500", cost[10], cost[500])
	}
	t.Logf("records read, by the number of hosts: %v", cost)
}
