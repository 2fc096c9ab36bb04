package mirror_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/internal/mirror"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

// TestContainersAreTold: names reach the other hosts, also after a rename; labels of a document's size do not.
func TestContainersAreTold(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		all[0].creates(ours("web"))
		w.have(all, "web")
		all[1].docker.label(map[string]string{"com.docker.compose.service": "front"})
		all[1].runs("small", "web")
		w.wantTold("small on h2")
		all[1].docker.label(map[string]string{"document": strings.Repeat("x", 5000)})
		all[1].runs("large", "web")
		w.wantTold("large on h2, small on h2")
		n, err := all[0].cluster.NetworkNamed(w.ctx, "web")
		w.must(err)
		told, err := all[0].cluster.Endpoints(w.ctx, n.ID, "h2")
		w.must(err)
		for _, e := range told.Endpoints {
			want := map[string]string{"com.docker.compose.service": "front"}
			if e.Container.Name == "large" {
				want = nil
			}
			if !maps.Equal(e.Container.Labels, want) || !slices.Equal(e.Container.Aliases, []string{"alias"}) || e.Container.ID != "id of "+e.Container.Name {
				t.Errorf("%+v", *e.Container)
			}
		}
		all[1].docker.rename("small", "renamed")
		w.wantTold("large on h2, renamed on h2")
	})
}

// TestForgottenEndpoint: an endpoint whose container ended while nobody could be told goes by itself, but not at once: Docker
// lists a container only after its start.
func TestForgottenEndpoint(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		all[0].creates(ours("web", subnet("10.1.0.0/24")))
		w.have(all, "web")
		all[1].runs("ends", "web")
		all[1].runs("stays", "web")
		w.wantTold("ends on h2, stays on h2")
		began := time.Now()
		all[1].kills("ends")
		w.wantTold("stays on h2")
		if took := time.Since(began); took < times.Lost {
			t.Errorf("it went after %v", took)
		}
	})
}

// TestForgottenPool: a subnet that Docker asked for, and died before it made the network, is free again after a while.
func TestForgottenPool(t *testing.T) {
	in(t, 1, func(w *world) {
		h := w.all()[0]
		began := time.Now()
		_, err := h.ipam.RequestPool(w.ctx, &ipam.RequestPoolRequest{AddressSpace: space, Pool: "10.1.0.0/24"})
		w.must(err)
		h.creates(ours("web", subnet("10.2.0.0/24")))
		w.eventually(func() string {
			pools, err := h.ipam.Holds(w.ctx)
			w.must(err)
			if got := fmt.Sprint(pools); got != "[10.2.0.0/24]" {
				return "held are " + got
			}
			return ""
		})
		if took := time.Since(began); took < times.Lost {
			t.Errorf("it went after %v", took)
		}
	})
}

// TestForgottenAddress: an address that Docker asked for, and then made no endpoint with, as one of the two died, goes back
// after a while; those of containers stay, also of such on another driver's network.
func TestForgottenAddress(t *testing.T) {
	in(t, 1, func(w *world) {
		h := w.all()[0]
		h.creates(ours("web", subnet("10.1.0.0/24")))
		w.have(w.hosts, "web")
		h.runs("stays", "web")
		request := func(mac string) netip.Addr {
			got, err := h.ipam.RequestAddress(w.ctx, &ipam.RequestAddressRequest{PoolID: "10.1.0.0/24",
				Options: map[string]string{"com.docker.network.endpoint.macaddress": mac}})
			w.must(err)
			return netip.MustParsePrefix(got.Address).Addr()
		}
		macvlan := request("02:00:00:00:00:77")
		h.docker.mu.Lock()
		h.docker.elsewhere = map[netip.Addr]bool{macvlan: true}
		h.docker.mu.Unlock()
		began := time.Now()
		lost := request("02:00:00:00:00:78")
		w.eventually(func() string {
			held, err := h.ipam.HandedOut(w.ctx)
			w.must(err)
			if len(held) > 2 {
				return fmt.Sprintf("handed out are %+v", held)
			}
			return ""
		})
		if took := time.Since(began); took < times.Lost {
			t.Errorf("it went after %v", took)
		}
		w.passes(h)
		held, err := h.ipam.HandedOut(w.ctx)
		w.must(err)
		if len(held) != 2 || slices.ContainsFunc(held, func(a ipamdriver.Held) bool { return a.Addr == lost }) {
			t.Errorf("handed out are %+v, want those of a container and of %v", held, macvlan)
		}
	})
}

