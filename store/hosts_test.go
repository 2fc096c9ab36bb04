package store_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/socketplane/socketplane/store"
)

func testEndpoints(w *world) {
	a, b := w.host("a"), w.host("b")
	own := []store.Endpoint{{ID: "e1", MAC: "02:00:00:00:00:01", Addrs: []netip.Addr{addr("10.1.0.2")}}}
	w.wants(a.PutEndpoints(w.ctx, "unknown", own), store.ErrNotFound, "unknown")
	w.must(a.PutEndpoints(w.ctx, "unknown", nil))
	w.empty()
	n, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	w.wants(b.PutEndpoints(w.ctx, n.ID, own), store.ErrNotFound) // exists, but not there
	w.must(a.PutEndpoints(w.ctx, n.ID, own))
	got, err := b.Endpoints(w.ctx, n.ID, "a")
	w.must(err)
	if len(got.Endpoints) != 1 || got.Endpoints[0].ID != "e1" || got.Host != "a" || got.Network != n.ID {
		w.Fatalf("endpoints are %+v", got)
	}
	none, err := b.Endpoints(w.ctx, n.ID, "b")
	w.must(err)
	if len(none.Endpoints) != 0 {
		w.Fatalf("endpoints of b are %+v", none)
	}
	own[0].MTU = 1450
	w.must(a.PutEndpoints(w.ctx, n.ID, own))
	if got, err = b.Endpoints(w.ctx, n.ID, "a"); err != nil || len(got.Endpoints) != 1 || got.Endpoints[0].MTU != 1450 {
		w.Fatalf("endpoints are %+v, %v", got, err)
	}
	w.must(a.Unbind(w.ctx, n.ID, "da"))
	w.wants(a.PutEndpoints(w.ctx, n.ID, own), store.ErrNotFound) // too late: nothing comes back
	w.empty()
}

// testEndpointsFormer: in the first layout the index tells each change of a host's endpoints.
func testEndpointsFormer(w *world) {
	a, b := w.host("a"), w.host("b")
	n, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	w.must(a.PutEndpoints(w.ctx, n.ID, []store.Endpoint{{ID: "e1"}}))
	all, index, err := b.WatchIndexes(w.ctx, n.ID, 0)
	w.must(err)
	seen := all[n.ID]
	if len(seen) != 1 || seen["a"] == 0 {
		w.Fatalf("index is %v", seen)
	}
	deposed := remembers(w, store.EndpointsKey(n.ID, "a"))
	w.must(a.PutEndpoints(w.ctx, n.ID, []store.Endpoint{{ID: "e1", MTU: 1450}}))
	all, next, err := b.WatchIndexes(w.ctx, n.ID, index)
	w.must(err)
	again := all[n.ID]
	// A leader that was deposed while it stood still answers single reads from what it knows.
	got, err := store.NewCluster(deposed, "b").EndpointsAt(w.ctx, n.ID, "a", again["a"])
	w.must(err)
	if fresh, err := b.Endpoints(w.ctx, n.ID, "a"); err != nil || got.Revision != fresh.Revision {
		w.Fatalf("endpoints of the index %v are %+v, and %+v, %v now", again, got, fresh, err)
	}
	if again["a"] == seen["a"] || next == index {
		w.Fatalf("index is %v after %v", again, seen)
	}
	w.must(a.Unbind(w.ctx, n.ID, "da"))
	w.empty()
}

