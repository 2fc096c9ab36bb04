package driver_test

import (
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/store"
)

// TestCreateBesideBusy: a network is created while the switch keeps another one's lock, and is still refused beside a network that was
// cut off, also after a restart.
func TestCreateBesideBusy(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	w.must(a.create("busy", "LocalDefault"))
	w.must(a.CutOff(w.ctx, "busy", "because"))
	a.boot()
	free := &netRequest{"free", "10.2.0.0/24"}
	w.must(a.CreateNetwork(w.ctx, free.request()))
	_, err := a.endpoint("free", "e", "10.2.0.2/24", "")
	w.must(err)
	id := ""
	for _, n := range a.Networks() {
		if n.DockerID == "free" {
			id = n.ID
		}
	}
	release, joined := a.joinHeld(id, "free", "e")
	w.eventually("the switch is asked", func() bool { return a.plane.count() == 1 })
	created := make(chan error, 1)
	go func() {
		other := &netRequest{"other", "10.3.0.0/24"}
		created <- a.CreateNetwork(w.ctx, other.request())
	}()
	select {
	case err := <-created:
		w.must(err)
	case <-time.After(5 * time.Second):
		t.Error("the creation of a network waits for another network")
	}
	close(release)
	w.must(<-joined)
	w.wants(a.create("beside", "LocalDefault"), store.ErrInUse, "cut off", "docker network rm busy")
	w.must(a.remove("busy"))
	w.must(a.create("beside", "LocalDefault"))
}

// TestNameAfterRestart: a container waits for the name of a network also when the agent was restarted before anybody looked at that, and
// not when somebody has.
func TestNameAfterRestart(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	a.named = true
	a.boot()
	w.must(a.create("da", "LocalDefault"))
	id := a.Networks()[0].ID
	a.boot()
	_, err := a.endpoint("da", "ea", "10.1.0.2/24", "")
	w.must(err)
	joined := make(chan error, 1)
	go func() {
		_, err := a.join("da", "ea")
		joined <- err
	}()
	select {
	case err := <-joined:
		t.Fatalf("a container does not wait for the name: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	w.must(a.CutOff(w.ctx, "da", "because"))
	w.wants(<-joined, driver.ErrCutOff, "because")
	if n := a.plane.attached(id); n > 0 {
		t.Errorf("%d endpoints have a part in the network", n)
	}
	for name, look := range map[string]func(dockerID string) error{
		"Looked":  func(id string) error { return a.Looked(w.ctx, id) },
		"SetName": func(id string) error { return a.SetName(w.ctx, id, "web") },
	} {
		r := &netRequest{"of " + name, "10.2.0.0/24"}
		w.must(a.CreateNetwork(w.ctx, r.request()))
		if !a.waitsForNames() {
			t.Fatal("nobody looked at the name, and the journal does not know")
		}
		w.must(look(r.id))
		if a.waitsForNames() {
			t.Errorf("after %s containers wait for the name once more", name)
		}
		w.must(a.remove(r.id))
	}
}

// waitsForNames says whether the agent, started again, would wait for the name of some network.
func (h *host) waitsForNames() bool {
	h.w.Helper()
	return strings.Contains(strings.Join(h.w.dump(h.local.KV), "\n"), `"unnamed":true`)
}
