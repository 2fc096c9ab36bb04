package store_test

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/socketplane/socketplane/store"
)

var poolSwarm = netip.MustParsePrefix("10.5.0.0/24")

// busyCluster is a cluster with everything that hosts have, of which nothing is garbage.
func busyCluster(w *world) (a, b *store.Cluster, n store.Network) {
	a, b = w.host("aaa"), w.host("bbb")
	for _, c := range []*store.Cluster{a, b} {
		w.must(c.PutHost(w.ctx, store.Host{Name: c.Host(), VTEP: addr("192.0.2.1")}))
		_, err := c.AcquirePool(w.ctx, poolA)
		w.must(err)
	}
	n, err := a.Bind(w.ctx, store.Binding{DockerID: "d1", Name: "web", Pools: []netip.Prefix{poolA}})
	w.must(err)
	_, err = b.Bind(w.ctx, store.Binding{DockerID: "d2", Name: "web", Pools: []netip.Prefix{poolA}})
	w.must(err)
	w.must(a.SetGateway(w.ctx, poolA, addr("10.1.0.1")))
	w.must(b.Claim(w.ctx, poolA, addr("10.1.0.2"), store.HostOwner("bbb")))
	w.must(b.PutEndpoints(w.ctx, n.ID, []store.Endpoint{{ID: "e", MAC: "02:00:00:00:00:01", Addrs: []netip.Addr{addr("10.1.0.2")}}}))
	_, err = b.Ask(w.ctx, poolA, netip.Addr{}, []string{"aaa"})
	w.must(err)
	w.must(b.PutUse(w.ctx, map[netip.Prefix]store.PoolUse{poolA: {Static: 1}}))
	_, err = a.Create(w.ctx, store.NewNetwork{Name: "declared", Pools: []netip.Prefix{poolB}})
	w.must(err)
	// Swarm holds a subnet, and its manager has chosen addresses there and in a network's subnet.
	w.must(a.ManagePool(w.ctx, poolSwarm, "aaa", false))
	for _, pool := range []netip.Prefix{poolSwarm, poolA} {
		w.must(a.ForSwarm().Keep(w.ctx, pool, pool.Addr().Next().Next().Next()))
	}
	w.put("socketplane/v1/something-of-a-later-agent/x", "y")
	return a, b, n
}

func (w *world) put(key, value string) {
	w.Helper()
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: key, Value: []byte(value)}))
}

func (w *world) garbage(c *store.Cluster) (all []store.Garbage, texts []string) {
	w.Helper()
	all, err := c.Garbage(w.ctx)
	w.must(err)
	for _, g := range all {
		texts = append(texts, g.Kind+" "+strings.TrimPrefix(g.Key, store.Root))
	}
	return all, texts
}

