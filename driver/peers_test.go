package driver_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// TestFirstContainerKnowsPeers: what a host's first container on a network asks for at once, this host knows. Its kernel
// would ask again a second later only.
func TestFirstContainerKnowsPeers(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a").run(), w.host("b").run()
	w.must(b.cluster.PutHost(w.ctx, store.Host{Name: "b", VTEP: netip.MustParseAddr("192.0.2.2")}))
	w.must(a.create("na", "LocalDefault"))
	w.must(b.create("nb", "LocalDefault"))
	b.container("nb", "eb", "10.1.0.8/24")
	knows := func() bool { return strings.Contains(a.plane.String(), "[10.1.0.8] at 192.0.2.2") }
	for i := range 20 {
		endpoint := fmt.Sprintf("e%d", i)
		a.container("na", endpoint, "10.1.0.7/24")
		if i == 0 {
			w.eventually("a sees b", knows) // both records are on their way
		}
		if !knows() {
			t.Fatalf("container %d has joined, and its host knows no peers", i)
		}
		w.must(a.leave("na", endpoint))
		w.must(a.delete("na", endpoint))
	}
}

// TestPeersAreWrittenAgain: what the host's own store could not take of other hosts (a full disk) is written when it can, also when nothing
// else happens, so that a restart without the cluster's store knows the same as before.
func TestPeersAreWrittenAgain(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.host("a").run(), w.host("b").run(), w.host("c").run()
	at := func(h *host, vtep string) {
		w.must(h.cluster.PutHost(w.ctx, store.Host{Name: h.cluster.Host(), VTEP: netip.MustParseAddr(vtep)}))
	}
	at(b, "192.0.2.2")
	at(c, "192.0.2.3")
	w.must(a.create("na", "LocalDefault"))
	w.must(b.create("nb", "LocalDefault"))
	w.must(c.create("nc", "LocalDefault"))
	b.container("nb", "eb", "10.1.0.8/24")
	c.container("nc", "ec", "10.1.0.9/24")
	a.container("na", "ea", "10.1.0.7/24")
	sees := func(want ...string) func() bool {
		return func() bool {
			got := a.plane.String()
			for _, part := range want {
				if !strings.Contains(got, part) {
					return false
				}
			}
			return strings.Count(got, "\n") == len(want)
		}
	}
	w.eventually("a sees b and c", sees("[10.1.0.8] at 192.0.2.2", "[10.1.0.9] at 192.0.2.3"))

	a.local.failAfter(0)
	at(b, "192.0.2.22")
	w.eventually("a sees b move", sees("[10.1.0.8] at 192.0.2.22", "[10.1.0.9] at 192.0.2.3"))
	c.container("nc", "ec2", "10.1.0.10/24")
	w.eventually("a sees c's second container", sees("[10.1.0.8] at 192.0.2.22", "[10.1.0.9] at 192.0.2.3", "[10.1.0.10] at 192.0.2.3"))
	w.must(c.leave("nc", "ec2"))
	w.must(c.leave("nc", "ec"))
	w.eventually("a sees c's container go", sees("[10.1.0.8] at 192.0.2.22"))
	a.local.set(false)

	stored := func(key string) bool {
		e, err := a.local.KV.Get(w.ctx, key)
		return err == nil && strings.Contains(string(e.Value), "192.0.2.22")
	}
	w.eventually("b's new address is on a's disk", func() bool { return stored(store.LocalHostsKey("b")) })
	w.eventually("c's container is not on a's disk", func() bool {
		entries, err := a.local.KV.List(w.ctx, store.LocalPeers)
		w.must(err)
		return len(entries) == 1 && strings.HasSuffix(entries[0].Key, "/b")
	})
	a.shared.set(true)
	a.boot()
	if !sees("[10.1.0.8] at 192.0.2.22")() {
		t.Errorf("after a restart without the store a sees:\n%s", a.plane)
	}
	// A network that has no container here any more needs no peers, also when these could not be removed at once.
	a.shared.set(false)
	a.run()
	a.local.failAfter(2) // the endpoint's own record goes
	w.must(a.leave("na", "ea"))
	a.local.failAfter(2)
	w.must(a.delete("na", "ea"))
	a.local.set(false)
	if !a.Pending() {
		t.Error("nothing is pending")
	}
	w.must(a.Sync(w.ctx))
	if entries, err := a.local.KV.List(w.ctx, store.LocalPeers); err != nil || len(entries) > 0 {
		t.Errorf("peers of a network that nobody uses here are left: %v, %v", entries, err)
	}
}

// TestHostThatCannotBeReadStaysKnown: a host's record that this agent can't read (a newer agent's) changes nothing of what it knew, and hides no other host.
func TestHostThatCannotBeReadStaysKnown(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a").run(), w.host("b").run()
	w.must(b.cluster.PutHost(w.ctx, store.Host{Name: "b", VTEP: netip.MustParseAddr("192.0.2.2")}))
	w.must(a.create("na", "LocalDefault"))
	w.must(b.create("nb", "LocalDefault"))
	b.container("nb", "eb", "10.1.0.8/24")
	a.container("na", "ea", "10.1.0.7/24")
	w.eventually("a sees b", func() bool { return strings.Contains(a.plane.String(), "[10.1.0.8] at 192.0.2.2") })
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.HostKey("b"), Value: []byte(`{"schema":99}`)}))
	c := w.host("c").run()
	w.must(c.cluster.PutHost(w.ctx, store.Host{Name: "c", VTEP: netip.MustParseAddr("192.0.2.3")}))
	w.must(c.create("nc", "LocalDefault"))
	c.container("nc", "ec", "10.1.0.9/24")
	w.eventually("a sees c", func() bool { return strings.Contains(a.plane.String(), "[10.1.0.9] at 192.0.2.3") })
	if got := a.plane.String(); !strings.Contains(got, "[10.1.0.8] at 192.0.2.2") {
		t.Errorf("b is lost:\n%s", got)
	}
}

