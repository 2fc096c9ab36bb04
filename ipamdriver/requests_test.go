package ipamdriver_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

func TestIPAM(t *testing.T) {
	both(t, map[string]func(*world){
		"kinds": testKinds, "range": testRange, "small": testSmall, "internal": testInternal, "halves": testHalves, "large": testLarge, "routed": testRouted, "exhausted": testExhausted, "two-hosts": testTwoHosts,
		"bad-input": testBadInput, "release": testRelease, "store-down": testStoreDown, "answer-lost": testAnswerLost, "told-once": testToldOnce,
		"crash": testCrash, "cluster-lost": testClusterLost, "choose": testChoose, "choose-race": testChooseRace,
		"second-network": testSecondNetwork, "named": testNamed, "churn": testChurn, "release-meets-request": testReleaseMeetsRequest, "model": testModel,
	})
}

// testKinds: what Docker sends for a network and its containers, on two hosts (PROTOCOL, section 3).
func testKinds(w *world) {
	a, b := w.host("a", ipamdriver.Options{}), w.host("b", ipamdriver.Options{})
	for _, h := range []*host{a, b} {
		id := h.pool("10.1.0.0/24", "")
		for range 2 {
			gw, err := h.gateway(id, "")
			w.must(err)
			if gw != "10.1.0.1/24" {
				w.Fatalf("gateway is %s", gw)
			}
		}
		aux, err := h.request(id, "10.1.0.5")
		w.must(err)
		if aux != "10.1.0.5/24" {
			w.Fatalf("auxiliary address is %s", aux)
		}
	}
	for _, static := range []string{"10.1.0.1", "10.1.0.5"} {
		_, err := a.container("10.1.0.0/24", static)
		w.wants(err, store.ErrTaken, "network itself", "--ip")
	}
	got, err := a.container("10.1.0.0/24", "10.1.0.9")
	w.must(err)
	again, err := a.container("10.1.0.0/24", "10.1.0.9") // the same container
	w.must(err)
	if got != "10.1.0.9/24" || again != got {
		w.Fatalf("static address is %s, then %s", got, again)
	}
	_, err = a.request("10.1.0.0/24", "10.1.0.9", macOption, "02:00:00:00:00:99")
	w.wants(err, store.ErrTaken, "10.1.0.9", "this host")
	_, err = b.container("10.1.0.0/24", "10.1.0.9")
	w.wants(err, store.ErrTaken, "host a")
	_, err = b.request("10.1.0.0/24", "10.1.0.9") // auxiliary
	w.wants(err, store.ErrTaken, "host a")
	_, err = b.gateway("10.1.0.0/24", "10.1.0.7")
	w.wants(err, store.ErrMismatch, "10.1.0.1")
	dynamic, err := b.container("10.1.0.0/24", "")
	w.must(err)
	for _, h := range []*host{a, b} { // Docker: gateway and aux, then the pool
		for _, address := range []string{"10.1.0.1", "10.1.0.5", "10.1.0.9", dynamic} {
			w.must(h.release("10.1.0.0/24", address))
		}
	}
	w.wantClaims("10.1.0.0/24", "10.1.0.1=network", "10.1.0.5=network")
	w.must(a.releasePool("10.1.0.0/24"))
	w.must(b.releasePool("10.1.0.0/24"))
	w.clean(a, b)
}

func testRange(w *world) {
	a := w.host("a", ipamdriver.Options{})
	id := a.pool("10.1.0.0/24", "10.1.0.32/30")
	if id != "10.1.0.0/24,10.1.0.32/30" {
		w.Fatalf("pool id is %s", id)
	}
	gw, err := a.gateway(id, "") // outside the range, as with Docker's own
	w.must(err)
	explicit, err := a.container(id, "10.1.0.200")
	w.must(err)
	if gw != "10.1.0.1/24" || explicit != "10.1.0.200/24" {
		w.Fatalf("gateway %s, explicit %s", gw, explicit)
	}
	var got []string
	for range 4 {
		address, err := a.container(id, "")
		w.must(err)
		got = append(got, address)
	}
	if want := []string{"10.1.0.32/24", "10.1.0.33/24", "10.1.0.34/24", "10.1.0.35/24"}; !slices.Equal(got, want) {
		w.Fatalf("addresses are %q, want %q", got, want)
	}
	_, err = a.container(id, "")
	w.wants(err, ipamdriver.ErrExhausted, "10.1.0.32/30")
	w.must(a.releasePool(id))
}

func testSmall(w *world) {
	a := w.host("a", ipamdriver.Options{})
	for _, c := range []struct {
		pool, gateway string
		containers    int
	}{
		// Where there is room for two containers only, no gateway is claimed.
		{"10.1.0.0/30", "10.1.0.0/30", 2}, {"10.1.1.0/31", "10.1.1.0/31", 2}, {"fd00::/127", "fd00::/127", 2},
		{"10.1.3.0/29", "10.1.3.1/29", 5}, {"fd00:2::/126", "fd00:2::1/126", 2}, {"fd00:1::/64", "fd00:1::1/64", -1},
	} {
		id := a.pool(c.pool, "")
		gw, err := a.gateway(id, "")
		w.must(err)
		if gw != c.gateway {
			w.Errorf("gateway of %s is %s, want %s", c.pool, gw, c.gateway)
		}
		for n := range 8 {
			_, err := a.container(id, "")
			if n < c.containers || c.containers < 0 {
				w.must(err)
			} else {
				w.wants(err, ipamdriver.ErrExhausted)
			}
		}
	}
}

