package onehost

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
	"github.com/socketplane/socketplane/test/internal/bare"
)

// garbage is one thing of a kind that we make.
type garbage struct {
	kind  string
	plant func()
	// there says whether it is there.
	there func() bool
	// foreign says that it is not ours, and must stay.
	foreign bool
}

// TestGarbage plants what crashes, restored data and other hosts may leave of every kind of thing that we make, with foreign things
// beside it: the ones are told by the doctor where that is of use and go by themselves, the others stay.
func TestGarbage(t *testing.T) {
	server := testenv.Consul(t)
	h := newHost(t, "--store", "consul", "--consul-addr", "unix://"+server.Socket, "--garbage-grace", "10m")
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
	e, err := n.Join(ctx, id("ep", 1), mac(1))
	if err != nil {
		t.Fatal(err)
	}
	info, err := h.admin().Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := &planter{h: h, ctx: ctx, kv: kv, me: info.Host.ID, network: info.Networks[0].ID, device: h.device()}
	h.stop()

	things := w.things()
	for _, g := range things {
		if g.plant(); !g.there() {
			t.Fatalf("%s: it could not be planted", g.kind)
		}
	}
	// What belongs to the cluster waits for its grace, and the doctor tells of it meanwhile.
	h.start()
	checks, err := h.admin().Doctor(ctx)
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for _, c := range checks {
		if c.Name == "stale state" {
			said = c.State + ": " + c.Text
		}
	}
	for _, part := range []string{"warning", "names/ghost", "vnis/77", "hosts/nobody", "removed after 10m"} {
		if !strings.Contains(said, part) {
			t.Errorf("the doctor does not say %q: %s", part, said)
		}
	}
	h.stop()
	h.flags = append(h.flags, "--garbage-grace", "1s", "--host-expiry", "2s")
	h.start()
	for _, g := range things {
		if !g.foreign {
			h.Eventually(g.kind+" is gone", func() error {
				if g.there() {
					return errNotYet
				}
				return nil
			})
		}
	}
	for _, g := range things {
		if g.foreign && !g.there() {
			t.Errorf("%s is gone, which is not ours", g.kind)
		}
	}
	if got := h.metric("socketplane_endpoints"); got != 1 || h.IP("-br", "link", "show", e.Link) == "" {
		t.Errorf("of the container's own %v endpoints are left", got)
	}
	log := h.log()
	for _, part := range []string{"removing a record that nothing needs", "removing a link that nothing needs", "giving back addresses that no container has",
		"removing a host whose agent has been away for too long", "ending a network of this host that was never finished",
		"removing records of networks that are not on this host"} {
		if !strings.Contains(log, part) {
			t.Errorf("the log does not say %q", part)
		}
	}
	if err := e.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	if err := n.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	h.Eventually("nothing of the network is left in Consul", func() error { return w.onlyForeign() })
}

// planter knows where to plant.
type planter struct {
	h                   *host
	ctx                 context.Context
	kv                  store.KV
	me, network, device string
}

// device is the name of the host's VXLAN device.
func (h *host) device() string {
	h.T.Helper()
	return strings.Fields(h.IP("-br", "link", "show", "type", "vxlan"))[0]
}

func (w *planter) things() []garbage {
	all := append(w.links(), w.switched()...)
	all = append(all, w.local()...)
	return append(all, w.cluster()...)
}

func (w *planter) has(text string, args ...string) bool {
	return strings.Contains(w.h.IP(args...), text)
}

func (w *planter) links() []garbage {
	veth := func(name, alias string) func() {
		return func() {
			w.h.IP("link", "add", name, "type", "veth", "peer", "name", name+"x")
			if alias != "" {
				w.h.IP("link", "set", name, "alias", alias)
			}
		}
	}
	vxlan := func(name, vni, port, alias string) func() {
		return func() {
			w.h.IP("link", "add", name, "type", "vxlan", "id", vni, "dstport", port, "local", underlay)
			if alias != "" {
				w.h.IP("link", "set", name, "alias", alias)
			}
		}
	}
	link := func(name string) func() bool {
		return func() bool { return w.has(" "+name+"@", "-o", "link") || w.has(" "+name+":", "-o", "link") }
	}
	entry := "02:aa:aa:aa:aa:aa dst 192.0.2.77"
	return []garbage{
		{"veth", veth("sphdead", "socketplane:endpoint:dead"), link("sphdead"), false},
		{"another's veth", veth("theirs", ""), link("theirs"), true},
		{"another's veth with an alias", veth("theirs2", "their:own"), link("theirs2"), true},
		{"VXLAN device", vxlan("spxdead", "99", "4789", "socketplane:vxlan:dead"), link("spxdead"), false},
		{"another's VXLAN device", vxlan("vxtheirs", "9", "4790", ""), link("vxtheirs"), true},
		{"forwarding entry", func() {
			w.h.Run("bridge", "-n", w.h.NS, "fdb", "add", "02:aa:aa:aa:aa:aa", "dev", w.device, "dst", "192.0.2.77")
		}, func() bool {
			return strings.Contains(w.h.Run("bridge", "-n", w.h.NS, "fdb"), w.device) && strings.Contains(w.h.Run("bridge", "-n", w.h.NS, "fdb", "show", "dev", w.device), entry)
		}, false},
		{"another's forwarding entry", func() {
			w.h.Run("bridge", "-n", w.h.NS, "fdb", "add", "02:bb:bb:bb:bb:bb", "dev", "vxtheirs", "dst", "192.0.2.88")
		}, func() bool {
			return strings.Contains(w.h.Run("bridge", "-n", w.h.NS, "fdb", "show", "dev", "vxtheirs"), "02:bb:bb:bb:bb:bb")
		}, true},
	}
}

