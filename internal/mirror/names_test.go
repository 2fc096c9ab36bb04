package mirror_test

import (
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/mirror"
)

// TestOddNames: a network of any name that Docker takes is on all hosts, and goes from all; nothing stays in the way of others.
func TestOddNames(t *testing.T) {
	in(t, 3, func(w *world) {
		all := w.all()
		names := []string{"load 100%", "a//b", "x/../y", "..", "trailing ", " leading", strings.Repeat("n", 600), "ü/ö", "a\tb", "web"}
		for i, name := range names {
			all[i%3].creates(ours(name))
		}
		w.have(all, names...)
		w.noTrouble(all...)
		n, err := all[0].cluster.NetworkNamed(w.ctx, "web")
		w.must(err)
		all[1].creates(ours(n.ID)) // another network's id
		w.have(all, append(names, n.ID)...)
		for i, name := range append(names, n.ID) {
			all[(i+1)%3].removes(name)
		}
		w.have(all)
		w.clean()
	})
}

// TestCureOfOddName: a cure can be typed, whatever the name.
func TestCureOfOddName(t *testing.T) {
	in(t, 2, func(w *world) {
		w.hosts[1].creates(dockerwatch.Network{Name: "my net $(reboot)", Driver: "bridge"})
		all := w.all()
		all[0].creates(ours("my net $(reboot)"))
		n, err := all[1].docker.Named(w.ctx, "my net $(reboot)")
		w.must(err)
		all[1].wantTrouble("my net $(reboot)", "'docker network rm "+n.ID[:min(len(n.ID), 12)]+"'")
		if got := all[1].docker.names(mirror.DriverName); len(got) > 0 {
			t.Errorf("it has %q", got)
		}
	})
}
