package driver_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/store"
)

// TestLife: a network and its container from birth to end, each call repeated, with either IPAM.
func TestLife(t *testing.T) {
	for _, addressSpace := range []string{"LocalDefault", space} {
		t.Run(addressSpace, func(t *testing.T) {
			w := newWorld(t)
			a, own := w.host("a").run(), addressSpace == space
			for range 2 {
				w.must(a.create("n1", addressSpace, "network", "web", "mtu", "1400"))
			}
			claims := shared
			if own { // our IPAM was asked for them already
				claims = ""
			}
			w.wantClaims(claims)
			if s := a.Networks(); len(s) != 1 || s[0].Name != "web" || s[0].DockerID != "n1" || s[0].VNI == 0 {
				t.Fatalf("networks are %+v", s)
			}
			var first network.EndpointInterface
			for n := range 2 {
				got, err := a.endpoint("n1", "e1", "10.1.0.7/24", "")
				w.must(err)
				hw, err := net.ParseMAC(got.MacAddress)
				if err != nil || hw[0]&3 != 2 || got.Address != "" || got.AddressIPv6 != "" {
					t.Fatalf("answered %+v, want a local unicast MAC only", got)
				}
				if n == 0 {
					first = *got
				} else if *got != first {
					t.Fatalf("answered %+v, then %+v", first, got)
				}
			}
			got, err := a.endpoint("n1", "e2", "10.1.0.8/24", "02:00:00:00:00:08")
			w.must(err)
			if *got != (network.EndpointInterface{}) {
				t.Fatalf("answered %+v to a request that has everything", got)
			}
			if !own {
				claims = "10.1.0.1=network 10.1.0.250=network 10.1.0.7=a 10.1.0.8=a"
			}
			w.wantClaims(claims)
			link, err := a.join("n1", "e1")
			w.must(err)
			if again, err := a.join("n1", "e1"); err != nil || again != link || !strings.HasPrefix(link, "spc") || len(link) > 15 {
				t.Fatalf("joined by %q, then %q (%v)", link, again, err)
			}
			want := "02:00:00:00:00:08 [10.1.0.8] attached=false\n" + first.MacAddress + " [10.1.0.7] attached=true"
			if first.MacAddress < "02:00:00:00:00:08" {
				want = first.MacAddress + " [10.1.0.7] attached=true\n02:00:00:00:00:08 [10.1.0.8] attached=false"
			}
			if got := a.plane.String(); got != want {
				t.Fatalf("data plane has\n%s\nwant\n%s", got, want)
			}
			info, err := a.EndpointInfo(w.ctx, &network.InfoRequest{NetworkID: "n1", EndpointID: "e1"})
			w.must(err)
			if info.Value["mac"] != first.MacAddress {
				t.Errorf("info is %v", info.Value)
			}
			for range 2 {
				w.must(a.leave("n1", "e1"))
				w.must(a.delete("n1", "e1"))
				w.must(a.delete("n1", "e2"))
			}
			if own {
				claims = ""
			} else {
				claims = shared
			}
			w.wantClaims(claims)
			for range 2 {
				w.must(a.remove("n1"))
			}
			w.clean(a)
		})
	}
}