func testHosts(w *world) {
	a := w.host("a")
	want := store.Host{Name: "alpha", VTEP: addr("192.0.2.1"), Subnets: []netip.Prefix{poolA}, Version: "1"}
	w.must(a.PutHost(w.ctx, want))
	w.must(w.host("b").PutHost(w.ctx, store.Host{Name: "beta"}))
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.AliveKey("a"), Value: []byte("x")}))
	m, index, err := a.WatchHosts(w.ctx, 0)
	w.must(err)
	listed, err := a.Hosts(w.ctx)
	w.must(err)
	for _, m := range []store.Membership{m, listed} {
		if got := m.Hosts["a"]; got.Name != "alpha" || got.ID != "a" || got.VTEP != want.VTEP || !slices.Equal(got.Subnets, want.Subnets) {
			w.Errorf("host is %+v", got)
		}
		if len(m.Hosts) != 2 {
			w.Errorf("membership is %+v", m)
		}
	}
	if !listed.Alive["a"] || listed.Alive["b"] {
		w.Errorf("alive are %v", listed.Alive)
	}
	w.must(a.PutHost(w.ctx, store.Host{Name: "renamed"}))
	m, _, err = a.WatchHosts(w.ctx, index)
	w.must(err)
	if m.Hosts["a"].Name != "renamed" {
		w.Errorf("host is %+v", m.Hosts["a"])
	}
}

// testNewerSchema: what a newer agent wrote is refused with the cure, and never overwritten.
func testNewerSchema(w *world) {
	newer := `{"schema":99,"hosts":{"b":"db"}}`
	for _, key := range []string{
		store.PoolKey(poolA), store.NetworkKey("n"), store.BlockKey(poolB, store.BlockOf(poolB, addr("10.2.0.1"))), store.HostKey("b"),
	} {
		w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: key, Value: []byte(newer)}))
	}
	a, before := w.host("a"), w.dump()
	_, acquire := a.AcquirePool(w.ctx, poolA)
	_, bind := a.Bind(w.ctx, binding("da", "", poolA))
	_, unread, err := a.AllNetworks(w.ctx)
	w.must(err)
	_, unreadPools, err := a.AllPools(w.ctx)
	w.must(err)
	members, err := a.Hosts(w.ctx)
	w.must(err)
	w.wants(members.Unreadable["b"], store.ErrNewer, "upgrade socketplane")
	for name, err := range map[string]error{
		"acquire": acquire, "bind": bind, "networks": unread.Err(), "pools": unreadPools.Err(),
		"release": a.ReleasePool(w.ctx, poolA), "unbind": a.Unbind(w.ctx, "n", "da"),
		"claim": a.Claim(w.ctx, poolB, addr("10.2.0.1"), store.HostOwner("a")), "unclaim": a.Unclaim(w.ctx, poolB, store.HostOwner("a"), addr("10.2.0.1")),
	} {
		w.Log(name)
		w.wants(err, store.ErrInvalid, "schema 99", "upgrade socketplane")
	}
	if after := w.dump(); !slices.Equal(after, before) {
		w.Fatalf("changed %q to %q", before, after)
	}
}

func testEndedContext(w *world) {
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	a := w.host("a")
	_, acquire := a.AcquirePool(ctx, poolA)
	_, bind := a.Bind(ctx, binding("da", "", poolA))
	for _, err := range []error{acquire, bind, a.PutHost(ctx, store.Host{}), a.ReleasePool(ctx, poolA)} {
		w.wants(err, store.ErrUnavailable)
		w.wants(err, context.Canceled)
	}
	w.empty()
}

