// Package mirror makes this host's Docker have the networks that the cluster has declared, and tells the cluster of those
// that were made here: create once, use everywhere.
//
// It owns no state but what stands in its way at the moment (Troubles). Every pass compares what the cluster
// declares with what Docker has, and changes Docker or the cluster's records until both agree; events only
// make a pass come sooner. It may import store, driver's values and internal/dockerwatch; it must not know
// Open vSwitch, Consul or the command line. It never runs within a handler of Docker's plugin calls.
package mirror

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

// The pause after something failed grows from retryFirst to retryLast, and not beyond Times.Pass: whatever is back is noticed in seconds.
const (
	retryFirst = 200 * time.Millisecond
	retryLast  = 3 * time.Second
)

// Times are the mirror's pauses, and how long it looks on before it believes what it sees.
type Times struct {
	// Pass is between passes after nothing in particular.
	Pass time.Duration
	// Vanished is how long Docker must not have had a network that is bound here: it stores a network
	// only after CreateNetwork was answered.
	Vanished time.Duration
	// Strange is how long a network that is not bound here must be in Docker's list before it is trouble: Docker
	// forgets a network only after DeleteNetwork was answered.
	Strange time.Duration
	// All is between two times that Docker is asked for everything, though no event told of it.
	All time.Duration
	// Look is between two looks for what Docker has forgotten, Lost how long it must not have known it: longer than any
	// start of a container or creation of a network takes.
	Look, Lost time.Duration
	// First is how long after the agent's start the cluster's first network is made: hosts that start together have told by then
	// which subnets they use.
	First time.Duration
}

// Usual are the times of an agent.
func Usual() Times {
	return Times{Pass: 10 * time.Second, Vanished: 15 * time.Second, Strange: 5 * time.Second, All: 5 * time.Minute, Look: 10 * time.Second, Lost: 40 * time.Second, First: 3 * time.Second}
}

// Within are these times where what nothing needs is to go after grace, if that is sooner. What Docker has not told of by then is taken
// for lost, so a start of a container that takes longer fails.
func (t Times) Within(grace time.Duration) Times {
	t.Vanished, t.Lost = min(t.Vanished, grace), min(t.Lost, grace)
	t.Pass, t.Look, t.All = min(t.Pass, grace/4), min(t.Look, grace/4), min(t.All, grace)
	return t
}

// passTimeout bounds a pass; what it leaves, the next one does.
const passTimeout = 5 * time.Minute

// DriverName is the name under which Docker knows our network and IPAM driver.
const DriverName = "socketplane"

// Docker is the engine of this host.
type Docker interface {
	Ready() error
	Networks(context.Context) ([]dockerwatch.Network, error)
	Network(ctx context.Context, id string) (dockerwatch.Network, error)
	Named(ctx context.Context, name string) (dockerwatch.Network, error)
	Create(context.Context, dockerwatch.Network) (string, error)
	Remove(ctx context.Context, id string) error
	Attachments(ctx context.Context, of []string, want func(endpoint, name string) bool) ([]dockerwatch.Attachment, error)
	Endpoints(ctx context.Context, networkID string) (map[string]bool, error)
	// Pruning, Past and Heard tell why a network was removed.
	Pruning(context.Context) (bool, error)
	Past(ctx context.Context, networkID string, since time.Time) (dockerwatch.Past, error)
	Heard() (time.Time, error)
	Used
}

// Used is what Docker uses of our address management with network drivers of any kind.
type Used interface {
	// Pools are the subnets of its networks.
	Pools(context.Context) (map[netip.Prefix]bool, error)
	// Addresses are those of containers on networks of other drivers than ours.
	Addresses(context.Context) (map[netip.Addr]bool, error)
}

// Pools is address management on this host.
type Pools interface {
	// Holds lists the subnets that this host holds because Docker asked for them.
	Holds(context.Context) ([]netip.Prefix, error)
	// EndPool ends the hold on one of them; one that is not held is no error.
	EndPool(context.Context, netip.Prefix) error
	// HandedOut lists the addresses that it has handed out.
	HandedOut(context.Context) ([]ipamdriver.Held, error)
	// EndAddress takes one back; one that is somebody else's by now is no error.
	EndAddress(context.Context, ipamdriver.Held) error
}

// Options are the settings of a Mirror.
type Options struct {
	// Follow is false on a host whose networks are made by hand: then only containers are described.
	Follow bool
	// Default is the network that a new cluster begins with; no name means none.
	Default Default
	// Uses tells the subnets that this host uses by itself, which copies must not overlap.
	Uses func(context.Context) ([]store.Use, error)
	// Pools is what Docker's forgotten subnets are given back to.
	Pools Pools
	// Lives says whether the process that made a network still runs, by its mark; nil if that can't be told.
	Lives func(mark string) bool
	// Local is this host's own store; without it a network that the cluster does not know is never taken for removed.
	Local store.KV
	// Again is called when another host has made a network anew that this host still has; it must not block. nil does nothing.
	Again func()
	// Propose names a free subnet for the default network.
	Propose func(ctx context.Context, v6 bool) (netip.Prefix, error)
	// Times are the usual ones if there are none.
	Times  Times
	Logger *slog.Logger
}