// TestRefused: requests that can't be fulfilled change nothing.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	w.must(a.create("n1", "LocalDefault"))
	w.must(b.create("nb", "LocalDefault"))
	_, err := a.endpoint("n1", "e1", "10.1.0.7/24", "02:00:00:00:00:07")
	w.must(err)
	w.must(b.cluster.PutHost(w.ctx, store.Host{Name: "beta"}))
	_, err = b.endpoint("nb", "e9", "10.1.0.9/24", "")
	w.must(err)
	before := [][]string{w.dump(w.kv), w.dump(a.local)}
	same := func(what string) {
		t.Helper()
		for i, got := range [][]string{w.dump(w.kv), w.dump(a.local)} {
			if !slices.Equal(got, before[i]) {
				t.Fatalf("%s: changed %q to %q", what, before[i], got)
			}
		}
	}
	for _, c := range []struct {
		name, id, endpoint, addr, mac string
		want                          error
		text                          string
	}{
		{"unknown-network", "nx", "e2", "10.1.0.8/24", "", driver.ErrUnknown, "docker network rm"},
		{"address", "n1", "e2", "10.1.0.8", "", driver.ErrBadRequest, "prefix length"},
		{"no-address", "n1", "e2", "", "", driver.ErrBadRequest, "no address"},
		{"outside", "n1", "e2", "10.2.0.8/24", "", driver.ErrBadRequest, subnet},
		{"mac", "n1", "e2", "10.1.0.8/24", "nonsense", driver.ErrBadRequest, "nonsense"},
		{"mac-8-bytes", "n1", "e2", "10.1.0.8/24", "02:00:00:00:00:00:00:01", driver.ErrBadRequest, "Ethernet"},
		{"mac-group", "n1", "e2", "10.1.0.8/24", "01:00:5e:00:00:01", driver.ErrBadRequest, "group"},
		{"mac-zero", "n1", "e2", "10.1.0.8/24", "00:00:00:00:00:00", driver.ErrBadRequest, "empty"},
		{"mac-in-use", "n1", "e2", "10.1.0.8/24", "02:00:00:00:00:07", store.ErrTaken, "this host"},
		{"address-here", "n1", "e2", "10.1.0.7/24", "", store.ErrTaken, "10.1.0.7"},
		{"address-there", "n1", "e2", "10.1.0.9/24", "", store.ErrTaken, "host beta"},
		{"address-of-network", "n1", "e2", "10.1.0.250/24", "", store.ErrTaken, "--ipam-driver socketplane"},
	} {
		_, err := a.endpoint(c.id, c.endpoint, c.addr, c.mac)
		t.Log(c.name)
		w.wants(err, c.want, c.text)
		same(c.name)
	}
	_, err = a.CreateEndpoint(w.ctx, &network.CreateEndpointRequest{NetworkID: "n1", EndpointID: "e2"})
	w.wants(err, driver.ErrBadRequest)
	_, err = a.join("n1", "ex")
	w.wants(err, driver.ErrUnknown)
	_, err = a.join("nx", "e1")
	w.wants(err, driver.ErrUnknown)
	_, err = a.EndpointInfo(w.ctx, &network.InfoRequest{NetworkID: "n1", EndpointID: "ex"})
	w.wants(err, driver.ErrUnknown)
	for _, err := range []error{a.leave("nx", "e"), a.leave("n1", "ex"), a.delete("nx", "e"), a.delete("n1", "ex"), a.remove("nx")} {
		w.must(err)
	}
	same("unknown ids")
	w.wants(a.create("n2", "LocalDefault"), store.ErrInUse, "n1")
	same("second network")
	a.plane.setDown(errPlane)
	w.wants(a.create("n3", "LocalDefault"), errPlane)
	_, err = a.endpoint("n1", "e3", "10.1.0.30/24", "")
	w.wants(err, errPlane)
	same("data plane down")
}

// TestForgottenEndpoint: at its boot after a crash Docker removes endpoints without a word if nothing has made it load the driver yet. It then gives the
// address to the container's next endpoint, which must not wait until the former one is found to be forgotten.
func TestForgottenEndpoint(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	links := true
	a.hasLink = func(name string) bool { return links && strings.HasPrefix(name, "sph") }
	a.boot()
	w.must(a.create("n1", "LocalDefault"))
	const mac = "02:00:00:00:00:07"
	_, err := a.endpoint("n1", "e1", "10.1.0.7/24", mac)
	w.must(err)
	_, err = a.join("n1", "e1")
	w.must(err)
	_, err = a.endpoint("n1", "e2", "10.1.0.7/24", "")
	w.wants(err, store.ErrTaken, "10.1.0.7") // the container runs: Docker has given its address out twice
	links = false
	a.boot()
	_, err = a.endpoint("n1", "e3", "10.1.0.7/24", mac)
	w.must(err)
	_, err = a.join("n1", "e3")
	w.must(err)
	if at := a.Attached()["n1"]; !slices.Equal(at, []string{"e3"}) {
		t.Errorf("attached are %v", at)
	}
}

