package mirror_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/mirror"
	"github.com/socketplane/socketplane/plugin/netapi"
)

// prune is `docker network prune`, or `docker system prune`, that ends with end: nothing for one that is broken off.
func (h *host) prune(end string) {
	h.w.Helper()
	h.docker.prunes.Store(true)
	for _, name := range h.docker.names(mirror.DriverName) {
		n, err := h.docker.Named(h.w.ctx, name)
		h.w.must(err)
		_ = h.docker.Remove(h.w.ctx, n.ID) // what is in use stays
	}
	if end != "" {
		h.docker.remember(end, "prune", "")
	}
	h.docker.prunes.Store(false)
}

// restarted is a Docker that was started again: it has forgotten all events.
func (h *host) restarted() {
	h.docker.mu.Lock()
	defer h.docker.mu.Unlock()
	h.docker.past, h.docker.began = nil, time.Now()
}

// forgets makes Docker forget its events, as it does when there are many new ones, after it was asked why it removed a network.
func (h *host) forgets() {
	h.w.Helper()
	h.w.eventually(func() string {
		if all := h.driver.Removals(); len(all) != 1 || all[0].Verdict == driver.Undecided {
			return fmt.Sprintf("removals are %+v", all)
		}
		return ""
	})
	h.docker.mu.Lock()
	defer h.docker.mu.Unlock()
	h.docker.past, h.docker.looks = nil, 0
}

// fate is what becomes of a network that one host's Docker removes.
type fate struct {
	// does is what happens on h1, where "web" idles; used says that h2 has a container on it.
	does func(h *host)
	used bool
	// kept says that the cluster keeps the network, back that h1 has it again, note what inspect says.
	kept, back bool
	note       string
}

// TestWhyRemoved: a user's removal is everybody's, a prune is this host's, and what nobody can tell any more counts as a prune.
func TestWhyRemoved(t *testing.T) {
	const pruned, unknown = "docker pruned it", "could not say why"
	fates := map[string]fate{
		"rm":                       {does: func(h *host) { h.removes("web") }},
		"rm while others use it":   {does: func(h *host) { h.removes("web") }, used: true, kept: true},
		"prune":                    {does: func(h *host) { h.prune("network") }, kept: true, back: true, note: pruned},
		"prune while others use":   {does: func(h *host) { h.prune("network") }, used: true, kept: true, back: true, note: pruned},
		"prune that is broken off": {does: func(h *host) { h.slowPrune("") }, kept: true, back: true, note: pruned},
		"slow prune":               {does: func(h *host) { h.slowPrune("network") }, kept: true, back: true, note: pruned},
		"rm while images are pruned": {does: func(h *host) {
			h.docker.prunes.Store(true)
			h.removes("web")
			h.w.passes(h)
			h.docker.remember("image", "prune", "")
			h.docker.prunes.Store(false)
		}},
		"prune twice": {does: func(h *host) {
			h.prune("network")
			h.w.have([]*host{h}, "web")
			h.prune("network")
		}, kept: true, back: true, note: pruned},
		"rm after prune": {does: func(h *host) {
			h.prune("network")
			h.w.have([]*host{h}, "web")
			h.removes("web")
		}},
		"rm, and the agent is killed": {does: func(h *host) {
			h.docker.down.Store(true) // nothing can be asked
			h.removesUnasked("web")
			h.down()
			h.docker.down.Store(false)
			h.foundAgain()
			h.up()
		}},
		"prune, and the agent is killed": {does: func(h *host) {
			h.docker.down.Store(true)
			h.removesUnasked("web")
			h.docker.remember("network", "prune", "")
			h.down()
			h.docker.down.Store(false)
			h.foundAgain()
			h.up()
		}, kept: true, back: true, note: pruned},
		"rm while the store is away, and both are killed": {does: func(h *host) {
			h.w.kv.down.Store(true)
			h.removes("web")
			h.w.eventually(func() string { // Docker was asked in time
				if all := h.driver.Removals(); len(all) != 1 || all[0].Verdict != driver.RemovedByUser {
					return fmt.Sprintf("removals are %+v", all)
				}
				return ""
			})
			h.down()
			h.restarted()
			h.up()
			h.w.kv.down.Store(false)
		}},
		"prune while the store is away": {does: func(h *host) {
			h.w.kv.down.Store(true)
			h.prune("network")
			h.w.kv.down.Store(false)
		}, kept: true, back: true, note: pruned},
		"prune while the store is away, and Docker forgets": {does: func(h *host) {
			h.w.kv.down.Store(true)
			h.prune("network")
			h.forgets()
			h.w.passes(h)
			if h.docker.looked() > 0 {
				h.w.Error("docker is asked again what is known")
			}
			h.w.kv.down.Store(false)
		}, kept: true, back: true, note: pruned},
		"prune while the store is away, Docker forgets, and the agent is killed": {does: func(h *host) {
			h.w.kv.down.Store(true)
			h.prune("network")
			h.forgets()
			h.down()
			h.up()
			h.w.kv.down.Store(false)
		}, kept: true, back: true, note: pruned},
		"system prune of more than Docker remembers": {does: func(h *host) {
			h.w.kv.down.Store(true) // so that the verdict can be seen
			h.docker.prunes.Store(true)
			h.removes("web")
			h.docker.remember("network", "prune", "")
			h.w.kv.down.Store(true) // so that the answer can be seen
			h.forgets()             // images are pruned by now
			h.docker.remember("image", "prune", "")
			h.docker.prunes.Store(false)
			h.w.kv.down.Store(false)
		}, kept: true, back: true, note: pruned},
		"system prune of which Docker remembers the end alone": {does: func(h *host) {
			h.docker.prunes.Store(true)
			h.removes("web")
			h.w.passes(h)
			h.docker.mu.Lock()
			h.docker.past = []event{{time.Now(), "image", "prune", ""}}
			h.docker.mu.Unlock()
			h.docker.prunes.Store(false)
		}, kept: true, back: true, note: unknown},
		"rm while the agent can't start": {does: func(h *host) {
			h.removedEarlier("web", "")
		}},
		"prune while the agent can't start": {does: func(h *host) {
			h.removedEarlier("web", "network")
		}, kept: true, back: true, note: pruned},
		"rm, and Docker is killed": {does: func(h *host) {
			h.docker.down.Store(true)
			h.removesUnasked("web")
			h.restarted()
			h.docker.down.Store(false)
		}, kept: true, back: true, note: unknown},
	}
	for name, f := range fates {
		t.Run(name, func(t *testing.T) {
			in(t, 3, func(w *world) {
				all := w.all()
				all[0].creates(ours("web"))
				w.have(all, "web")
				if f.used {
					all[1].runs("user", "web")
					w.wantTold("user on h2")
				}
				n, err := all[0].cluster.NetworkNamed(w.ctx, "web")
				w.must(err)
				f.does(all[0])
				w.eventually(func() string {
					if left := all[0].driver.Removals(); len(left) > 0 {
						return fmt.Sprintf("not settled: %+v", left)
					}
					return ""
				})
				w.fated(f, n.ID)
			})
		})
	}
}