// testGarbage plants a record of every kind that nothing needs beside those that somebody does: the ones are found and go, one
// after the other as what needed them goes, and the others stay as they are.
func testGarbage(w *world) {
	a, _, n := busyCluster(w)
	if _, found := w.garbage(a); len(found) > 0 {
		w.Fatalf("garbage is found in a cluster that has none: %q", found)
	}
	before := w.dump()
	w.put(store.NameKey("ghost"), "0000000000000001")
	w.put(store.NameKey("other"), n.ID)
	w.put(store.VNIKey(77), "0000000000000001")
	w.put(store.DeclaredKey("0000000000000001"), "x")
	w.put(store.EndpointsKey("0000000000000001", "aaa"), `{"schema":1}`)
	w.put(store.IndexKey("0000000000000001", "aaa"), `{"schema":1}`)
	w.put(store.EndpointsKey(n.ID, "nobody"), `{"schema":1}`)
	w.put(store.BlockKey(pool6, netip.MustParsePrefix("fd00:1::/122")), `{"schema":1,"claims":[{"owner":"network","nonce":"x","addrs":["fd00:1::1"]}]}`)
	w.put("socketplane/v1/asks/10.77.0.0_24/x", `{"schema":1}`)
	w.put(store.UseKey("nobody"), `{"schema":1,"host":"nobody","pools":{}}`)
	w.put(store.PoolKey(netip.MustParsePrefix("10.66.0.0/24")), `{"schema":1,"cidr":"10.66.0.0/24","network":"0000000000000001","nonce":"x"}`)
	w.put(store.PoolKey(netip.MustParsePrefix("10.67.0.0/24")), `{"schema":1,"cidr":"10.67.0.0/24","nonce":"x"}`)
	// A network with its VNI and subnet that no host has, and one that a host has of which nobody knows.
	ghost := w.host("ghost")
	_, err := ghost.Bind(w.ctx, store.Binding{DockerID: "d9", Pools: []netip.Prefix{netip.MustParsePrefix("10.68.0.0/24")}})
	w.must(err)
	_, err = ghost.AcquirePool(w.ctx, poolA)
	w.must(err)
	w.must(ghost.Claim(w.ctx, poolA, addr("10.1.0.9"), store.HostOwner("ghost")))
	w.put(store.NetworkKey("00000000000000aa"), `{"schema":1,"id":"00000000000000aa","vni":5,"pools":["10.69.0.0/24"],"hosts":{},"nonce":"x"}`)
	w.put(store.VNIKey(5), "00000000000000aa")
	w.put(store.PoolKey(netip.MustParsePrefix("10.69.0.0/24")), `{"schema":1,"cidr":"10.69.0.0/24","network":"00000000000000aa","nonce":"x"}`)

	first, found := w.garbage(a)
	for _, want := range []string{
		"name names/ghost", "name names/other", "vni vnis/77", "declaration declared/0000000000000001",
		"endpoints endpoints/0000000000000001/aaa", "index index/0000000000000001/aaa", "endpoints endpoints/" + n.ID + "/nobody",
		"claims blocks/fd00:1::_64/fd00:0001:0000:0000:0000:0000:0000:0000", "ask asks/10.77.0.0_24/x", "use use/nobody",
		"pool pools/10.66.0.0_24", "pool pools/10.67.0.0_24", "host hosts/ghost", "network networks/00000000000000aa",
	} {
		if !slices.Contains(found, want) {
			w.Errorf("%s is not found", want)
		}
		found = slices.DeleteFunc(found, func(text string) bool { return text == want })
	}
	if len(found) > 0 {
		w.Errorf("found as garbage: %q", found)
	}
	// A record that can't be read keeps nobody from finding the others, and is not garbage; nor is what it may need.
	newer := []string{store.NetworkKey("00000000000000ff"), store.PoolKey(netip.MustParsePrefix("10.77.0.0/24")), store.HostKey("newer")}
	for _, key := range newer {
		w.put(key, `{"schema":99}`)
	}
	w.put(store.VNIKey(99), "00000000000000ff")
	w.put(store.EndpointsKey("00000000000000ff", "aaa"), `{"schema":1}`)
	spared := []string{"ask asks/10.77.0.0_24/x"}
	if _, now := w.garbage(a); len(now) != len(first)-len(spared) || slices.Contains(now, spared[0]) {
		w.Errorf("beside unreadable records %d of %d are found: %q", len(now), len(first), now)
	}
	for _, key := range append(newer, store.VNIKey(99), store.EndpointsKey("00000000000000ff", "aaa")) {
		w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpRemove, Key: key}))
	}
	// What was written since, or has become needed, stays.
	w.put(store.NameKey("ghost"), "0000000000000002")
	for _, g := range first {
		if g.Key == store.NameKey("ghost") {
			w.must(g.Remove(w.ctx))
			if _, err := w.kv.Get(w.ctx, g.Key); err != nil {
				w.Errorf("a record that was written since it was found is gone: %v", err)
			}
		}
	}
	for range 3 {
		all, _ := w.garbage(a)
		for _, g := range all {
			w.must(g.Remove(w.ctx))
			w.must(g.Remove(w.ctx)) // it can be repeated
		}
	}
	if _, found := w.garbage(a); len(found) > 0 {
		w.Errorf("left: %q", found)
	}
	if after := w.dump(); !slices.Equal(after, before) {
		w.Errorf("the cluster had\n%s\nand has\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// testGone: since when a host is away is noted once, also when those who look change, and forgotten when it is back.
func testGone(w *world) {
	a, b := w.host("aaa"), w.host("bbb")
	for _, c := range []*store.Cluster{a, b, w.host("ccc")} {
		w.must(c.PutHost(w.ctx, store.Host{Name: c.Host(), VTEP: addr("192.0.2.1")}))
	}
	w.put(store.AliveKey("bbb"), "bbb")
	began := time.Now().Truncate(time.Second)
	noted, err := a.NoteGone(w.ctx, began)
	w.must(err)
	if len(noted) != 1 || !noted["ccc"].Since.Equal(began) {
		w.Fatalf("noted: %v", noted)
	}
	later, err := b.NoteGone(w.ctx, began.Add(time.Hour))
	w.must(err)
	// Nobody holds a session for aaa here, but it is bbb that looks.
	if len(later) != 2 || later["ccc"] != noted["ccc"] || later["aaa"].By != "bbb" {
		w.Fatalf("noted later: %v", later)
	}
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpRemove, Key: store.AliveKey("bbb")}))
	w.must(a.RemoveHost(w.ctx, "ccc"))
	// A host whose record can't be read is away like any other, and can be removed.
	w.put(store.HostKey("ddd"), `{"schema":99}`)
	w.put(store.HostKey("eee"), `{"schema":1,"id":"another"}`)
	noted, err = a.NoteGone(w.ctx, began)
	w.must(err)
	if noted["ddd"].ID == "" || noted["eee"].ID == "" {
		w.Errorf("hosts with unreadable records are not noted: %v", noted)
	}
	for _, id := range []string{"ddd", "eee"} {
		w.must(a.RemoveHost(w.ctx, id))
		w.wants(a.RemoveHost(w.ctx, id), store.ErrNotFound)
	}
	noted, err = a.NoteGone(w.ctx, began)
	w.must(err)
	all, err := a.Gones(w.ctx)
	w.must(err)
	if len(noted) != 1 || len(all) != 1 || noted["bbb"].ID == "" {
		w.Errorf("after bbb went and ccc was removed: %v, %v", noted, all)
	}
}
