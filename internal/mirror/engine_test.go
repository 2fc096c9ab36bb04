package mirror_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/mirror"
)

// space is the name of our address space.
const space = "socketplane"

// engine is a Docker in memory which calls the host's real drivers in libnetwork's order, and which wakes the mirror as the
// watcher of events does.
type engine struct {
	h *host
	// alive says that the agent runs: without it, networks of ours can't be made, and the removal of one is told to nobody.
	alive  atomic.Bool
	passes atomic.Int64
	down   atomic.Bool            // Docker itself does not answer
	slow   atomic.Bool            // it does, but lists nothing yet
	prunes atomic.Bool            // a prune of some kind runs
	before atomic.Pointer[func()] // happens once, when a copy is about to be made

	mu         sync.Mutex
	made       int
	began      time.Time // when Docker was started
	past       []event
	looks      int                            // how often Past was asked
	networks   map[string]dockerwatch.Network // by id
	containers []container
	labels     map[string]string
	asked      []string        // names of copies
	refuses    map[string]bool // copies of these names
	questions  map[string]int  // that were asked, by what for
	late       time.Duration   // from an endpoint's event to its being listed
	// elsewhere are addresses of ours that containers have on networks of other drivers.
	elsewhere map[netip.Addr]bool
}

// event is one that Docker remembers.
type event struct {
	at           time.Time
	kind, action string
	id           string
}

// container is a container on one network.
type container struct {
	name, network, endpoint, pool, addr string
	id                                  string // if it was renamed, and so is not the one of its name
	// listed is when Docker has noted the endpoint with the container.
	listed time.Time
}

func newEngine(h *host) *engine {
	return &engine{h: h, networks: map[string]dockerwatch.Network{}, began: time.Now()}
}

// Ready is what each pass begins with.
func (e *engine) Ready() error {
	e.passes.Add(1)
	return e.ready()
}

func (e *engine) ready() error {
	if e.down.Load() {
		return dockerwatch.ErrUnavailable
	}
	return nil
}

// names lists the networks with a driver.
func (e *engine) names(driver string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	names := []string{}
	for _, n := range e.networks {
		if n.Driver == driver {
			names = append(names, n.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Create makes a copy, as the watcher does.
func (e *engine) Create(ctx context.Context, n dockerwatch.Network) (string, error) {
	if e.slow.Load() { // a pass that has listed the networks before may come this far
		return "", dockerwatch.ErrUnavailable
	}
	if before := e.before.Swap(nil); before != nil {
		(*before)()
	}
	n.Driver, n.IPAMDriver = mirror.DriverName, mirror.DriverName
	e.mu.Lock()
	e.asked = append(e.asked, n.Name)
	refuses := e.refuses[n.Name]
	e.mu.Unlock()
	if refuses {
		return "", fmt.Errorf("%w: not here", dockerwatch.ErrRefused)
	}
	return e.create(ctx, n)
}

// create is `docker network create`.
func (e *engine) create(ctx context.Context, n dockerwatch.Network) (string, error) {
	if err := e.ready(); err != nil {
		return "", err
	}
	e.mu.Lock()
	e.made++
	n.ID = fmt.Sprintf("%s-docker-%d", e.h.id, e.made)
	e.mu.Unlock()
	if other, err := e.Named(ctx, n.Name); err == nil {
		return "", fmt.Errorf("%w: network with name %s already exists with driver %s", dockerwatch.ErrRefused, n.Name, other.Driver)
	}
	if n.Driver == mirror.DriverName {
		if err := e.bind(ctx, &n); err != nil {
			return "", fmt.Errorf("%w: %w", dockerwatch.ErrRefused, err)
		}
	}
	e.mu.Lock()
	e.networks[n.ID] = n
	e.mu.Unlock()
	e.event("network", "create", n.ID, "")
	return n.ID, nil
}

// Remove is `docker network rm`, which a plugin can't veto.
func (e *engine) Remove(ctx context.Context, id string) error {
	if err := e.ready(); err != nil {
		return err
	}
	e.mu.Lock()
	n, ok := e.networks[id]
	used := slices.ContainsFunc(e.containers, func(c container) bool { return c.network == id })
	if ok && !used {
		delete(e.networks, id)
	}
	e.mu.Unlock()
	if used {
		return fmt.Errorf("%w: network %s has active endpoints", dockerwatch.ErrRefused, n.Name)
	}
	if ok {
		e.tell(n)
	}
	e.remember("network", "destroy", id)
	e.event("network", "destroy", id, "")
	return nil
}

func (e *engine) remember(kind, action, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.past = append(e.past, event{time.Now(), kind, action, id})
}

// Pruning says whether a prune runs.
func (e *engine) Pruning(context.Context) (bool, error) { return e.prunes.Load(), e.ready() }

// Past tells what Docker remembers.
func (e *engine) Past(_ context.Context, id string, since time.Time) (dockerwatch.Past, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var p dockerwatch.Past
	e.looks++
	for _, ev := range e.past {
		switch {
		case ev.at.Before(since):
		case ev.action == "prune":
			p.Pruned = append(p.Pruned, ev.kind)
		case ev.id == id:
			p.Destroyed = true
		}
	}
	return p, e.ready()
}

// looked is how often Past was asked.
func (e *engine) looked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.looks
}

// Heard is when the agent has found Docker.
func (e *engine) Heard() (time.Time, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.began, e.ready()
}

// event is one of Docker's, as the watcher tells the mirror.
func (e *engine) event(kind, action, id, container string) {
	if e.alive.Load() {
		e.h.Heard(dockerwatch.Event{Kind: kind, Action: action, ID: id, Container: container})
	}
}

// label gives labels to all containers.
func (e *engine) label(labels map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.labels = labels
}

// rename is `docker rename`.
func (e *engine) rename(old, name string) {
	e.mu.Lock()
	for i := range e.containers {
		if e.containers[i].name == old {
			e.containers[i].name, e.containers[i].id = name, "id of "+old
		}
	}
	e.mu.Unlock()
	e.event("container", "rename", "id of "+old, "")
}

// lose forgets all networks, as a Docker that crashes before it has written them down.
func (e *engine) lose() {
	e.mu.Lock()
	clear(e.networks)
	e.mu.Unlock()
	e.event("", "", "", "")
}
