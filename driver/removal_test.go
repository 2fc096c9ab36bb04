package driver_test

import (
	"slices"
	"testing"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/store"
)

// TestRemovalUnjudged: where nobody asks Docker why it removed a network, it goes from this host alone.
func TestRemovalUnjudged(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	w.must(a.create("da", space))
	w.must(b.create("db", space))
	n, err := a.cluster.Networks(w.ctx)
	w.must(err)
	_, err = a.cluster.Declare(w.ctx, n[0].ID, "web", store.Declaration{})
	w.must(err)
	w.must(a.remove("da"))
	if left := a.Removals(); len(left) > 0 {
		t.Errorf("removals that nobody settles: %+v", left)
	}
	got, err := b.cluster.NetworkNamed(w.ctx, "web")
	if err != nil || got.State != store.Active || !slices.Equal(w.bound(got.ID), []string{"b"}) {
		t.Errorf("the cluster has %+v, %v", got, err)
	}
}

// TestCutOff: a network that is cut off has no part in the cluster's, whatever was away at that moment and whoever died, and
// leaves nothing behind when Docker removes it.
func TestCutOff(t *testing.T) {
	tests := map[string]func(h *host){
		"all answer":         func(*host) {},
		"the store is away":  func(h *host) { h.shared.set(true) },
		"the switch is away": func(h *host) { h.plane.setDown(errPlane) },
	}
	for name, harm := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.host("a").run(), w.host("b").run()
			w.must(a.create("da", "LocalDefault"))
			w.must(b.create("db", "LocalDefault"))
			a.container("da", "ea", "10.1.0.2/24")
			b.container("db", "eb", "10.1.0.3/24")
			id := b.Networks()[0].ID
			harm(b)
			failed := b.CutOff(w.ctx, "db", "because")
			if (failed != nil) != (name != "all answer") {
				t.Fatalf("cut off: %v", failed)
			}
			_, err := b.endpoint("db", "new", "10.1.0.4/24", "")
			if name != "the switch is away" { // else that comes first
				w.wants(err, driver.ErrCutOff, "because")
			}
			b.shared.set(false)
			b.boot()
			b.run()
			w.must(b.CutOff(w.ctx, "db", "because"))
			w.must(b.CutOff(w.ctx, "db", "because")) // again
			if attached := b.plane.attached(id); attached > 0 {
				t.Errorf("%d endpoints have a part in the network", attached)
			}
			if bound := w.bound(id); !slices.Equal(bound, []string{"a"}) {
				t.Errorf("the cluster has it on %q", bound)
			}
			w.eventually("b tells of no endpoints", func() bool {
				e, err := a.cluster.Endpoints(w.ctx, id, "b")
				return err == nil && len(e.Endpoints) == 0
			})
			w.must(b.ipam.Sync(w.ctx))
			w.wantClaims(shared + " 10.1.0.2=a") // what b's Docker chose is free
			_, err = b.join("db", "eb")
			w.wants(err, driver.ErrCutOff, "because")
			w.wants(b.create("other", "LocalDefault"), store.ErrInUse, "cut off", "docker network rm db")
			w.must(b.leave("db", "eb"))
			w.must(b.delete("db", "eb"))
			w.must(b.remove("db"))
			w.must(b.create("other", "LocalDefault"))
			w.must(b.remove("other"))
			w.must(a.leave("da", "ea"))
			w.must(a.delete("da", "ea"))
			w.must(a.remove("da"))
			w.clean(a, b)
		})
	}
}

// attached counts the endpoints of this host that have a part in a network.
func (p *plane) attached(id string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, e := range p.networks[id].Local {
		if e.Attached {
			n++
		}
	}
	return n
}