// TestRecords holds the stored form of each record: other versions of the agent read it.
func TestRecords(t *testing.T) {
	for want, record := range map[string]any{
		`{"schema":1,"id":"n","name":"web","vni":7,"pools":["10.1.0.0/24","fd00:1::/64"],"mtu":1400,"internal":true,"nonce":"x","hosts":{"a":"da"},"away":["b"]}`: store.NetworkRecord{
			Network: store.Network{Schema: 1, ID: "n", Name: "web", VNI: 7, Pools: []netip.Prefix{poolA, pool6}, MTU: 1400, Internal: true, Nonce: "x"},
			Hosts:   map[string]string{"a": "da"}, Away: []string{"b"}},
		`{"schema":1,"id":"n","vni":7,"pools":["10.1.0.0/24"],"nonce":"x","hosts":{}}`: store.NetworkRecord{
			Network: store.Network{Schema: 1, ID: "n", VNI: 7, Pools: []netip.Prefix{poolA}, Nonce: "x"}, Hosts: map[string]string{}},
		`{"schema":2,"id":"n","vni":7,"pools":["10.1.0.0/24"],"state":"closing","nonce":"x"}`: store.NetworkRecord{
			Network: store.Network{Schema: 2, ID: "n", VNI: 7, Pools: []netip.Prefix{poolA}, State: store.Closing, Nonce: "x"}},
		`{"schema":1,"docker_id":"da"}`: store.BoundRecord{Schema: 1, DockerID: "da"},
		`{"schema":1,"let_go":7}`:       store.BoundRecord{Schema: 1, LetGo: 7},
		`{"schema":1,"cidr":"10.1.0.0/24","network":"n","gateway":"10.1.0.1","nonce":"x","hosts":["a"]}`: store.PoolRecord{
			Pool: store.Pool{Schema: 1, CIDR: poolA, Network: "n", Gateway: addr("10.1.0.1"), Nonce: "x"}, Holders: []store.Owner{store.HostOwner("a")}},
		`{"schema":1,"cidr":"10.1.0.0/24","nonce":"x"}`: store.Pool{Schema: 1, CIDR: poolA, Nonce: "x"},
		`{"schema":1,"claims":[{"owner":"a","nonce":"x","addrs":["10.1.0.2-10.1.0.4","10.1.0.6"]},{"owner":"a","nonce":"y","addrs":["10.1.0.5"]}]}`: store.Block{
			Schema: 1, Claims: store.Claims{
				addr("10.1.0.2"): {Owner: store.HostOwner("a"), Nonce: "x"}, addr("10.1.0.3"): {Owner: store.HostOwner("a"), Nonce: "x"}, addr("10.1.0.4"): {Owner: store.HostOwner("a"), Nonce: "x"},
				addr("10.1.0.5"): {Owner: store.HostOwner("a"), Nonce: "y"}, addr("10.1.0.6"): {Owner: store.HostOwner("a"), Nonce: "x"}}},
		`{"schema":1,"id":"a","name":"alpha","vtep":"192.0.2.1","subnets":["10.1.0.0/24"],"version":"1","started":"2026-01-02T03:04:05Z"}`: store.Host{
			Schema: 1, ID: "a", Name: "alpha", VTEP: addr("192.0.2.1"), Subnets: []netip.Prefix{poolA}, Version: "1",
			Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		`{"schema":1,"network":"n","host":"a","revision":"r","endpoints":[{"id":"e","mac":"02:00:00:00:00:01","addrs":["10.1.0.2"]}]}`: store.Endpoints{
			Schema: 1, Network: "n", Host: "a", Revision: "r",
			Endpoints: []store.Endpoint{{ID: "e", MAC: "02:00:00:00:00:01", Addrs: []netip.Addr{addr("10.1.0.2")}}}},
		`{"schema":1,"revision":"r"}`:          store.Index{Schema: 1, Revision: "r"},
		`{"schema":1,"h":{"a":"h1","b":"h2"}}`: store.HostHeads{Schema: 1, Hashes: map[string]string{"b": "h2", "a": "h1"}},
		`{"schema":1,"host":"a","nonce":"x"}`:  store.JanitorRecord{Schema: 1, Host: "a", Nonce: "x"},
	} {
		if got := string(store.Encode(record)); got != want {
			t.Errorf("%T is stored as\n%s, want\n%s", record, got, want)
		}
	}
}

// TestKeys holds the keys: they are part of the stored form too, and must be valid.
func TestKeys(t *testing.T) {
	for got, want := range map[string]string{
		store.NetworkKey("n"): "socketplane/v1/networks/n",
		store.NameKey("web"):  "socketplane/v1/names/web",
		store.VNIKey(7):       "socketplane/v1/vnis/7",
		store.PoolKey(poolA):  "socketplane/v1/pools/10.1.0.0_24",
		store.PoolKey(pool6):  "socketplane/v1/pools/fd00:1::_64",
		store.BlockKey(poolA, store.BlockOf(poolA, addr("10.1.0.70"))): "socketplane/v1/blocks/10.1.0.0_24/10.1.0.64",
		store.BlockKey(pool6, store.BlockOf(pool6, addr("fd00:1::1"))): "socketplane/v1/blocks/fd00:1::_64/fd00:0001:0000:0000:0000:0000:0000:0000",
		store.HostKey("a"):                                                  "socketplane/v1/hosts/a",
		store.AliveKey("a"):                                                 "socketplane/v1/alive/a",
		store.FormerAliveKey("a"):                                           "socketplane/v1/hosts/a/alive",
		store.LayoutKey:                                                     "socketplane/v1/layout",
		store.JanitorKey:                                                    "socketplane/v1/janitor",
		store.HostHeadsKey(store.HostShardOf("a")):                          "socketplane/v1/hostheads/c",
		store.HostShardKey(store.HostShardOf("a")):                          "socketplane/v1/hostshards/c",
		store.BoundKey("n", "a"):                                            "socketplane/v1/bound/n/a",
		store.HolderKey(poolA, store.HostOwner("a")):                        "socketplane/v1/holders/10.1.0.0_24/a",
		store.HolderKey(pool6, store.SwarmOwner()):                          "socketplane/v1/holders/fd00:1::_64/swarm",
		store.EndpointsKey("n", "a"):                                        "socketplane/v1/endpoints/n/a",
		store.IndexKey("n", "a"):                                            "socketplane/v1/index/n/a",
		store.PoolsRevisionKey:                                              "socketplane/v1/pools-revision",
		store.LocalPeerKey("n", "a"):                                        "socketplane/v1/local/peers/n/a",
		store.LocalEndpointKey("d", "e"):                                    "socketplane/v1/local/endpoints/d/e",
		store.LocalAddressKey(poolA, addr("10.1.0.2")):                      "socketplane/v1/local/addresses/10.1.0.0_24/10.1.0.2",
		store.LocalBlockKey(pool6, store.BlockOf(pool6, addr("fd00:1::1"))): "socketplane/v1/local/blocks/fd00:1::_64/fd00:0001:0000:0000:0000:0000:0000:0000",
	} {
		if got != want {
			t.Errorf("key is %s, want %s", got, want)
		}
		if err := store.ValidKey(got); err != nil {
			t.Error(err)
		}
	}
}

// remembering answers Get with the entry that a key had once.
type remembering struct {
	store.KV
	entry store.Entry
}

func remembers(w *world, key string) store.KV {
	e, err := w.kv.Get(w.ctx, key)
	w.must(err)
	return remembering{w.kv, e}
}

func (r remembering) Get(ctx context.Context, key string) (store.Entry, error) {
	if key == r.entry.Key {
		return r.entry, nil
	}
	return r.KV.Get(ctx, key)
}

func TestParseLocalAddressKey(t *testing.T) {
	for _, key := range []string{store.LocalAddressKey(poolA, addr("10.1.0.2")), store.LocalAddressKey(pool6, addr("fd00:1::"))} {
		pool, a, err := store.ParseLocalAddressKey(key)
		if err != nil || store.LocalAddressKey(pool, a) != key {
			t.Errorf("%s is read as %s of %s, %v", key, a, pool, err)
		}
	}
	for _, key := range []string{
		"", store.LocalAddresses, store.LocalAddresses + "10.1.0.0_24", store.LocalAddresses + "10.1.0.0_24/", store.LocalAddresses + "10.1.0.0_24/10.2.0.1",
		store.LocalAddresses + "10.1.0.0/24/10.1.0.1", store.LocalAddresses + "10.1.0.0_24/fd00::1", store.LocalAddresses + "fd00::_64/fd00:0::1", "10.1.0.0_24/10.1.0.1",
	} {
		if _, _, err := store.ParseLocalAddressKey(key); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%q is read: %v", key, err)
		}
	}
}
