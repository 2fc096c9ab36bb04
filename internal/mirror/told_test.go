package mirror_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
)

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