func TestBadNetworks(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	ours := func(pools ...string) (data []*network.IPAMData) {
		for _, p := range pools {
			data = append(data, &network.IPAMData{AddressSpace: space, Pool: p})
		}
		return data
	}
	generic := func(k string, v any) map[string]any {
		return map[string]any{"com.docker.network.generic": map[string]any{k: v}}
	}
	for name, r := range map[string]*network.CreateNetworkRequest{
		"no-subnet":      {},
		"null-ipam":      {IPv4Data: ours("0.0.0.0/0")},
		"subnet":         {IPv4Data: ours("nonsense")},
		"unknown-option": {IPv4Data: ours(subnet), Options: generic("colour", "red")},
		"mtu":            {IPv4Data: ours(subnet), Options: generic("mtu", "big")},
		"mtu-small":      {IPv4Data: ours(subnet), Options: generic("mtu", "500")},
		"mtu-ipv6":       {IPv4Data: ours(subnet), IPv6Data: ours("fd00::/64"), Options: generic("mtu", "1000")},
		"mtu-number":     {IPv4Data: ours(subnet), Options: generic("mtu", 1400)},
		"name":           {IPv4Data: ours(subnet), Options: generic("network", "../x")},
		"generic":        {IPv4Data: ours(subnet), Options: map[string]any{"com.docker.network.generic": "x"}},
		"gateway":        {IPv4Data: []*network.IPAMData{{Pool: subnet, Gateway: "x"}}},
		"aux":            {IPv4Data: []*network.IPAMData{{Pool: subnet, AuxAddresses: map[string]any{"r": 5}}}},
	} {
		r.NetworkID = "n1"
		t.Log(name)
		w.wants(a.CreateNetwork(w.ctx, r), driver.ErrBadRequest)
		w.clean(a)
	}
	w.wants(a.CreateNetwork(w.ctx, &network.CreateNetworkRequest{NetworkID: "n1", IPv4Data: ours(subnet, subnet)}), store.ErrInvalid)
	w.clean(a)
	// A later failure undoes everything: the gateway is not the cluster's.
	b := w.host("b")
	w.must(b.create("nb", "LocalDefault"))
	before := w.dump(w.kv)
	w.wants(a.CreateNetwork(w.ctx, &network.CreateNetworkRequest{NetworkID: "n1", IPv4Data: []*network.IPAMData{
		{AddressSpace: "LocalDefault", Pool: subnet, Gateway: "10.1.0.99/24"}}}), store.ErrMismatch, "10.1.0.1")
	after, err := store.NewCluster(w.kv, "x").Networks(w.ctx)
	w.must(err)
	if len(after) != 1 || len(w.bound(after[0].ID)) != 1 || len(w.dump(w.kv)) != len(before) || len(w.dump(a.local)) != 0 {
		t.Fatalf("left behind: %+v, %q", after, w.dump(a.local))
	}
}

// TestCreateFails: wherever the stores fail, nothing stays that Sync does not mend.
func TestCreateFails(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	ended, cancel := context.WithCancel(w.ctx)
	cancel()
	for _, f := range []*faulty{a.shared, a.local} {
		f.set(true)
		w.wants(a.create("n1", "LocalDefault"), store.ErrUnavailable)
		if !a.Pending() {
			t.Fatal("Sync is not asked for")
		}
		f.set(false)
		w.must(a.Sync(w.ctx))
		w.clean(a)
	}
	w.must(a.create("n1", "LocalDefault"))
	for _, f := range []*faulty{a.shared, a.local} {
		f.set(true)
		_, err := a.endpoint("n1", "e1", "10.1.0.7/24", "")
		w.wants(err, store.ErrUnavailable)
		f.set(false)
		w.must(a.Sync(w.ctx))
		w.must(a.ipam.Sync(w.ctx))
		w.wantClaims(shared)
	}
	_, err := a.CreateEndpoint(ended, &network.CreateEndpointRequest{NetworkID: "n1", EndpointID: "e1",
		Interface: &network.EndpointInterface{Address: "10.1.0.7/24"}})
	w.wants(err, context.Canceled)
	w.must(a.Sync(w.ctx))
	w.must(a.ipam.Sync(w.ctx))
	w.wantClaims(shared)
	// A crash after the address was claimed: the journal has the intention.
	_, err = a.endpoint("n1", "e2", "10.1.0.8/24", "")
	w.must(err)
	w.must(a.remove("n1"))
	w.clean(a)
}

// TestCrashInCreateNetwork: a binding that the journal does not know is ended.
func TestCrashInCreateNetwork(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	bind := store.Binding{DockerID: "n1"}
	bind.Pools = append(bind.Pools, mustPrefix(subnet))
	_, err := a.cluster.Bind(w.ctx, bind)
	w.must(err)
	a.boot()
	w.must(a.Sync(w.ctx))
	w.clean(a)
}
