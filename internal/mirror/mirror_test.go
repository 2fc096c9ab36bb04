package mirror_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/mirror"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/store"
)

func TestMain(m *testing.M) { leaks.Main(m) }

// TestCopies: what one host's Docker has, all have, with everything that was asked for.
func TestCopies(t *testing.T) {
	whole := ours("whole",
		dockerwatch.Subnet{CIDR: netip.MustParsePrefix("10.1.0.0/16"), Range: netip.MustParsePrefix("10.1.2.0/24"), Gateway: netip.MustParseAddr("10.1.0.9"),
			Aux: map[string]netip.Addr{"router": netip.MustParseAddr("10.1.0.10")}},
		dockerwatch.Subnet{CIDR: netip.MustParsePrefix("fd01::/64"), Gateway: netip.MustParseAddr("fd01::9")})
	whole.IPv6, whole.Internal, whole.Attachable = true, true, true
	whole.Options, whole.Labels = map[string]string{"mtu": "1400"}, map[string]string{"com.docker.compose.network": "back", "x": ""}
	dockers := ours("dockers", dockerwatch.Subnet{CIDR: netip.MustParsePrefix("10.3.0.0/24"), Gateway: netip.MustParseAddr("10.3.0.1")})
	dockers.IPAMDriver = "default"
	for _, n := range []dockerwatch.Network{whole, dockers} {
		t.Run(n.Name, func(t *testing.T) {
			in(t, 3, func(w *world) {
				all := w.all()
				all[1].creates(n)
				w.have(all, n.Name)
				for _, h := range all {
					if got, want := h.network(n.Name), all[1].network(n.Name); got != want {
						t.Errorf("%s has\n%s\nh2 has\n%s", h.id, got, want)
					}
				}
				w.noTrouble(all...)
				all[1].removes(n.Name)
				w.have(all)
				w.clean()
			})
		})
	}
}

// TestChosenSubnet: a network without a subnet has the same one everywhere, chosen once.
func TestChosenSubnet(t *testing.T) {
	in(t, 3, func(w *world) {
		all := w.all()
		all[0].creates(ours("web"))
		w.have(all, "web")
		var seen []string
		for _, h := range all {
			n, err := h.docker.Named(w.ctx, "web")
			w.must(err)
			seen = append(seen, n.Subnets[0].CIDR.String())
		}
		if len(slices.Compact(seen)) != 1 {
			t.Errorf("subnets %v", seen)
		}
	})
}

// TestDeclaredByCommand: a network that no Docker has yet comes to all, and goes from all.
func TestDeclaredByCommand(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		n, err := all[0].cluster.Create(w.ctx, store.NewNetwork{Name: "cli", Pools: []netip.Prefix{netip.MustParsePrefix("10.5.0.0/24")}})
		w.must(err)
		w.have(all, "cli")
		w.must(all[1].cluster.Remove(w.ctx, n.ID))
		w.have(all)
		w.clean()
	})
}

// TestHostComesLate: a host that joins, or comes back, has what the others have, and drops what was removed.
func TestHostComesLate(t *testing.T) {
	in(t, 3, func(w *world) {
		all := w.hosts
		all[0].up()
		all[2].up()
		all[0].creates(ours("stays"))
		all[0].creates(ours("goes"))
		w.have([]*host{all[0], all[2]}, "goes", "stays")
		all[2].down()
		all[0].removes("goes")
		all[0].creates(ours("late"))
		w.have(all[:1], "late", "stays")
		w.have(all[2:], "goes", "stays")
		all[1].up()
		all[2].up()
		w.have(all, "late", "stays")
		w.noTrouble(all...)
	})
}

// TestLetGo: docker network rm removes a network only here while another host uses it, and it stays away until it is attached.
func TestLetGo(t *testing.T) {
	in(t, 3, func(w *world) {
		all := w.all()
		all[0].creates(ours("web"))
		w.have(all, "web")
		all[1].runs("user", "web")
		w.wantTold("user on h2")
		all[0].removes("web")
		w.still(all[:1])
		w.still(all[1:], "web")
		all[0].up() // again
		w.still(all[:1])
		n, err := all[1].cluster.NetworkNamed(w.ctx, "web")
		w.must(err)
		w.must(all[0].cluster.Attach(w.ctx, n.ID))
		all[0].Wake()
		w.have(all, "web")
		all[1].stops("user")
		w.wantTold("")
		all[0].removes("web")
		w.have(all)
		w.clean()
	})
}

// TestRemovedInUse: what was removed while nobody could know of this host's containers stays under them, and says so; it goes when
// they do.
func TestRemovedInUse(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		all[0].creates(ours("web"))
		w.have(all, "web")
		w.kv.mute.Store(true)
		all[1].runs("user", "web")
		all[0].removes("web")
		w.still(all[:1])
		w.still(all[1:], "web")
		all[1].wantTrouble("web", "it was removed on another host", "1 containers of this host still use it", "then it goes by itself")
		all[1].stops("user")
		w.have(all)
		w.noTrouble(all...)
		w.kv.mute.Store(false)
		w.clean()
	})
}

