package operator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// counted is a store of which the records that are read, and the questions, are counted.
type counted struct {
	store.KV
	records, questions atomic.Int64
}

func (c *counted) Get(ctx context.Context, key string) (store.Entry, error) {
	c.records.Add(1)
	c.questions.Add(1)
	return c.KV.Get(ctx, key)
}

func (c *counted) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	all, err := c.KV.List(ctx, prefix)
	c.records.Add(int64(len(all)))
	c.questions.Add(1)
	return all, err
}

// during counts the records and questions of do.
func (c *counted) during(do func()) (records, questions int64) {
	r, q := c.records.Load(), c.questions.Load()
	do()
	return c.records.Load() - r, c.questions.Load() - q
}

// noAddresses is address management that has handed nothing out.
type noAddresses struct{ Addresses }

func (noAddresses) Use(context.Context, netip.Prefix, map[string][]netip.Addr) ([]ipamdriver.Use, error) {
	return nil, nil
}

// newOperator is one of a host of a cluster in a file.
func newOperator(t *testing.T) (*Operator, *counted) {
	t.Helper()
	kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	c := &counted{KV: kv}
	return New(Deps{Cluster: store.NewCluster(c, "h0"), Addresses: noAddresses{}, MTU: func() int { return 1450 }}), c
}

