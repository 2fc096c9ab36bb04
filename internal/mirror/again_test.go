package mirror_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/dockerwatch"
)

// TestCreatedWhereLetGo: `docker network create` or `docker compose up` on a host that let go of a network brings the cluster's back. Docker
// chooses another subnet for it there, as the network's own one is kept from its allocator.
func TestCreatedWhereLetGo(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		all[0].creates(ours("web", subnet("10.1.0.0/24")))
		w.have(all, "web")
		all[0].runs("user", "web")
		w.wantTold("user on h1")
		all[1].removes("web")
		w.still(all[1:])
		all[1].creates(ours("web", subnet("10.2.0.0/24")))
		w.eventually(func() string {
			n, err := all[1].docker.Named(w.ctx, "web")
			if err != nil {
				return "h2 has no network web"
			}
			if got := n.Subnets[0].CIDR.String(); got != "10.1.0.0/24" {
				return "h2 has web with " + got
			}
			return ""
		})
		w.still(all, "web")
		w.noTrouble(all...)
		all[1].runs("other", "web")
		w.wantTold("other on h2, user on h1")
	})
}

// TestLaterUse: a host that begins to use the subnet of a network that it has says so, until it ends.
func TestLaterUse(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		all[0].creates(ours("web", subnet("10.1.0.0/24")))
		all[0].creates(ours("db", subnet("10.2.0.0/24")))
		w.have(all, "db", "web")
		w.noTrouble(all...)
		lan := netip.MustParsePrefix("10.1.0.0/16")
		all[1].routes.Store(&lan)
		all[1].Wake()
		all[1].wantTrouble("web", "its subnet 10.1.0.0/24 overlaps 10.1.0.0/16, which this host uses for its interface eth7")
		w.still(all, "db", "web")
		if text := all[1].trouble("db"); text != "" {
			t.Errorf("trouble of db: %s", text)
		}
		w.noTrouble(all[0])
		all[1].routes.Store(nil)
		all[1].Wake()
		w.noTrouble(all...)
	})
}

// TestReplacedBeforeJoin: a container whose start is under way when its network loses the name to another host's does not run on a
// segment of its own: Join refuses it, and the cluster's network takes the place of the other.
func TestReplacedBeforeJoin(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		all[0].docker.slow.Store(true)
		all[1].docker.slow.Store(true)
		all[0].creates(ours("web", subnet("10.1.0.0/24")))
		all[1].creates(ours("web", subnet("10.2.0.0/24")))
		mine, err := all[1].docker.Named(w.ctx, "web")
		w.must(err)
		endpoint := &network.CreateEndpointRequest{NetworkID: mine.ID, EndpointID: "e1",
			Interface: &network.EndpointInterface{Address: "10.2.0.9/24", MacAddress: "02:00:00:00:00:09"}}
		_, err = all[1].driver.CreateEndpoint(w.ctx, endpoint)
		w.must(err)
		// Docker refuses to remove a network from the moment on that it has asked for an endpoint.
		all[1].docker.mu.Lock()
		all[1].docker.containers = append(all[1].docker.containers, container{name: "c", network: mine.ID, endpoint: "e1", pool: "10.2.0.0/24", addr: "10.2.0.9"})
		all[1].docker.mu.Unlock()
		all[0].docker.slow.Store(false)
		w.have(all[:1], "web")
		w.eventually(func() string {
			if _, err := all[0].cluster.NetworkNamed(w.ctx, "web"); err != nil {
				return err.Error()
			}
			return ""
		})
		all[1].docker.slow.Store(false)
		all[1].wantTrouble("web", "another host created a network of this name first")
		_, err = all[1].driver.Join(w.ctx, &network.JoinRequest{NetworkID: mine.ID, EndpointID: "e1"})
		if !errors.Is(err, driver.ErrCutOff) {
			t.Errorf("the container joins: %v", err)
		}
		all[1].kills("c") // Docker gives up
		w.must(all[1].driver.DeleteEndpoint(w.ctx, &network.DeleteEndpointRequest{NetworkID: mine.ID, EndpointID: "e1"}))
		w.eventually(func() string {
			n, err := all[1].docker.Named(w.ctx, "web")
			if err != nil {
				return "h2 has no network web"
			}
			if got := n.Subnets[0].CIDR.String(); got != "10.1.0.0/24" {
				return "h2 has web with " + got
			}
			return ""
		})
		all[1].runs("again", "web")
		w.noTrouble(all...)
	})
}

// TestCreatedOtherwise: `docker network rm`, and at once `docker network create` with the same subnet and other options, as Compose does
// when these change, makes a network with the new ones on all hosts, and nothing of the former.
func TestCreatedOtherwise(t *testing.T) {
	old := dockerwatch.Subnet{CIDR: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.1")}
	for name, change := range map[string]func(n *dockerwatch.Network){
		"internal": func(n *dockerwatch.Network) { n.Internal = true },
		"mtu":      func(n *dockerwatch.Network) { n.Options = map[string]string{"mtu": "1300"} },
		"labels":   func(n *dockerwatch.Network) { n.Labels = map[string]string{"new": "yes"} },
		"gateway": func(n *dockerwatch.Network) {
			n.Subnets[0].Gateway, n.IPAMDriver = netip.MustParseAddr("10.1.0.9"), "default"
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, 3, func(w *world) {
				all := w.all()
				first, next := ours("web", old), ours("web", old)
				first.Labels = map[string]string{"old": "yes"}
				change(&next)
				first.IPAMDriver = next.IPAMDriver
				all[0].creates(first)
				w.have(all, "web")
				all[0].removes("web")
				all[0].creates(next)
				want := all[0].network("web")
				w.eventually(func() string {
					for _, h := range all {
						if got := h.network("web"); got != want {
							return fmt.Sprintf("%s has\n%s\nwant\n%s", h.id, got, want)
						}
					}
					return ""
				})
				w.still(all, "web")
				w.noTrouble(all...)
				all[1].removes("web")
				w.have(all)
				w.clean()
			})
		})
	}
}
