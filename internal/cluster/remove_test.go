package cluster

import (
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// TestRemoveLooksItself: a host that holds all keys does not remove a member that is up, whoever asks it to.
func TestRemoveLooksItself(t *testing.T) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
	must(err)
	t.Cleanup(func() { _ = kv.Close() })
	c := alone(t, "192.0.2.1")
	creds, err := trust.Found(c.keeper.Identity(), c.subject(), false, trust.Lifetimes{}, time.Now())
	must(err)
	must(c.keeper.Set(creds))
	c.session = &session{c: c, id: creds.Cluster(), st: store.NewCluster(kv, c.opts.Host)}
	const other = "other000"
	must(c.session.st.PutMember(ctx, store.Member{ID: other, Name: "o", Addr: netip.MustParseAddr("192.0.2.2"), Port: 4780, Key: "00"}))
	must(store.NewCluster(kv, other).PutHost(ctx, store.Host{ID: other, Name: "o"}))
	must(kv.Apply(ctx, store.Op{Kind: store.OpPut, Key: store.AliveKey(other), Value: []byte("x")}))
	member := func() bool {
		members, err := c.session.st.Members(ctx)
		must(err)
		_, in := memberOf(members, other)
		return in
	}
	if err := c.Remove(ctx, other); !errors.Is(err, store.ErrConflict) || !member() {
		t.Errorf("a host that is up: %v, it is a member still: %v", err, member())
	}
	must(kv.Apply(ctx, store.Op{Kind: store.OpRemove, Key: store.AliveKey(other)}))
	must(c.Remove(ctx, other))
	if hosts, err := c.session.st.Hosts(ctx); err != nil || member() || hosts.Known(other) {
		t.Errorf("a host that is down has records still: %v", err)
	}
}
