package mirror_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/dockerwatch"
)

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