// TestEndpointsThatCannotBeReadStayKnown: one host's record of endpoints that this agent can't read hides no other host's, and is read as soon as it can be.
func TestEndpointsThatCannotBeReadStayKnown(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.host("a").run(), w.host("b").run(), w.host("c").run()
	for i, h := range []*host{b, c} {
		w.must(h.cluster.PutHost(w.ctx, store.Host{Name: h.cluster.Host(), VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + i)})}))
		w.must(h.create("n"+h.cluster.Host(), "LocalDefault"))
	}
	w.must(a.create("na", "LocalDefault"))
	b.container("nb", "eb", "10.1.0.8/24")
	a.container("na", "ea", "10.1.0.7/24")
	sees := func(what string) func() bool { return func() bool { return strings.Contains(a.plane.String(), what) } }
	w.eventually("a sees b", sees("[10.1.0.8] at 192.0.2.2"))

	networks, err := w.kv.List(w.ctx, store.NetworksPrefix)
	w.must(err)
	id := store.Last(networks[0].Key)
	was, err := w.kv.Get(w.ctx, store.EndpointsKey(id, "b"))
	w.must(err)
	change := func(value []byte) {
		w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: was.Key, Value: value},
			store.Op{Kind: store.OpPut, Key: store.IndexKey(id, "b"), Value: store.Encode(store.Index{Schema: store.Schema, Revision: store.NewNonce()})}))
	}
	change([]byte(`{"schema":99}`))
	c.container("nc", "ec", "10.1.0.9/24")
	w.eventually("a sees c", sees("[10.1.0.9] at 192.0.2.3"))
	if !sees("[10.1.0.8] at 192.0.2.2")() {
		t.Errorf("b is lost:\n%s", a.plane)
	}
	change([]byte(strings.Replace(string(was.Value), "10.1.0.8", "10.1.0.18", 1)))
	w.eventually("a sees b again", sees("[10.1.0.18] at 192.0.2.2"))
}

// TestFirstContainerWithMACOfAnother: a MAC address that a container of another host has is refused also for the first container of a
// network on this host, which is created before the other hosts' containers are known.
func TestFirstContainerWithMACOfAnother(t *testing.T) {
	const mac = "02:00:00:00:00:07"
	w := newWorld(t)
	a, b := w.host("a").run(), w.host("b").run()
	w.must(b.cluster.PutHost(w.ctx, store.Host{Name: "beta", VTEP: netip.MustParseAddr("192.0.2.2")}))
	w.must(a.create("na", "LocalDefault"))
	w.must(b.create("nb", "LocalDefault"))
	_, err := b.endpoint("nb", "eb", "10.1.0.8/24", mac)
	w.must(err)
	_, err = b.join("nb", "eb")
	w.must(err)
	w.eventually("b's container is published", func() bool {
		all, err := a.cluster.AllEndpoints(w.ctx, b.Networks()[0].ID)
		return err == nil && len(all) == 1
	})
	_, err = a.endpoint("na", "ea", "10.1.0.7/24", mac)
	if err == nil {
		_, err = a.join("na", "ea")
	}
	w.wants(err, store.ErrTaken, mac, "host beta")
	w.must(a.delete("na", "ea"))
	w.must(b.leave("nb", "eb"))
	w.must(b.delete("nb", "eb"))
	w.eventually("the address is free", func() bool {
		_, err := a.endpoint("na", "eb", "10.1.0.7/24", mac)
		if err == nil {
			_, err = a.join("na", "eb")
			w.must(a.leave("na", "eb"))
			w.must(a.delete("na", "eb"))
		}
		return err == nil
	})
}

// TestManyPeersAreWritten: what is known of 30 hosts with 100 labelled containers each is more than one transaction of this host's store takes, and is on its
// disk all the same: a restart without the cluster's store knows it.
func TestManyPeersAreWritten(t *testing.T) {
	const hosts, each = 30, 100
	w := newWorld(t)
	a := w.host("a").run()
	w.must(a.create("na", "LocalDefault"))
	network := a.Networks()[0].ID
	for i := range hosts {
		id := fmt.Sprintf("peer%02d", i)
		other := store.NewCluster(w.kv, id)
		w.must(other.PutHost(w.ctx, store.Host{Name: id, VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}))
		_, err := other.Bind(w.ctx, store.Binding{ID: network, DockerID: "d" + id, Pools: []netip.Prefix{mustPrefix(subnet)}})
		w.must(err)
		var all []store.Endpoint
		for k := range each {
			n := i*each + k
			all = append(all, store.Endpoint{ID: fmt.Sprintf("%064x", n), MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", n>>8, n&255),
				Addrs:     []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})},
				Container: &store.Container{ID: fmt.Sprintf("%064x", n), Name: fmt.Sprint("c", n), Labels: map[string]string{"com.docker.compose.config-hash": strings.Repeat("x", 600)}}})
		}
		w.must(other.PutEndpoints(w.ctx, network, all))
	}
	a.container("na", "ea", "10.1.0.7/24")
	const want = hosts*each + 1
	w.eventually("a knows all", func() bool { return strings.Count(a.plane.String(), "\n")+1 == want })
	w.eventually("a's disk has all", func() bool {
		entries, err := a.local.KV.List(w.ctx, store.LocalPeers)
		w.must(err)
		return len(entries) == hosts
	})
	a.shared.set(true)
	a.boot()
	if got := strings.Count(a.plane.String(), "\n") + 1; got != want {
		t.Errorf("after a restart without the store %d endpoints are known, want %d", got, want)
	}
}
