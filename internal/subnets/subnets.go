// Package subnets owns which subnets are used where: it publishes what this host uses by itself, keeps Docker's own address
// allocator here off the subnets of the cluster, and makes docker_gwbridge in a subnet that the hosts agree on.
//
// Everything is compared, not remembered: a pass reads the kernel, Docker and the cluster, and changes what differs. It may
// import store, internal/ipalloc, and the values of internal/hostlink and internal/dockerwatch. It must not know Open vSwitch
// or the drivers. No handler of Docker's plugin calls may wait for a pass.
package subnets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/store"
)

// Pauses of Run.
const (
	passEvery = 5 * time.Minute       // though nothing tells of a change
	askEvery  = time.Minute           // for Docker's address pools, which change with its configuration only
	passAgain = time.Second           // after an error
	gather    = 20 * time.Millisecond // changes that come together make one pass
)

// Links is this host's kernel.
type Links interface {
	Connected(context.Context) ([]hostlink.Connected, error)
	Routed(context.Context) ([]netip.Prefix, error)
	Reserve(context.Context, []netip.Prefix) error
	// Reserved says whether Reserve's device is there: it goes with a reboot only.
	Reserved(context.Context) (bool, error)
}

// Docker is the engine of this host.
type Docker interface {
	Ready() error
	// Heard is since when the present connection is there.
	Heard() (time.Time, error)
	Locals(context.Context) ([]dockerwatch.Local, error)
	DefaultPools(context.Context) ([]dockerwatch.Range, error)
	MakeGatewayBridge(ctx context.Context, subnet netip.Prefix, mtu int) error
}

// Hosts are the cluster's hosts as they are known without asking the store.
type Hosts interface {
	// Members are shared, and false before the store's first answer.
	Members() (store.Membership, bool)
	// Subscribe signals that Members has changed.
	Subscribe(context.Context) <-chan struct{}
}

// Options are the settings of a Tracker.
type Options struct {
	Hosts Hosts
	// Driver is the name under which Docker knows our network driver.
	Driver string
	// Docker is nil without its API: then its networks have no names, and docker_gwbridge is left to it.
	Docker Docker
	// Local is this host's own store, in which the last reserved subnets are kept for the next boot.
	Local store.KV
	// Publish writes this host's record with Uses.
	Publish func(context.Context) error
	// Stirred signals that this host's addresses, routes or interfaces may have changed.
	Stirred func(context.Context) <-chan struct{}
	// Changed is called after this host's uses have changed; it must not block.
	Changed func()
	// MTU is what this host can send to the outside, in bytes.
	MTU func(context.Context) int
	// ResolvConf is the file that names the host's name servers.
	ResolvConf string
	Logger     *slog.Logger
}

// Tracker knows which subnets are used. It is safe for concurrent use.
type Tracker struct {
	cluster *store.Cluster
	links   Links
	opts    Options
	log     *slog.Logger
	wake    chan struct{}
	// changed says that Docker's networks may have changed since the last pass, and poolsChanged that the cluster's pools may; with poolsUnsure also those that
	// had a network.
	changed, poolsChanged, poolsUnsure atomic.Bool

	// What follows belongs to Run's pass.
	published []store.Use
	told      string // the last error that was logged
	missing   time.Time
	asked     time.Time // when Docker last told its address pools
	hadBridge bool
	known     []store.Pool // of the cluster, as they were read last
	// askedPools are those of known that this host's Docker has asked for, without a network yet.
	askedPools map[netip.Prefix]bool

	mu     sync.Mutex // guards what follows
	passed bool       // a pass has succeeded
	locals []dockerwatch.Local
	heard  bool                // Docker has told its networks
	pools  []dockerwatch.Range // of Docker; nil before it answered
	joined time.Time           // when a container last joined one of our networks
	making chan struct{}       // closed when docker_gwbridge is made; nil when it is not being made
}

// New returns a tracker of this host's subnets and the cluster's.
func New(cluster *store.Cluster, links Links, opts Options) *Tracker {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Changed == nil {
		opts.Changed = func() {}
	}
	return &Tracker{cluster: cluster, links: links, opts: opts, log: opts.Logger, wake: make(chan struct{}, 1)}
}

// Heard makes a pass come soon if one of Docker's events may concern subnets. It never blocks.
func (t *Tracker) Heard(e dockerwatch.Event) {
	made := e.Action == dockerwatch.ActionCreate || e.Action == dockerwatch.ActionDestroy
	switch {
	case e == dockerwatch.Event{}, e.Kind == dockerwatch.KindNetwork && made && e.Driver != t.opts.Driver:
		t.Wake()
	case e.Kind == dockerwatch.KindNetwork && made: // ours: the cluster's pools may have a network more, or less
		t.poolsUnsure.Store(e.Action == dockerwatch.ActionDestroy || t.poolsUnsure.Load())
		t.poolsChanged.Store(true)
		t.nudge()
	}
}

// Wake makes a pass come soon that asks Docker, too. It never blocks.
func (t *Tracker) Wake() {
	t.changed.Store(true)
	t.doubtPools()
	t.nudge()
}

// nudge makes a pass come soon.
func (t *Tracker) nudge() {
	select {
	case t.wake <- struct{}{}:
	default: // one is coming already
	}
}

// Passed says whether this host's subnets have been published, and those of the cluster kept from Docker's allocator, since New.
func (t *Tracker) Passed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.passed
}