// TestRemovedWhileTakenForGone: a host that was away for so long that the cluster forgot it drops what was removed meanwhile, but not
// from under containers.
func TestRemovedWhileTakenForGone(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		for i, name := range []string{"goes", "stays", "used"} {
			all[0].creates(ours(name, subnet(fmt.Sprintf("10.%d.0.0/24", i+1))))
		}
		w.have(all, "goes", "stays", "used")
		all[1].runs("user", "used")
		w.passes(all...)
		all[1].down()
		w.must(all[0].cluster.RemoveHost(w.ctx, "h2"))
		all[0].removes("goes")
		all[0].removes("used")
		w.have(all[:1], "stays")
		w.must(all[1].cluster.PutHost(w.ctx, store.Host{ID: "h2", Name: "h2"}))
		all[1].up()
		w.still(all[1:], "stays", "used")
		all[1].wantTrouble("used", "it was removed while this host was away", "1 containers of this host still use it")
		all[1].stops("user")
		w.still(all[1:], "stays")
		w.noTrouble(all...)
		w.eventually(func() string {
			n, err := all[0].cluster.NetworkNamed(w.ctx, "stays")
			w.must(err)
			if n.Hosts["h2"] == "" {
				return "the cluster does not know again that h2 has the network"
			}
			return ""
		})
		all[1].removes("stays")
		w.have(all)
		w.clean()
	})
}

// TestOneName: two hosts that create the same name at once end with one network; the other gives way, as soon as it can.
func TestOneName(t *testing.T) {
	for _, used := range []bool{false, true} {
		t.Run(fmt.Sprint("used=", used), func(t *testing.T) {
			in(t, 3, func(w *world) {
				all := w.all()
				for i, h := range all[:2] { // neither agent has seen its own yet
					h.docker.slow.Store(true)
					h.creates(ours("same", subnet(fmt.Sprintf("10.%d.0.0/24", i+1))))
				}
				if used {
					all[1].runs("user", "same")
				}
				all[0].docker.slow.Store(false)
				w.have(all[2:], "same")
				all[1].docker.slow.Store(false)
				if used {
					all[1].wantTrouble("same", "another host created a network of this name first", "10.1.0.0/24", "1 containers of this host still use it")
					w.still(all, "same")
					all[1].stops("user")
				}
				w.eventually(func() string {
					for _, h := range all {
						if got := h.network("same"); !strings.Contains(got, "10.1.0.0/24") {
							return fmt.Sprintf("%s has %s", h.id, got)
						}
					}
					return ""
				})
				w.noTrouble(all...)
				all[2].removes("same")
				w.have(all)
				w.clean()
			})
		})
	}
}

// TestConflicts: what a host has for itself is left alone and told, and the network comes once it is gone.
func TestConflicts(t *testing.T) {
	tests := map[string]struct {
		harm, mend func(*host)
		words      []string
	}{
		"a network of that name": {
			func(h *host) { h.creates(dockerwatch.Network{Name: "web", Driver: "bridge"}) },
			func(h *host) { h.removes("web") },
			[]string{"driver bridge", "docker network rm web"},
		},
		"a subnet in use": {
			func(h *host) { r := netip.MustParsePrefix("10.1.0.0/24"); h.routes.Store(&r) },
			func(h *host) { h.routes.Store(nil) },
			[]string{"10.1.0.0/16", "overlaps 10.1.0.0/24", "remove that network or route"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in(t, 3, func(w *world) {
				tt.harm(w.hosts[2])
				all := w.all()
				all[0].creates(ours("web", subnet("10.1.0.0/16")))
				w.have(all[:2], "web")
				w.have(all[2:])
				all[2].wantTrouble("web", tt.words...)
				w.noTrouble(all[:2]...)
				tt.mend(all[2])
				w.have(all, "web")
				w.noTrouble(all...)
			})
		})
	}
}

// TestDockerOrStoreAway: nothing is taken for gone because nobody answers, and all is made up for afterwards.
func TestDockerOrStoreAway(t *testing.T) {
	t.Run("Docker", func(t *testing.T) {
		in(t, 2, func(w *world) {
			all := w.all()
			all[0].creates(ours("web", subnet("10.1.0.0/24")))
			w.have(all, "web")
			all[1].docker.down.Store(true)
			all[0].creates(ours("db", subnet("10.2.0.0/24")))
			w.still(all[1:], "web")
			w.compares(all[1], false)
			all[1].docker.down.Store(false)
			w.have(all, "db", "web")
			w.compares(all[1], true)
			w.noTrouble(all...)
		})
	})
	t.Run("store", func(t *testing.T) {
		in(t, 2, func(w *world) {
			all := w.all()
			all[0].creates(ours("web", subnet("10.1.0.0/24")))
			w.have(all, "web")
			w.kv.down.Store(true)
			w.still(all, "web")
			all[0].removes("web") // the cluster learns of it when it answers again
			w.still(all[1:], "web")
			w.compares(all[1], false)
			w.kv.down.Store(false)
			w.have(all)
			w.compares(all[1], true)
			w.clean()
		})
	})
}