// fill makes networks that so many hosts have, each with endpoints on each host.
func (c *counted) fill(t *testing.T, networks, hosts, endpoints int) {
	t.Helper()
	for h := range hosts {
		cluster := store.NewCluster(c.KV, fmt.Sprint("h", h))
		if err := cluster.PutHost(t.Context(), store.Host{Name: fmt.Sprintf("host%03d", h), VTEP: netip.MustParseAddr("192.0.2.1")}); err != nil {
			t.Fatal(err)
		}
		for i := range networks {
			pool := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)
			n, err := cluster.Bind(t.Context(), store.Binding{DockerID: fmt.Sprint("docker", i), Name: fmt.Sprintf("net%03d", i), Pools: []netip.Prefix{pool}})
			if err != nil {
				t.Fatal(err)
			}
			var all []store.Endpoint
			for e := range endpoints {
				all = append(all, store.Endpoint{ID: fmt.Sprintf("e%d-%d-%d", i, h, e), MAC: "02:42:0a:01:00:02", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2")},
					Container: &store.Container{ID: "c", Name: fmt.Sprintf("shop-%04d", endpoints-e), Labels: map[string]string{"com.docker.compose.project": "shop"}}})
			}
			if err := cluster.PutEndpoints(t.Context(), n.ID, all); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestOneNetworkIsReadAlone: what is asked of one network costs the same among few networks and among many.
func TestOneNetworkIsReadAlone(t *testing.T) {
	cost := func(networks int) (network, endpoints int64) {
		o, c := newOperator(t)
		c.fill(t, networks, 3, 2)
		network, _ = c.during(func() {
			if n, err := o.Network(t.Context(), "net001"); err != nil || n.Name != "net001" || n.Endpoints != 6 || len(n.Hosts) != 3 {
				t.Errorf("the network is %+v, %v", n, err)
			}
		})
		endpoints, _ = c.during(func() {
			found := 0
			if err := o.Endpoints(t.Context(), "net001", func(adminapi.Endpoint) error { found++; return nil }); err != nil || found != 6 {
				t.Errorf("%d endpoints, %v", found, err)
			}
		})
		return network, endpoints
	}
	few, fewEndpoints := cost(2)
	many, manyEndpoints := cost(60)
	t.Logf("records read for one network: %d, for its endpoints: %d", many, manyEndpoints)
	if few != many || fewEndpoints != manyEndpoints {
		t.Errorf("records read for one network of 2: %d and %d, of 60: %d and %d", few, fewEndpoints, many, manyEndpoints)
	}
}

// TestInspectReadsOnce: a network with its endpoints costs what its endpoints cost, and its bindings; no endpoint is read twice.
func TestInspectReadsOnce(t *testing.T) {
	o, c := newOperator(t)
	const hosts, each = 40, 3
	c.fill(t, 2, hosts, each)
	found := 0
	count := func(adminapi.Endpoint) error { found++; return nil }
	endpoints, _ := c.during(func() {
		if err := o.Endpoints(t.Context(), "net001", count); err != nil || found != hosts*each {
			t.Errorf("%d endpoints, %v", found, err)
		}
	})
	found = 0
	records, _ := c.during(func() {
		n, err := o.Inspect(t.Context(), "net001", count)
		if err != nil || found != hosts*each || n.Endpoints != found || len(n.Hosts) != hosts || n.Hosts[3].Endpoints != each {
			t.Errorf("%d endpoints of network %+v, %v", found, n, err)
		}
	})
	if most := endpoints + hosts + 4; records > most {
		t.Errorf("%d records were read for a network with its endpoints, %d for the endpoints, want at most %d", records, endpoints, most)
	}
	if _, err := o.Inspect(t.Context(), "none", count); !errors.Is(err, adminapi.ErrNotFound) {
		t.Errorf("a network that is not there: %v", err)
	}
}

// TestListReadsEachRecordOnce: a list of networks reads no record twice, and none of claims. Besides two questions for each network, one for each
// form of endpoints, it asks for the networks, the hosts, and who is alive.
func TestListReadsEachRecordOnce(t *testing.T) {
	o, c := newOperator(t)
	const networks, hosts = 20, 5
	c.fill(t, networks, hosts, 1)
	var names []string
	records, questions := c.during(func() {
		if err := o.Networks(t.Context(), func(n adminapi.NetworkDetail) error { names = append(names, n.Name); return nil }); err != nil {
			t.Error(err)
		}
	})
	if len(names) != networks || names[0] != "net000" || names[networks-1] != "net019" {
		t.Errorf("the networks are %v", names)
	}
	if want := int64(networks + hosts + networks*hosts); records > want || questions > 2*networks+3 {
		t.Errorf("%d records with %d questions, want %d and %d at most", records, questions, want, 2*networks+3)
	}
}

// TestFind: a text that means two networks is refused; what is being removed gives way to what has its name now, and a command that gives a whole id gets that.
func TestFind(t *testing.T) {
	o, c := newOperator(t)
	for _, n := range []store.Network{
		{ID: "aaaa000000000001", Name: "web", State: store.Deleting}, {ID: "aaaa000000000002", Name: "web"},
		{ID: "bbbb000000000003", Name: "aaaa000000000001"}, {ID: "cccc000000000004"}, {ID: "dddd000000000005", Name: "old", State: store.Deleting},
	} {
		n.Schema = store.Schema
		ops := []store.Op{{Kind: store.OpPut, Key: store.NetworkKey(n.ID), Value: store.Encode(n)}}
		if n.Name != "" && n.State != store.Deleting {
			ops = append(ops, store.Op{Kind: store.OpPut, Key: store.NameKey(n.Name), Value: []byte(n.ID)})
		}
		if err := c.Apply(t.Context(), ops...); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]string{
		"web": "aaaa000000000002", "aaaa000000000002": "aaaa000000000002", "bbbb": "bbbb000000000003", "cccc000000000004": "cccc000000000004", "old": "dddd000000000005",
		"aaaa000000000001": "is the name of one network (id bbbb000000000003) and the id of another",
		"aaaa":             "has no network aaaa", "": "has no network", "../x y": "has no network",
	} {
		n, err := o.find(t.Context(), text)
		if err != nil {
			n.ID = err.Error()
		}
		if !strings.Contains(n.ID, want) {
			t.Errorf("%q means %s, want %s", text, n.ID, want)
		}
	}
	if n, err := o.given(t.Context(), "aaaa000000000001"); err != nil || n.ID != "aaaa000000000001" {
		t.Errorf("the whole id gives %s, %v", n.ID, err)
	}
	if _, err := o.Network(t.Context(), "nope"); !errors.Is(err, adminapi.ErrNotFound) {
		t.Errorf("a network that is not there: %v", err)
	}
}