// testInternal: an internal network that a newer engine made without a gateway gets none from an older one, which asks for it: the first
// address of the subnet may be a container's already, or be the next one that Docker's own IPAM gives.
func testInternal(w *world) {
	a, b := w.host("a", ipamdriver.Options{}), w.host("b", ipamdriver.Options{})
	subnet := netip.MustParsePrefix("10.1.0.0/24")
	_, err := a.cluster.Bind(w.ctx, store.Binding{DockerID: "d", Pools: []netip.Prefix{subnet}, Internal: true})
	w.must(err)
	id := b.pool("10.1.0.0/24", "")
	gw, err := b.gateway(id, "")
	w.must(err)
	if gw != "10.1.0.0/24" {
		w.Errorf("gateway is %s, want none but the subnet's own address", gw)
	}
	w.must(a.Reserve(w.ctx, subnet, netip.MustParseAddr("10.1.0.1"), mac))
	w.must(b.release(id, "10.1.0.0"))
	w.must(b.releasePool(id))
	// One that was made with a gateway has it on all hosts.
	id = b.pool("10.2.0.0/24", "")
	_, err = b.gateway(id, "10.2.0.9")
	w.must(err)
	_, err = b.cluster.Bind(w.ctx, store.Binding{DockerID: "e", Pools: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}, Internal: true})
	w.must(err)
	a.pool("10.2.0.0/24", "")
	if gw, err := a.gateway("10.2.0.0/24", ""); err != nil || gw != "10.2.0.9/24" {
		w.Errorf("gateway is %s, %v", gw, err)
	}
}

// testHalves: a host whose VPN client has set halves of a default route by its device gives Docker a subnet, and tells why when Docker
// declines two of them; other hosts are not concerned, nor is a subnet that is given.
func testHalves(w *world) {
	halves := func(context.Context) ([]netip.Prefix, error) {
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1")}, nil
	}
	a, b := w.host("a", ipamdriver.Options{HalfDefaults: halves}), w.host("b", ipamdriver.Options{})
	first, second := a.pool("", ""), a.pool("", "")
	_, err := a.RequestPool(w.ctx, &ipam.RequestPoolRequest{})
	w.wants(err, ipamdriver.ErrExhausted, "0.0.0.0/1", "VPN", "--subnet", "socketplane network create")
	for range 3 {
		b.pool("", "")
	}
	// Docker from 27 on takes what it is given, so its third network is no search without end.
	c := w.host("c", ipamdriver.Options{HalfDefaults: halves, EngineAPI: func() string { return "1.46" }})
	d := w.host("d", ipamdriver.Options{HalfDefaults: halves, EngineAPI: func() string { return "1.45" }})
	for range 3 {
		c.pool("", "")
	}
	d.pool("", "")
	d.pool("", "")
	_, err = d.RequestPool(w.ctx, &ipam.RequestPoolRequest{})
	w.wants(err, ipamdriver.ErrExhausted, "0.0.0.0/1")
	a.pool("10.1.0.0/24", "")
	w.must(a.releasePool(first))
	w.must(a.releasePool(second))
	a.pool("", "")
}

// testRouted: what a host reaches by a router or a VPN is chosen only if nothing else is free.
func testRouted(w *world) {
	a := w.host("a", ipamdriver.Options{})
	routes := func(texts ...string) {
		h := store.Host{}
		for _, text := range texts {
			h.Routed = append(h.Routed, netip.MustParsePrefix(text))
		}
		w.must(w.host("b", ipamdriver.Options{}).cluster.PutHost(w.ctx, h))
	}
	routes("10.32.0.0/12")
	if id := a.pool("", ""); id != "10.64.0.0/20" {
		w.Errorf("beside a VPN's 10.32.0.0/12: %s", id)
	}
	if p, err := a.Propose(w.ctx, false); err != nil || p.String() != "10.64.16.0/20" {
		w.Errorf("beside a VPN's 10.32.0.0/12: proposed %s, %v", p, err)
	}
	routes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
	if id := a.pool("", ""); id != "10.32.0.0/20" {
		w.Errorf("where a VPN has all private subnets: %s", id)
	}
	if _, err := a.Propose(w.ctx, true); err != nil {
		w.Error(err)
	}
}