func (w *planter) switched() []garbage {
	port := func(name string, ids ...string) func() {
		return func() {
			w.h.OVS.Vsctl(append([]string{"add-port", bare.Bridge, name, "--", "set", "Interface", name, "type=internal", "--", "set", "Port", name}, ids...)...)
		}
	}
	ports := func(name string) func() bool {
		return func() bool {
			return strings.Contains("\n"+w.h.OVS.Vsctl("list-ports", bare.Bridge)+"\n", "\n"+name+"\n")
		}
	}
	flow := func(flow string) func() {
		return func() { w.h.OVS.Ofctl("add-flow", bare.Bridge, flow) }
	}
	flows := func(text string) func() bool {
		return func() bool { return strings.Contains(strings.Join(w.h.OVS.Flows(bare.Bridge), "\n"), text) }
	}
	return []garbage{
		{"port", port("deadport", "external_ids:socketplane=endpoint", "external_ids:socketplane-endpoint=dead"), ports("deadport"), false},
		{"another's port", port("guest", "external_ids:their=own"), ports("guest"), true},
		{"flow", flow("cookie=0x5350000000000007,table=0,priority=9,in_port=999,actions=drop"), flows("in_port=999"), false},
		{"another's flow", flow("cookie=0x1234,table=0,priority=9,in_port=998,actions=drop"), flows("in_port=998"), true},
		{"another's bridge", func() {
			w.h.OVS.Vsctl("add-br", "theirbr", "--", "set", "Bridge", "theirbr", "datapath_type=netdev")
		}, func() bool { return strings.Contains(w.h.OVS.Vsctl("list-br"), "theirbr") }, true},
	}
}

// local are records of the host's own store, which can be planted while no agent has it open; what is there is seen in the log.
func (w *planter) local() []garbage {
	planted := false
	return []garbage{{"local records of a network that is not here", func() {
		kv := openDB(w.h.T, w.h.Path("state/local.db"))
		defer kv.Close()
		w.put(kv, store.LocalEndpointKey("deaddocker", "deadendpoint"), `{"schema":1,"id":"deadendpoint","docker_id":"deaddocker","port":7,"host_link":"sphx","peer_link":"spcx"}`)
		w.put(kv, store.LocalPeerKey("deadnetwork", "deadhost"), `{"schema":1,"network":"deadnetwork","host":"deadhost"}`)
		planted = true
	}, func() bool {
		return planted && !strings.Contains(w.h.log(), "removing records of networks that are not on this host")
	}, false}}
}

func (w *planter) put(kv store.KV, key, value string) {
	w.h.T.Helper()
	if err := kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: key, Value: []byte(value)}); err != nil {
		w.h.T.Fatal(err)
	}
}

func (w *planter) get(key string) string {
	e, err := w.kv.Get(w.ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		w.h.T.Fatal(err)
	}
	return string(e.Value)
}

