package driver_test

import (
	"testing"
	"time"

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
	release := make(chan struct{})
	a.plane.mu.Lock()
	a.plane.block[id] = release
	a.plane.mu.Unlock()
	joined := make(chan error, 1)
	go func() {
		_, err := a.join("free", "e")
		joined <- err
	}()
	w.eventually("the switch is asked", func() bool { return a.plane.attached(id) == 1 })
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
