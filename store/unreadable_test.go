package store_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// testNewerAlone: a record that an agent can't read stops what is about it, and nothing else.
func testNewerAlone(w *world) {
	a, b := w.host("a"), w.host("b")
	w.must(b.PutHost(w.ctx, store.Host{Name: "b"}))
	for key, value := range map[string]string{
		store.NetworkKey("newer"): `{"schema":99,"id":"newer"}`, store.NetworkKey("broken"): `{`, store.NetworkKey("moved"): `{"schema":1,"id":"another"}`,
		store.PoolKey(poolB): `{"schema":99}`, store.AsksPrefix + "10.2.0.0_24/1": `{"schema":99}`,
		store.GoneKey("x"): `{"schema":99}`, store.UseKey("x"): `{"schema":99}`,
	} {
		w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: key, Value: []byte(value)}))
	}
	before := w.dump()
	made, err := a.Bind(w.ctx, binding("da", "web", poolA))
	w.must(err)
	_, err = b.Bind(w.ctx, binding("db", "web", poolA))
	w.must(err)
	_, err = b.AcquirePool(w.ctx, poolA)
	w.must(err)

	networks, unread, err := a.AllNetworks(w.ctx)
	w.must(err)
	if len(networks) != 1 || networks[0].ID != made.ID || len(unread) != 3 {
		w.Errorf("networks are %+v, unreadable %v", networks, unread)
	}
	w.wants(unread[store.NetworkKey("newer")], store.ErrNewer)
	w.wants(unread[store.NetworkKey("broken")], store.ErrInvalid)
	w.wants(unread[store.NetworkKey("moved")], store.ErrInvalid, "another")
	pools, unread, err := a.AllPools(w.ctx)
	w.must(err)
	if len(pools) != 1 || pools[0].CIDR != poolA || !slices.Equal(unread.Subnets(), []netip.Prefix{poolB}) {
		w.Errorf("pools are %+v, unreadable %v", pools, unread)
	}
	// Whoever has it, its subnet is in use.
	_, err = a.AcquirePool(w.ctx, netip.MustParsePrefix("10.2.0.0/16"))
	w.wants(err, store.ErrOverlap, poolB.String())
	for _, ask := range []func() error{
		func() error { _, err := a.Asks(w.ctx); return err },
		func() error { _, err := a.Gones(w.ctx); return err },
		func() error { _, err := a.Uses(w.ctx, poolA); return err },
	} {
		w.must(ask())
	}

	// What a host has in such a record is not known, so its own record stays.
	w.wants(a.RemoveHost(w.ctx, "b"), store.ErrNewer, "host b", "upgrade socketplane")
	if members, err := a.Hosts(w.ctx); err != nil || !members.Known("b") {
		w.Errorf("the host is gone: %+v, %v", members, err)
	}
	w.must(a.Unbind(w.ctx, made.ID, "da"))
	if after := w.dump(); !contains(after, before) {
		w.Errorf("changed\n%q to\n%q", before, after)
	}
}

// contains says whether all lines are among others.
func contains(all, lines []string) bool {
	return !slices.ContainsFunc(lines, func(line string) bool { return !slices.Contains(all, line) })
}

func FuzzUnreadableSubnets(f *testing.F) {
	f.Add(store.PoolKey(poolA))
	f.Add(store.PoolKey(pool6))
	f.Add(store.PoolsPrefix + "10.1.0.0_99")
	f.Add(store.NetworkKey("n"))
	f.Fuzz(func(t *testing.T, key string) {
		for _, p := range (store.Unreadable{key: store.ErrNewer}).Subnets() {
			if store.PoolKey(p) != key {
				t.Errorf("%q is read as %s", key, p)
			}
		}
	})
}