func (w *world) fated(f fate, id string) {
	w.Helper()
	here, others := []string{}, []string{}
	if f.kept {
		others = []string{"web"}
	}
	if f.back {
		here = others
	}
	w.still(w.hosts[:1], here...)
	w.still(w.hosts[1:], others...)
	if note := w.hosts[0].Note(id); !strings.Contains(note, f.note) || (f.note == "") != (note == "") {
		w.Errorf("the note is %q", note)
	}
	if note := w.hosts[0].Note(id); f.back && !strings.Contains(note, "'docker network disconnect -f web CONTAINER' and 'docker network connect web CONTAINER'") {
		w.Errorf("the note names no cure for stopped containers: %q", note)
	}
	if f.used {
		w.hosts[1].stops("user")
		w.wantTold("")
	}
	if f.kept {
		w.hosts[1].removes("web")
		w.have(w.hosts)
	}
	w.clean()
}

// slowPrune is a prune of which the agent sees for a while that it runs.
func (h *host) slowPrune(end string) {
	h.docker.prunes.Store(true)
	h.removes("web")
	h.w.passes(h)
	if end != "" {
		h.docker.remember(end, "prune", "")
	}
	h.docker.prunes.Store(false)
}

// removesUnasked removes a network while Docker answers the agent nothing.
func (h *host) removesUnasked(name string) {
	h.vanishes(name)
}

// vanishes removes a network from Docker, which tells our drivers if they answer. It returns Docker's id.
func (h *host) vanishes(name string) (id string) {
	h.docker.mu.Lock()
	for _, n := range h.docker.networks {
		if n.Name == name {
			id = n.ID
		}
	}
	n := h.docker.networks[id]
	delete(h.docker.networks, id)
	h.docker.mu.Unlock()
	h.docker.tell(n)
	h.docker.remember("network", "destroy", id)
	return id
}

// removedEarlier removes a network while no agent can start: the next one does what Docker asked for then, and only afterwards finds
// Docker. With pruned it was a prune of those.
func (h *host) removedEarlier(name, pruned string) {
	h.w.Helper()
	h.down()
	at := time.Now()
	id := h.vanishes(name)
	if pruned != "" {
		h.docker.remember(pruned, "prune", "")
	}
	h.docker.down.Store(true)
	h.up()
	h.w.must(h.driver.DeleteNetwork(netapi.WithArrival(h.w.ctx, at), &network.DeleteNetworkRequest{NetworkID: id}))
	h.foundAgain()
	h.docker.down.Store(false)
}

// foundAgain makes the agent's next connection to Docker younger than all that was.
func (h *host) foundAgain() {
	h.docker.mu.Lock()
	defer h.docker.mu.Unlock()
	h.docker.began = time.Now()
}

// TestRemovedWhileAgentIsDown: a network that Docker lost while the agent was down comes back, and its user is told how it goes for good.
func TestRemovedWhileAgentIsDown(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		all[0].creates(ours("web", subnet("10.1.0.0/24")))
		w.have(all, "web")
		id := all[0].driver.Networks()[0].ID
		all[0].down()
		all[0].vanishes("web")
		all[0].up()
		w.eventually(func() string {
			if note := all[0].Note(id); !strings.Contains(note, "the agent was down") || !strings.Contains(note, "docker network rm") {
				return "the note is " + note
			}
			return ""
		})
		w.have(all, "web")
		all[0].removes("web")
		w.clean()
	})
}

// TestMadeAgain: a network that is made again at once, as `docker compose up` does after `down`, is there, whatever was removed before.
func TestMadeAgain(t *testing.T) {
	in(t, 2, func(w *world) {
		all := w.all()
		for range 10 {
			all[0].creates(ours("web", subnet("10.1.0.0/24")))
			w.have(all, "web")
			all[0].removes("web")
		}
		all[0].creates(ours("web", subnet("10.2.0.0/24")))
		w.eventually(func() string {
			for _, h := range all {
				if got := h.network("web"); !strings.Contains(got, "10.2.0.0/24") {
					return fmt.Sprintf("%s has %s", h.id, got)
				}
			}
			return ""
		})
		w.noTrouble(all...)
		all[1].removes("web")
		w.have(all)
		w.clean()
	})
}
