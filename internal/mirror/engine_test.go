package mirror_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

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

func (e *engine) Networks(context.Context) ([]dockerwatch.Network, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.slow.Load() {
		return nil, dockerwatch.ErrUnavailable
	}
	e.count("all networks")
	var all []dockerwatch.Network
	for _, n := range e.networks {
		if n.Driver == mirror.DriverName {
			all = append(all, n)
		}
	}
	return all, e.ready()
}

func (e *engine) Named(_ context.Context, name string) (dockerwatch.Network, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.networks {
		if n.Name == name {
			return n, e.ready()
		}
	}
	return dockerwatch.Network{}, dockerwatch.ErrNotFound
}

// Create makes a copy, as the watcher does.
func (e *engine) Create(ctx context.Context, n dockerwatch.Network) (string, error) {
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

// bind asks our drivers for a network.
func (e *engine) bind(ctx context.Context, n *dockerwatch.Network) error {
	if !e.alive.Load() {
		return fmt.Errorf("plugin %q not found", mirror.DriverName)
	}
	generic := map[string]any{}
	for k, v := range n.Options {
		generic[k] = v
	}
	r := &network.CreateNetworkRequest{NetworkID: n.ID, Options: map[string]any{
		"com.docker.network.generic": generic, "com.docker.network.internal": n.Internal}}
	subnets := n.Subnets
	if len(subnets) == 0 {
		subnets = []dockerwatch.Subnet{{}}
	}
	n.Subnets = nil
	for _, s := range subnets {
		data, err := e.addresses(ctx, *n, &s)
		if err != nil {
			return err
		}
		n.Subnets = append(n.Subnets, s)
		if s.CIDR.Addr().Is6() {
			r.IPv6Data = append(r.IPv6Data, data)
		} else {
			r.IPv4Data = append(r.IPv4Data, data)
		}
	}
	err := e.h.driver.CreateNetwork(ctx, r)
	if err != nil {
		e.release(ctx, *n)
	}
	return err
}

// addresses is the IPAM's part of one subnet.
func (e *engine) addresses(ctx context.Context, n dockerwatch.Network, s *dockerwatch.Subnet) (*network.IPAMData, error) {
	data := &network.IPAMData{AddressSpace: "LocalDefault", AuxAddresses: map[string]any{}}
	for name, a := range s.Aux {
		data.AuxAddresses[name] = netip.PrefixFrom(a, s.CIDR.Bits()).String()
	}
	if n.IPAMDriver != mirror.DriverName {
		if !s.CIDR.IsValid() {
			s.CIDR = netip.MustParsePrefix(fmt.Sprintf("172.%d.0.0/16", 18+e.made))
		}
		if !s.Gateway.IsValid() {
			s.Gateway = s.CIDR.Addr().Next()
		}
		data.Pool, data.Gateway = s.CIDR.String(), netip.PrefixFrom(s.Gateway, s.CIDR.Bits()).String()
		return data, nil
	}
	ask := &ipam.RequestPoolRequest{AddressSpace: space, Options: n.IPAMOptions, V6: s.CIDR.Addr().Is6()}
	if s.CIDR.IsValid() {
		ask.Pool = s.CIDR.String()
	}
	if s.Range.IsValid() {
		ask.SubPool = s.Range.String()
	}
	pool, err := e.h.ipam.RequestPool(ctx, ask)
	if err != nil {
		return nil, err
	}
	s.CIDR = netip.MustParsePrefix(pool.Pool)
	want := ""
	if s.Gateway.IsValid() {
		want = s.Gateway.String()
	}
	gw, err := e.h.ipam.RequestAddress(ctx, &ipam.RequestAddressRequest{PoolID: pool.PoolID, Address: want,
		Options: map[string]string{"RequestAddressType": "com.docker.network.gateway"}})
	if err != nil {
		return nil, err
	}
	for _, a := range s.Aux {
		if _, err := e.h.ipam.RequestAddress(ctx, &ipam.RequestAddressRequest{PoolID: pool.PoolID, Address: a.String()}); err != nil {
			return nil, err
		}
	}
	data.AddressSpace, data.Pool, data.Gateway = space, pool.Pool, gw.Address
	return data, nil
}

// release gives the subnets of a network back.
func (e *engine) release(ctx context.Context, n dockerwatch.Network) {
	if n.IPAMDriver != mirror.DriverName || !e.alive.Load() {
		return
	}
	for _, s := range n.Subnets {
		_ = e.h.ipam.ReleasePool(ctx, &ipam.ReleasePoolRequest{PoolID: s.CIDR.String()}) // Docker only logs it
	}
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

// tell tells our drivers that a network goes.
func (e *engine) tell(n dockerwatch.Network) {
	if n.Driver != mirror.DriverName || !e.alive.Load() {
		return
	}
	e.release(e.h.w.ctx, n)
	_ = e.h.driver.DeleteNetwork(e.h.w.ctx, &network.DeleteNetworkRequest{NetworkID: n.ID}) // Docker only logs it
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

// Attachments tells who has endpoints.
func (e *engine) Attachments(_ context.Context, of []string, want func(endpoint, name string) bool) ([]dockerwatch.Attachment, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(of) == 0 {
		e.count("all containers")
	} else {
		e.count("container")
	}
	var all []dockerwatch.Attachment
	for _, c := range e.containers {
		if asked := len(of) == 0 || slices.Contains(of, cmp.Or(c.id, "id of "+c.name)); asked && want(c.endpoint, c.name) && !time.Now().Before(c.listed) {
			all = append(all, dockerwatch.Attachment{NetworkID: c.network, EndpointID: c.endpoint, ContainerID: cmp.Or(c.id, "id of "+c.name), Name: c.name,
				Aliases: []string{"alias"}, Labels: e.labels})
		}
	}
	return all, e.ready()
}

// Endpoints tells which endpoints are on a network.
func (e *engine) Endpoints(_ context.Context, id string) (map[string]bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, ok := e.networks[id]
	e.count("endpoints of " + n.Name)
	if !ok {
		return nil, dockerwatch.ErrNotFound
	}
	known := map[string]bool{}
	for _, c := range e.containers {
		if c.network == id {
			known[c.endpoint] = true
		}
	}
	return known, e.ready()
}

// Pools are the subnets with our IPAM.
func (e *engine) Pools(context.Context) (map[netip.Prefix]bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count("pools")
	pools := map[netip.Prefix]bool{}
	for _, n := range e.networks {
		for _, s := range n.Subnets {
			if n.IPAMDriver == mirror.DriverName {
				pools[s.CIDR] = true
			}
		}
	}
	return pools, e.ready()
}

func (e *engine) Addresses(context.Context) (map[netip.Addr]bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count("addresses")
	return maps.Clone(e.elsewhere), e.ready()
}

// event is one of Docker's, as the watcher tells the mirror.
func (e *engine) event(kind, action, id, container string) {
	if e.alive.Load() {
		e.h.Heard(dockerwatch.Event{Kind: kind, Action: action, ID: id, Container: container})
	}
}

// count counts a question, by what is asked for.
func (e *engine) count(question string) {
	if e.questions == nil {
		e.questions = map[string]int{}
	}
	e.questions[question]++
}

// counted gives the questions since it was called last.
func (e *engine) counted() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	questions := e.questions
	e.questions = nil
	return questions
}

// Network is one network.
func (e *engine) Network(_ context.Context, id string) (dockerwatch.Network, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count("network")
	if e.slow.Load() {
		return dockerwatch.Network{}, dockerwatch.ErrUnavailable
	}
	n, ok := e.networks[id]
	if !ok {
		return n, dockerwatch.ErrNotFound
	}
	return n, e.ready()
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
