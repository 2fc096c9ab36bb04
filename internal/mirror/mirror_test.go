package mirror_test

import (
	"fmt"
	"net/netip"
	"slices"
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
			own, err := all[1].cluster.Bound(w.ctx, n.ID)
			w.must(err)
			if own.DockerID == "" {
				return "the cluster does not know again that h2 has the network"
			}
			return ""
		})
		all[1].removes("stays")
		w.have(all)
		w.clean()
	})
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