// Default is the first network.
type Default struct {
	Name string
	// Subnet is invalid when one is to be chosen.
	Subnet netip.Prefix
}

// Trouble is what keeps a network of this host from being as the cluster has it.
type Trouble struct {
	// Network is the cluster's id, empty if the cluster does not know it.
	Network, Name string
	// Text names the cause and the cure.
	Text  string
	Since time.Time
}

// Mirror makes Docker's networks agree with the cluster's. It is safe for concurrent use.
type Mirror struct {
	cluster *store.Cluster
	driver  *driver.Driver
	docker  Docker
	opts    Options
	log     *slog.Logger
	wake    chan struct{}

	// What follows belongs to the one pass that runs.
	defaultMade bool
	started     time.Time
	remembered  bool                              // which cluster this host's networks are in
	missing     map[string]time.Time              // by Docker's id: since when Docker has not had a network that is bound here
	lost        map[string]time.Duration          // by endpoint: for how long Docker has been seen not to know it
	idle        map[netip.Prefix]time.Duration    // for how long Docker has had no network with a subnet that is held for it
	unused      map[ipamdriver.Held]time.Duration // for how long an address that was handed out has been no container's
	lookedAt    time.Time                         // when endpoints, subnets and addresses were last compared
	strange     map[string]time.Time              // by Docker's id: since when Docker has had a network that is not bound here
	refusals    map[string]int                    // by the cluster's id: how often Docker has refused a copy in a row
	unknown     map[string]time.Time              // by endpoint: since when it has been seen without a container

	asked    time.Time                      // when Docker was last asked for everything
	here     map[string]dockerwatch.Network // its networks of ours, by id; nil before they were asked for
	doubtful bool                           // they may not be what they were told to be
	recent   map[string]time.Time           // containers by id, that an event has named, until they are described
	sure     confirmed
	before   map[string]string // the declarations of the last pass; nil before the first
	own      map[string]bool   // what this host has declared since

	declared declarations

	mu       sync.Mutex // guards what follows
	news     news
	troubles map[string]Trouble // by Docker's name
	notes    map[string]string  // by the cluster's id
	last     Last
}

// New returns a mirror of the cluster's networks in docker.
func New(cluster *store.Cluster, d *driver.Driver, docker Docker, opts Options) *Mirror {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Times == (Times{}) {
		opts.Times = Usual()
	}
	if opts.Again == nil {
		opts.Again = func() {}
	}
	return &Mirror{
		cluster: cluster, driver: d, docker: docker, opts: opts, log: opts.Logger,
		wake: make(chan struct{}, 1), started: time.Now(), missing: map[string]time.Time{},
		strange: map[string]time.Time{}, troubles: map[string]Trouble{}, notes: map[string]string{}, refusals: map[string]int{},
		recent: map[string]time.Time{},
	}
}

// Wake makes a pass come at once. It never blocks.
func (m *Mirror) Wake() {
	select {
	case m.wake <- struct{}{}:
	default: // one is coming already
	}
}

// Troubles tells what stands in the way at the moment, sorted by name.
func (m *Mirror) Troubles() []Trouble {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Trouble, 0, len(m.troubles))
	for _, t := range m.troubles {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Trouble) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Run mirrors until ctx ends.
func (m *Mirror) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { m.judge(ctx) })
	if m.opts.Follow {
		parts.Go(func() { m.watchDeclared(ctx) })
	}
	told := false
	for failures := 0; ctx.Err() == nil; {
		passCtx, cancel := context.WithTimeout(ctx, passTimeout)
		err := m.pass(passCtx)
		cancel()
		if ctx.Err() == nil {
			m.ended(err)
		}
		wait := m.opts.Times.Pass
		switch {
		case err == nil:
			failures, told = 0, false
		case errors.Is(err, dockerwatch.ErrUnavailable):
			// The watcher has said so, and wakes us.
		default:
			wait = m.retry(failures)
			if failures++; failures > 3 && !told && ctx.Err() == nil {
				m.log.Warn("networks can't be followed at the moment", "err", err)
				told = true
			}
		}
		m.rest(ctx, wait)
	}
	return nil
}

// retry is the pause after so many failures before this one.
func (m *Mirror) retry(failures int) time.Duration {
	return min(retryFirst<<min(failures, 8), retryLast, m.opts.Times.Pass)
}

// report notes what a pass found in the way of networks, and logs what is new.
func (m *Mirror) report(found map[string]Trouble) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, t := range found {
		if old, had := m.troubles[name]; had && old.Text == t.Text {
			t.Since = old.Since
			found[name] = t
			continue
		}
		m.log.Warn("a network is not here as the cluster has it", "network", name, "cause", t.Text)
	}
	for name := range m.troubles {
		if _, still := found[name]; !still {
			m.log.Info("a network is here as the cluster has it again", "network", name)
		}
	}
	m.troubles = found
}