// TestNotLookedAt: an address whose container is being made while nobody could look for longer than Docker may take is not taken from it.
func TestNotLookedAt(t *testing.T) {
	in(t, 1, func(w *world) {
		h := w.all()[0]
		h.creates(ours("web", subnet("10.1.0.0/24")))
		w.have(w.hosts, "web")
		_, err := h.ipam.RequestAddress(w.ctx, &ipam.RequestAddressRequest{PoolID: "10.1.0.0/24",
			Options: map[string]string{"com.docker.network.endpoint.macaddress": "02:00:00:00:00:78"}})
		w.must(err)
		w.passes(h) // it is seen to be unused
		h.docker.down.Store(true)
		select {
		case <-time.After(times.Lost):
		case <-w.ctx.Done():
		}
		h.docker.down.Store(false)
		w.passes(h)
		held, err := h.ipam.HandedOut(w.ctx)
		w.must(err)
		if len(held) != 1 {
			t.Errorf("handed out are %+v", held)
		}
	})
}

// TestDockerLosesANetwork: a Docker that crashed before it wrote a network down has it again, and no other host loses it.
func TestDockerLosesANetwork(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		all[0].creates(ours("web", subnet("10.1.0.0/24")))
		w.have(all, "web")
		all[0].docker.lose()
		w.have(all[:1])
		w.have(all, "web")
		w.noTrouble(all...)
		all[0].removes("web")
		w.have(all)
		w.clean()
	})
}

// TestStateIsLost: a host whose state directory is new has networks in Docker that it knows nothing of: that is told, with the cure.
func TestStateIsLost(t *testing.T) {
	in(t, 1, func(w *world) {
		h := w.all()[0]
		h.creates(ours("web", subnet("10.1.0.0/24")))
		w.passes(h)
		h.down()
		h.local = w.file("new")
		h.up()
		h.wantTrouble("web", "no record of it", "docker network rm web")
	})
}

// TestRecordIsLost: the cluster has lost a network (a new Consul) which Docker has here.
func TestRecordIsLost(t *testing.T) {
	in(t, 1, func(w *world) {
		h := w.all()[0]
		h.creates(ours("web", subnet("10.1.0.0/24")))
		w.passes(h)
		entries, err := w.kv.List(w.ctx, store.Root)
		w.must(err)
		for _, e := range entries {
			w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpRemove, Key: e.Key}))
		}
		h.wantTrouble("web", "has lost its record", "docker network rm web")
	})
}

// TestChurn: users create and remove on all hosts while agents die, Docker goes away, and the store does: when everything is back
// every host has the same list, and when all is removed nothing is left.
func TestChurn(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	in(t, 3, func(w *world) {
		all := w.all()
		rng := rand.New(rand.NewPCG(1, 2))
		for range rounds {
			h := all[rng.IntN(len(all))]
			name := fmt.Sprint("n", rng.IntN(6))
			switch rng.IntN(12) {
			case 0:
				h.down()
			case 1:
				h.up()
			case 2:
				h.docker.down.Store(rng.IntN(2) == 0)
			case 3:
				w.kv.down.Store(rng.IntN(3) == 0)
			case 4, 5, 6:
				if n, err := h.docker.Named(w.ctx, name); err == nil {
					_ = h.docker.Remove(w.ctx, n.ID) // refused when Docker is away
				}
			default:
				_, _ = h.docker.create(w.ctx, ours(name)) // refused when it is there, or somebody is away
			}
			<-time.After(time.Duration(rng.IntN(60)) * time.Millisecond) // what is under way is cut at any point
		}
		w.kv.down.Store(false)
		for _, h := range all {
			h.docker.down.Store(false)
			h.up()
		}
		// Whatever was made, told and removed: in the end all have what the cluster has declared.
		names := []string{}
		w.eventually(func() string {
			declared, err := all[0].cluster.DeclaredNames(w.ctx)
			w.must(err)
			names = slices.Sorted(maps.Values(declared))
			for _, h := range all {
				if got := h.docker.names(mirror.DriverName); !slices.Equal(got, names) || len(h.Troubles()) > 0 {
					return fmt.Sprintf("%s has %q, declared are %q; troubles: %+v", h.id, got, names, h.Troubles())
				}
			}
			return ""
		})
		w.still(all, names...)
		for i, name := range names {
			all[i%len(all)].removes(name)
		}
		w.have(all)
		w.clean()
	})
}
