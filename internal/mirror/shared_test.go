package mirror_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/mirror"
)

// sharing is how two projects on two hosts come to choose one subnet: h1 has "blue", h2 has "red".
type sharing struct {
	// begins makes both networks.
	begins func(h1, h2 *host, blue, red dockerwatch.Network)
	// used says that red has a container before its name is known.
	used bool
}

// TestOneSubnetInTwoProjects: two networks never share a segment, and the cure of the one that gives way leaves the other alone.
func TestOneSubnetInTwoProjects(t *testing.T) {
	at := func(h1, h2 *host, blue, red dockerwatch.Network) { // neither agent has seen its own yet
		h1.docker.slow.Store(true)
		h2.docker.slow.Store(true)
		h1.creates(blue)
		h2.creates(red)
	}
	cases := map[string]sharing{
		"at the same moment":                  {begins: at},
		"at the same moment, with containers": {begins: at, used: true},
		"the second before its copy of the first": {begins: func(h1, h2 *host, blue, red dockerwatch.Network) {
			h2.docker.slow.Store(true)
			h1.creates(blue)
			h1.w.have([]*host{h1}, "blue")
			h2.creates(red)
		}, used: true},
		"the second while its copy is being made": {begins: func(h1, h2 *host, blue, red dockerwatch.Network) {
			create := func() { h2.creates(red) }
			h2.docker.before.Store(&create)
			h1.creates(blue)
			h1.w.eventually(func() string {
				if got := h2.docker.names(mirror.DriverName); len(got) == 0 {
					return "h2 makes no copy"
				}
				return ""
			})
		}},
		"the second where it was let go": {begins: func(h1, h2 *host, blue, red dockerwatch.Network) {
			h1.creates(blue)
			h1.w.have([]*host{h1, h2}, "blue")
			h1.runs("user", "blue")
			h1.w.passes(h1)
			h2.removes("blue")
			h1.w.have([]*host{h2})
			h2.docker.slow.Store(true)
			h2.creates(red)
			h1.stops("user")
		}, used: true},
	}
	for _, ipam := range []string{mirror.DriverName, "default"} {
		for name, c := range cases {
			t.Run(ipam+"/"+name, func(t *testing.T) { c.run(t, ipam) })
		}
	}
}

func (c sharing) run(t *testing.T, ipam string) {
	in(t, 3, func(w *world) {
		all := w.all()
		blue, red := ours("blue", subnet("10.1.0.0/24")), ours("red", subnet("10.1.0.0/24"))
		blue.IPAMDriver, red.IPAMDriver = ipam, ipam
		c.begins(all[0], all[1], blue, red)
		if c.used {
			all[1].runs("loser", "red")
		}
		all[0].docker.slow.Store(false)
		w.have(all[:1], "blue")
		w.have(all[2:], "blue")
		all[1].docker.slow.Store(false)
		all[1].wantTrouble("red", "cluster's network blue", "is cut off", "'docker network rm red'", "another --subnet")
		w.still(all[1:2], "red")
		n, err := all[0].cluster.NetworkNamed(w.ctx, "blue")
		w.must(err)
		all[0].runs("winner", "blue")
		w.apart(all[1], n.ID)
		all[1].up() // again: it is as it was
		w.apart(all[1], n.ID)
		if c.used {
			all[1].stops("loser")
		}
		all[1].removes("red")
		w.eventually(func() string {
			if got := fmt.Sprint(all[1].docker.names(mirror.DriverName)); got != "[blue]" && got != "[]" {
				return "h2 has " + got
			}
			return ""
		})
		w.have([]*host{all[0], all[2]}, "blue")
		if again, err := all[0].cluster.NetworkNamed(w.ctx, "blue"); err != nil || again.ID != n.ID {
			t.Errorf("the cure changed the other network: %+v, %v", again, err)
		}
		w.noTrouble(all...)
		all[0].stops("winner")
		all[0].removes("blue")
		w.have(all)
		w.clean()
	})
}

// apart demands that a host's containers have no part in a network, and that it takes none.
func (w *world) apart(h *host, id string) {
	w.Helper()
	w.eventually(func() string {
		n, err := h.cluster.Network(w.ctx, id)
		w.must(err)
		own, err := h.cluster.Bound(w.ctx, id)
		w.must(err)
		local, remote := h.plane.forwards(id)
		if own.DockerID != "" || local+remote > 0 {
			return fmt.Sprintf("%s has a part in %s: %+v, %d of its containers, %d of others", h.id, n.Title(), own, local, remote)
		}
		return ""
	})
	hosts, err := h.cluster.AllEndpoints(w.ctx, id)
	w.must(err)
	for _, e := range hosts {
		if e.Host == h.id {
			w.Errorf("%s tells of endpoints: %+v", h.id, e)
		}
	}
	red, err := h.docker.Named(w.ctx, "red")
	w.must(err)
	_, err = h.driver.CreateEndpoint(w.ctx, &network.CreateEndpointRequest{NetworkID: red.ID, EndpointID: "new",
		Interface: &network.EndpointInterface{Address: "10.1.0.77/24"}})
	if !errors.Is(err, driver.ErrCutOff) || !strings.Contains(err.Error(), "'docker network rm red'") {
		w.Errorf("a new container gets %v", err)
	}
}

// TestOneSubnetOneName: one project that is started on all hosts at the same moment is one network.
func TestOneSubnetOneName(t *testing.T) {
	in(t, 3, func(w *world) {
		all := w.all()
		for _, h := range all {
			h.docker.slow.Store(true)
			h.creates(ours("shop_default", subnet("10.1.0.0/24")))
			h.runs("c", "shop_default")
		}
		for _, h := range all {
			h.docker.slow.Store(false)
		}
		w.still(all, "shop_default")
		w.noTrouble(all...)
		n, err := all[0].cluster.NetworkNamed(w.ctx, "shop_default")
		w.must(err)
		w.eventually(func() string {
			for _, h := range all {
				if local, remote := h.plane.forwards(n.ID); local != 1 || remote != 0 && remote != 2 {
					return fmt.Sprintf("%s forwards %d and %d", h.id, local, remote)
				}
			}
			return ""
		})
	})
}

// TestAskedName: -o network=NAME binds a Docker network of any name to the cluster's, on purpose.
func TestAskedName(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		all[0].creates(ours("web", subnet("10.1.0.0/24")))
		w.have(all, "web")
		n, err := all[0].cluster.NetworkNamed(w.ctx, "web")
		w.must(err)
		all[0].runs("user", "web")
		w.wantTold("user on h1")
		all[1].removes("web")
		w.have(all[1:])
		mine := ours("mine", subnet("10.1.0.0/24"))
		mine.Options = map[string]string{"network": "web"}
		all[1].creates(mine)
		all[1].runs("other", "mine")
		w.wantTold("other on h2, user on h1")
		w.still(all[1:], "mine")
		w.noTrouble(all...)
		if local, _ := all[1].plane.forwards(n.ID); local != 1 {
			t.Errorf("%d containers of h2 have a part in the network", local)
		}
	})
}