// compares waits until a host's last pass succeeded, or did not.
func (w *world) compares(h *host, well bool) {
	w.Helper()
	began := time.Now()
	w.eventually(func() string {
		last := h.Last()
		if (last.Err == nil) != well || last.At.IsZero() || well && last.At.Before(began) {
			return fmt.Sprintf("the last pass of %s: %+v", h.id, last)
		}
		return ""
	})
}

// TestFirstNetwork: it is made once, by one of all hosts, and who removes it wants it gone.
func TestFirstNetwork(t *testing.T) {
	tests := map[string]mirror.Default{
		"chosen": {Name: "socketplane"}, "given": {Name: "start", Subnet: netip.MustParsePrefix("10.9.0.0/24")}, "none": {},
	}
	for name, first := range tests {
		t.Run(name, func(t *testing.T) {
			in(t, 3, func(w *world) {
				w.first = first
				all := w.all()
				if first.Name == "" {
					w.still(all)
					return
				}
				w.have(all, first.Name)
				if first.Subnet.IsValid() && !strings.Contains(all[2].network(first.Name), first.Subnet.String()) {
					t.Errorf("it is %s", all[2].network(first.Name))
				}
				all[1].removes(first.Name)
				w.still(all)
				w.all() // again
				w.still(all)
				w.clean()
			})
		})
	}
}

// TestFirstNetworkInTheWay: its subnet is used already, or none can be chosen; the hosts go on without it, tell why, and make it as
// soon as it can be.
func TestFirstNetworkInTheWay(t *testing.T) {
	for name, given := range map[string]string{"given": "10.9.1.0/24", "chosen": ""} {
		t.Run(name, func(t *testing.T) {
			in(t, 2, func(w *world) {
				all := w.all()
				all[0].creates(ours("web", subnet("10.9.0.0/16")))
				w.have(all, "web")
				w.first = mirror.Default{Name: "start"}
				word := "10.9.0.0/16"
				if given != "" {
					w.first.Subnet = netip.MustParsePrefix(given)
				} else {
					word = "10.0.0.0/8"
					w.must(all[0].cluster.PutHost(w.ctx, store.Host{Name: "h9", Subnets: []netip.Prefix{
						netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16")}}))
				}
				w.all()
				all[0].wantTrouble("start", word, "--default-subnet")
				all[1].creates(ours("db", subnet("11.8.0.0/16")))
				w.have(all, "db", "web")
				all[0].removes("web")
				w.must(all[0].cluster.PutHost(w.ctx, store.Host{Name: "h9"}))
				w.have(all, "db", "start")
			})
		})
	}
}

// TestByHand: a host that does not follow makes and tells no networks, but tells its containers.
func TestByHand(t *testing.T) {
	in(t, 2, func(w *world) {
		w.hosts[1].follow = false
		all := w.all()
		all[0].creates(ours("web", subnet("10.1.0.0/24")))
		w.still(all[1:])
		all[1].creates(ours("web", subnet("10.1.0.0/24")))
		all[1].runs("c", "web")
		w.wantTold("c on h2")
	})
}

// wantTold waits until the cluster knows that exactly these containers are on the network "web".
func (w *world) wantTold(want string) {
	w.Helper()
	w.eventually(func() string {
		if got := w.told("web"); got != want {
			return fmt.Sprintf("told are %q, not %q", got, want)
		}
		return ""
	})
}

// told lists which containers the cluster knows to be on a network.
func (w *world) told(name string) string {
	w.Helper()
	n, err := w.hosts[0].cluster.NetworkNamed(w.ctx, name)
	w.must(err)
	hosts, err := w.hosts[0].cluster.AllEndpoints(context.Background(), n.ID)
	w.must(err)
	var all []string
	for _, h := range hosts {
		for _, e := range h.Endpoints {
			if e.Container == nil {
				all = append(all, "somebody on "+h.Host)
				continue
			}
			all = append(all, e.Container.Name+" on "+h.Host)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// TestTimesWithin: a short grace shortens what would take longer, and looks often enough; a long one changes nothing.
func TestTimesWithin(t *testing.T) {
	usual := mirror.Usual()
	short := usual
	short.Pass, short.Look, short.Vanished, short.Lost, short.All = time.Second, time.Second, 4*time.Second, 4*time.Second, 4*time.Second
	between := usual
	between.Pass, between.Look, between.Lost, between.All = 5*time.Second, 5*time.Second, 20*time.Second, 20*time.Second
	minute := usual
	minute.All = time.Minute
	for grace, want := range map[time.Duration]mirror.Times{4 * time.Second: short, 20 * time.Second: between, time.Minute: minute, 5 * time.Minute: usual} {
		if got := usual.Within(grace); got != want {
			t.Errorf("within %v: %+v, want %+v", grace, got, want)
		}
	}
}
