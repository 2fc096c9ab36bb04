package onehost

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
)

// TestRemovedHostComesBack: a host that was taken for gone for good, while its containers ran on, comes back as a new one:
// its record, network, addresses and endpoints are in the cluster again, but for an address that somebody else got meanwhile.
func TestRemovedHostComesBack(t *testing.T) {
	server := testenv.Consul(t)
	h := newHost(t, "--store", "consul", "--consul-addr", "unix://"+server.Socket)
	kv, err := consul.Open(consul.Options{Address: server.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	h.start()
	ctx := h.Deadline(3 * patience)
	n, err := h.Docker().Network(ctx, id("net", 1), "10.1.0.0/24", "")
	if err != nil {
		t.Fatal(err)
	}
	kept, err := n.Join(ctx, id("ep", 1), mac(1))
	if err != nil {
		t.Fatal(err)
	}
	lost, err := n.Join(ctx, id("ep", 2), mac(2))
	if err != nil {
		t.Fatal(err)
	}
	info, err := h.admin().Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	me, network := info.Host.ID, info.Networks[0].ID
	other := store.NewCluster(kv, "other")
	pool := netip.MustParsePrefix("10.1.0.0/24")
	if err := other.PutHost(ctx, store.Host{Name: "other", VTEP: netip.MustParseAddr("192.0.2.2")}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Bind(ctx, store.Binding{DockerID: "d", Pools: []netip.Prefix{pool}}); err != nil {
		t.Fatal(err)
	}
	h.kill()
	// Its session would live on for half a minute.
	if err := kv.Apply(ctx, store.Op{Kind: store.OpRemove, Key: store.AliveKey(me)}, store.Op{Kind: store.OpRemove, Key: store.FormerAliveKey(me)}); err != nil {
		t.Fatal(err)
	}
	if err := other.RemoveHost(ctx, me); err != nil {
		t.Fatal(err)
	}
	if err := other.Claim(ctx, pool, netip.MustParseAddr(lost.Addr), store.HostOwner("other")); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.Eventually("the host is back", func() error {
		members, err := other.Hosts(ctx)
		if err != nil {
			return err
		}
		bindings, err := other.BoundTo(ctx, network)
		if err != nil {
			return err
		}
		endpoints, err := other.Endpoints(ctx, network, me)
		if err != nil {
			return err
		}
		var ids []string
		for _, e := range endpoints.Endpoints {
			ids = append(ids, e.ID)
		}
		blocks, err := other.Blocks(ctx, pool)
		if err != nil {
			return err
		}
		owner := map[string]string{}
		for _, b := range blocks {
			for a, c := range b.Claims {
				owner[a.String()] = c.Owner.String()
			}
		}
		if members.Hosts[me].ID != me || !members.Alive[me] || bindings[me].DockerID != n.ID || !slices.Equal(ids, []string{kept.ID, lost.ID}) ||
			owner[kept.Addr] != me || owner[lost.Addr] != "other" {
			return fmt.Errorf("host %v, on the network as %q, endpoints %q, claims %v", members.Hosts[me], bindings[me].DockerID, ids, owner)
		}
		return nil
	})
	h.Eventually("the log says what to do about the address that somebody else has", func() error {
		if !strings.Contains(h.log(), "restart these containers") {
			return errNotYet
		}
		return nil
	})
}