func (w *planter) cluster() []garbage {
	record := func(kind, key, value string, foreign bool) garbage {
		return garbage{kind, func() { w.put(w.kv, key, value) }, func() bool { return w.get(key) != "" }, foreign}
	}
	pool := netip.MustParsePrefix("10.1.0.0/24")
	claim := func(kind string, owner store.Owner, addr string, foreign bool) garbage {
		return garbage{kind, func() {
			if err := store.NewCluster(w.kv, "planter").Claim(w.ctx, pool, netip.MustParseAddr(addr), owner); err != nil {
				w.h.T.Fatal(err)
			}
		}, func() bool {
			blocks, err := store.NewCluster(w.kv, "planter").Blocks(w.ctx, pool)
			if err != nil {
				w.h.T.Fatal(err)
			}
			for _, b := range blocks {
				if b.Claims[netip.MustParseAddr(addr)].Owner == owner {
					return true
				}
			}
			return false
		}, foreign}
	}
	away := store.Host{Schema: 1, ID: "away", Name: "away", VTEP: netip.MustParseAddr("192.0.2.9"), Started: time.Now()}
	return []garbage{
		record("name", store.NameKey("ghost"), "0000000000000001", false),
		record("VNI", store.VNIKey(77), "0000000000000001", false),
		record("declaration", store.DeclaredKey("0000000000000001"), "x", false),
		record("endpoints of a network that is gone", store.EndpointsKey("0000000000000001", w.me), `{"schema":1}`, false),
		record("index of a network that is gone", store.IndexKey("0000000000000001", w.me), `{"schema":1}`, false),
		record("part of a network that is gone", store.PartKey("0000000000000001", w.me, 0), `{"schema":1}`, false),
		record("labels of a network that is gone", store.LabelsKey("0000000000000001", w.me, 0), `{"schema":1}`, false),
		record("head of a network that is gone", store.HeadKey("0000000000000001", w.me), `{"schema":1}`, false),
		record("shard of a network that is gone", store.ShardKey("0000000000000001", "0a"), "x", false),
		record("network", store.NetworkKey("00000000000000aa"), `{"schema":1,"id":"00000000000000aa","vni":5,"pools":["10.69.0.0/24"],"hosts":{},"nonce":"x"}`, false),
		record("subnet", store.PoolKey(netip.MustParsePrefix("10.67.0.0/24")), `{"schema":1,"cidr":"10.67.0.0/24","nonce":"x"}`, false),
		record("claims of a subnet that is gone", store.BlockKey(netip.MustParsePrefix("10.70.0.0/26"), netip.MustParsePrefix("10.70.0.0/26")), `{"schema":1,"claims":[]}`, false),
		claim("address of this host that it does not know", store.HostOwner(w.me), "10.1.0.40", false),
		claim("address of a host that nobody knows", store.HostOwner("nobody"), "10.1.0.41", false),
		claim("address of a task of Swarm", store.SwarmOwner(), "10.1.0.43", true),
		record("host that is gone for good", store.HostKey("away"), string(store.Encode(away)), false),
		claim("its address", store.HostOwner("away"), "10.1.0.42", false),
		{"its network", func() {
			if _, err := store.NewCluster(w.kv, "away").Bind(w.ctx, store.Binding{DockerID: "docker-away", Pools: []netip.Prefix{pool}}); err != nil {
				w.h.T.Fatal(err)
			}
		}, func() bool {
			own, err := store.NewCluster(w.kv, "away").Bound(w.ctx, w.network)
			return err != nil || own.DockerID != ""
		}, false},
		{"its endpoints", func() {
			if err := store.NewCluster(w.kv, "away").PutEndpoints(w.ctx, w.network, []store.Endpoint{{ID: "x"}}); err != nil {
				w.h.T.Fatal(err)
			}
		}, func() bool {
			return w.get(store.EndpointsKey(w.network, "away"))+w.get(store.HeadKey(w.network, "away")) != ""
		}, false},
		{"binding that this host does not know", func() {
			if _, err := store.NewCluster(w.kv, w.me).Bind(w.ctx, store.Binding{DockerID: "never-finished", Pools: []netip.Prefix{netip.MustParsePrefix("10.71.0.0/24")}}); err != nil {
				w.h.T.Fatal(err)
			}
		}, func() bool { return w.bound("never-finished") }, false},
		record("a later agent's record", store.Root+"later/kind", "x", true),
		record("another program's key", "their/own", "x", true),
	}
}

func (w *planter) bound(docker string) bool {
	networks, _, err := store.NewCluster(w.kv, w.me).OwnNetworks(w.ctx)
	if err != nil {
		w.h.T.Fatal(err)
	}
	return slices.ContainsFunc(networks, func(n store.OwnNetwork) bool { return n.DockerID == docker })
}

// onlyForeign says what is left in Consul but for the host's own records and what others have.
func (w *planter) onlyForeign() error {
	entries, err := w.kv.List(w.ctx, "")
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch {
		case e.Key == store.SchemaKey, e.Key == store.LayoutKey, e.Key == store.AliveKey(w.me), store.Last(e.Key) == "permanent", strings.HasPrefix(e.Key, store.HostKey(w.me)),
			e.Key == store.JanitorKey, e.Key == store.HostHeadsKey(store.HostShardOf(w.me)), strings.HasPrefix(e.Key, store.HostShardsPrefix), strings.HasPrefix(e.Key, store.Root+"later/"):
		case !strings.HasPrefix(e.Key, store.Root):
		default:
			return fmt.Errorf("%s is left: %s", e.Key, e.Value)
		}
	}
	return nil
}