// testLarge: where a host's LAN is 10.0.0.0/8, subnets are chosen from another range; where all are used, the error says so.
func testLarge(w *world) {
	a := w.host("a", ipamdriver.Options{})
	w.must(w.host("b", ipamdriver.Options{}).cluster.PutHost(w.ctx, store.Host{Subnets: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}}))
	if id := a.pool("", ""); id != "10.64.0.0/20" {
		w.Errorf("beside Weave's bridge: %s", id)
	}
	w.must(w.host("b", ipamdriver.Options{}).cluster.PutHost(w.ctx, store.Host{Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}))
	if id := a.pool("", ""); id != "172.16.0.0/20" {
		w.Errorf("beside a LAN of 10.0.0.0/8: %s", id)
	}
	w.must(w.host("b", ipamdriver.Options{}).cluster.PutHost(w.ctx, store.Host{Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16")}}))
	_, err := a.RequestPool(w.ctx, &ipam.RequestPoolRequest{})
	w.wants(err, ipamdriver.ErrExhausted, "10.0.0.0/8", "--subnet", "--address-pools")
	for _, one := range []string{"10.1.2.0/32", "fd00::1/128"} {
		_, err := a.RequestPool(w.ctx, &ipam.RequestPoolRequest{Pool: one, V6: strings.Contains(one, ":")})
		w.wants(err, ipamdriver.ErrBadRequest, one, "/31")
	}
}

func testBadInput(w *world) {
	a := w.host("a", ipamdriver.Options{})
	a.pool("10.1.0.0/24", "")
	shared, local := dump(w, w.kv), dump(w, a.local.KV)
	for _, r := range []ipam.RequestPoolRequest{
		{Pool: "nonsense"}, {Pool: "10.1.0.5/24"}, {Pool: "10.2.0.0/24", SubPool: "10.3.0.0/25"}, {Pool: "10.2.0.0/24", SubPool: "x"},
		{SubPool: "10.2.0.0/25"}, {Pool: "fd00::/64"}, {Pool: "10.2.0.0/24", V6: true}, {Pool: "0.0.0.0/0"}, {Pool: "::/0", V6: true},
		{Pool: "10.2.0.0/24", Options: map[string]string{"colour": "red"}}, {Pool: "::ffff:10.2.0.0/120", V6: true},
	} {
		_, err := a.RequestPool(w.ctx, &r)
		w.wants(err, ipamdriver.ErrBadRequest)
	}
	_, err := a.requestPool("10.1.0.0/16", "")
	w.wants(err, store.ErrOverlap, "10.1.0.0/24")
	for _, c := range [][2]string{
		{"10.1.0.0/24", "10.1.0.0"}, {"10.1.0.0/24", "10.1.0.255"}, {"10.1.0.0/24", "10.2.0.1"}, {"10.1.0.0/24", "x"}, {"10.1.0.0/24", "::1"},
		{"10.1.0.0/24", "::ffff:10.1.0.4"}, {"", "10.1.0.4"}, {"x", ""}, {"10.1.0.0/24,x", ""}, {"10.1.0.0/24,10.9.0.0/25", ""},
	} {
		for _, err := range []error{second(a.container(c[0], c[1])), second(a.gateway(c[0], c[1])), second(a.request(c[0], c[1]))} {
			w.wants(err, ipamdriver.ErrBadRequest)
		}
	}
	for _, err := range []error{second(a.container("10.9.0.0/24", "")), second(a.container("10.9.0.0/24", "10.9.0.4")), second(a.gateway("10.9.0.0/24", ""))} {
		w.wants(err, store.ErrNotFound, "10.9.0.0/24")
	}
	w.wants(a.release("10.1.0.0/24", "x"), ipamdriver.ErrBadRequest)
	w.wants(a.release("x", "10.1.0.4"), ipamdriver.ErrBadRequest)
	w.wants(a.releasePool("x"), ipamdriver.ErrBadRequest)
	w.must(a.release("10.9.0.0/24", "10.9.0.4")) // unknown: no error
	w.must(a.releasePool("10.9.0.0/24"))
	if got := dump(w, w.kv); !slices.Equal(got, shared) {
		w.Errorf("the cluster changed from %q to %q", shared, got)
	}
	if got := dump(w, a.local.KV); !slices.Equal(got, local) {
		w.Errorf("the host changed from %q to %q", local, got)
	}
}

func second[T any](_ T, err error) error { return err }

func testNamed(w *world) {
	a, b := w.host("a", ipamdriver.Options{}), w.host("b", ipamdriver.Options{})
	id := a.pool("10.1.0.0/24", "")
	_, err := a.cluster.Bind(w.ctx, store.Binding{DockerID: "docker-a", Name: "web", Pools: []netip.Prefix{netip.MustParsePrefix(id)}})
	w.must(err)
	r, err := b.RequestPool(w.ctx, &ipam.RequestPoolRequest{Options: map[string]string{"network": "web"}})
	w.must(err)
	if r.PoolID != id {
		w.Errorf("pool of the named network is %s", r.PoolID)
	}
	r, err = b.RequestPool(w.ctx, &ipam.RequestPoolRequest{Options: map[string]string{"network": "new"}})
	w.must(err)
	if r.PoolID == id {
		w.Errorf("a network that is not there has the pool %s", id)
	}
	_, err = b.RequestPool(w.ctx, &ipam.RequestPoolRequest{Options: map[string]string{"network": "../web"}})
	w.wants(err, ipamdriver.ErrBadRequest)
}