// Run passes until ctx ends.
func (t *Tracker) Run(ctx context.Context) error {
	var watchers sync.WaitGroup
	defer watchers.Wait()
	watchers.Go(func() { t.watchHosts(ctx) })
	watchers.Go(func() { t.watchPools(ctx) })
	watchers.Go(func() { t.watchRoutes(ctx) })
	t.changed.Store(true)
	t.doubtPools()
	if err := t.restore(ctx); err != nil && ctx.Err() == nil {
		t.log.Warn("Docker may choose subnets of the cluster until the store answers, as those reserved before the boot can't be restored", "err", err)
	}
	for ctx.Err() == nil {
		wait := passEvery
		if err := t.pass(ctx); err != nil {
			wait = passAgain
			t.tell(ctx, err)
		} else {
			t.told = ""
			t.mu.Lock()
			t.passed = true
			t.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-t.wake:
			pause(ctx, gather)
		case <-time.After(wait):
			t.changed.Store(true)
			t.doubtPools()
		}
	}
	return nil
}

// doubtPools makes the next pass read all pools.
func (t *Tracker) doubtPools() {
	t.poolsUnsure.Store(true)
	t.poolsChanged.Store(true)
}

// tell logs an error once, until a pass succeeds. That a store or Docker does not answer is logged by their owners.
func (t *Tracker) tell(ctx context.Context, err error) {
	expected := errors.Is(err, store.ErrUnavailable) || errors.Is(err, dockerwatch.ErrUnavailable)
	if ctx.Err() != nil || expected || err.Error() == t.told {
		return
	}
	t.told = err.Error()
	t.log.Warn("subnets can't be kept apart from Docker's own at the moment; it is tried again", "err", err)
}

// passTimeout bounds one pass.
const passTimeout = 90 * time.Second

// pass compares once, and changes what differs.
func (t *Tracker) pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	asked := t.askDocker(ctx)
	own, err := t.Uses(ctx)
	if err != nil {
		return errors.Join(asked, err)
	}
	// Before anything is chosen: hosts that choose at the same time then know of each other.
	if !slices.Equal(own, t.published) {
		t.opts.Changed()
		if err := t.opts.Publish(ctx); err != nil {
			return errors.Join(asked, err)
		}
		t.published = own
	}
	state, err := t.look(ctx, own)
	if err != nil {
		return errors.Join(asked, err)
	}
	return errors.Join(asked, t.reserve(ctx, state.reserved()), t.bridge(ctx, state))
}

// askDocker reads Docker's own networks and address pools. What it does not answer stays as it was.
func (t *Tracker) askDocker(ctx context.Context) error {
	if t.opts.Docker == nil || t.opts.Docker.Ready() != nil || !t.changed.Swap(false) {
		return nil
	}
	locals, err := t.opts.Docker.Locals(ctx)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.locals, t.heard = locals, true
	t.mu.Unlock()
	heard, err := t.opts.Docker.Heard()
	if err != nil || time.Since(t.asked) < askEvery && t.asked.After(heard) { // Docker may have been started with other address pools
		return err
	}
	now := time.Now()
	pools, err := t.opts.Docker.DefaultPools(ctx)
	if err != nil {
		return err
	}
	if len(pools) == 0 {
		pools = builtIn()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pools, t.asked = pools, now
	return nil
}

// Complete says whether Uses has the subnets of Docker's local networks: not before Docker has told them once.
func (t *Tracker) Complete() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.heard || t.opts.Docker == nil
}

// Uses are the subnets that this host uses by itself, sorted: those of Docker's local networks, and those of its interfaces. The kernel
// is asked each time, Docker in each pass.
func (t *Tracker) Uses(ctx context.Context) ([]store.Use, error) {
	connected, err := t.links.Connected(ctx)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	locals := t.locals
	t.mu.Unlock()
	var uses []store.Use
	byDocker := map[netip.Prefix]bool{}
	for _, l := range locals {
		for _, s := range l.Subnets {
			byDocker[s] = true
			uses = append(uses, store.Use{Subnet: s, Network: l.Name})
		}
	}
	for _, c := range connected {
		if !byDocker[c.Subnet] {
			uses = append(uses, store.Use{Subnet: c.Subnet, Dev: c.Dev, Addr: c.Addr})
		}
	}
	slices.SortFunc(uses, store.Use.Compare)
	return slices.Compact(uses), nil
}

// Routed are subnets that this host reaches by routers and VPNs.
func (t *Tracker) Routed(ctx context.Context) ([]netip.Prefix, error) { return t.links.Routed(ctx) }

// errHostsUnread says that no answer of the store has told the cluster's hosts since the agent's start.
var errHostsUnread = fmt.Errorf("%w: the cluster's hosts are not known yet", store.ErrUnavailable)

// look gathers what the cluster knows. The hosts are those that were told last, unless docker_gwbridge is to be made: hosts that choose its subnet at the
// same moment know of each other only if each reads the others' records after it has published its own.
func (t *Tracker) look(ctx context.Context, own []store.Use) (state, error) {
	s := state{self: t.cluster.Host(), own: own}
	t.mu.Lock()
	s.docker = t.pools
	t.mu.Unlock()
	members, known := t.opts.Hosts.Members()
	if t.opts.Docker != nil && t.opts.Docker.Ready() == nil && t.wantsBridge() {
		var err error
		if members, err = t.cluster.Hosts(ctx); err != nil {
			return s, err
		}
	} else if !known {
		return s, errHostsUnread
	}
	s.hosts = members.Hosts
	if err := t.readPools(ctx); err != nil {
		return s, err
	}
	s.pools, s.asked = t.known, t.askedPools
	return s, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
