// Package ovs is the data plane of Open vSwitch: it keeps what is wanted of each network, and makes OVSDB, the switch and the
// kernel have it. A change costs what it changes; everything is compared with what is there on connect, when something seems to
// differ, and now and then. docs/design/0022-plane.md has the reasons.
//
// It owns the bridge's flows, ports and tunnels as a whole and the order in which they change. It
// imports ovsctl, its subpackages and internal/hostlink; it knows neither Docker nor the store.
//
// The order: a frame must never meet a port whose guards are not there, and a device goes only
// after its port. So flows come before ports, and ports go before links.
package ovs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/lock"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// ErrNotReady says that nothing can be forwarded now; the text says why and the cure.
var ErrNotReady = errors.New("the data plane is not ready")

// Options are the settings of a Plane.
type Options struct {
	// Host is this host's id: answers of probes tell it.
	Host string
	// Tunnel is the wanted kind; empty chooses (see decide).
	Tunnel dataplane.TunnelKind
	// VXLANPort is the UDP port of the tunnels, here and on the other hosts.
	VXLANPort uint16
	// Underlay is where this host's tunnels end, until SetUnderlay says otherwise.
	Underlay hostlink.Underlay
	// Resync is how often everything is compared with what is; 0 means 30 s.
	Resync time.Duration
	Logger *slog.Logger
}

// Status is what an operator wants to know of the data plane.
type Status struct {
	Datapath string
	Tunnel   dataplane.TunnelKind
	TSO      bool
	// Flows is how many flows are wanted.
	Flows      int
	Generation uint32
	// LastSync is when everything was last found or made true.
	LastSync time.Time
	// Passes is how often everything was looked at, Failed how often something then was not as wanted in the end.
	Passes, Failed uint64
	// Drift is what had to be mended without a change being asked for.
	Drift Drift
	// Err is what keeps something from being true: of everything (then Ready says the same) or
	// of single networks.
	Err error
	// Unreached is how many other hosts the broadcasts of a network do not reach, by its ID. Those that reach all are not there.
	Unreached map[string]int

	baseFlows int // of those that all networks have in common
}

// UnreachedHosts is the sum of Unreached.
func (s Status) UnreachedHosts() (sum int) {
	for _, hosts := range s.Unreached {
		sum += hosts
	}
	return sum
}

// Drift counts what another program had changed, or left behind: passes that found wrong flows or ports, links that nothing needs, and
// addresses and routes on our links.
type Drift struct {
	Flows, Ports, Links, Strays uint64
	// FlowsAt is when Flows last grew, StraysAt when Strays did.
	FlowsAt, StraysAt time.Time
	// Stray is one of the addresses and routes that were found last, with its link.
	Stray string
}

// Plane makes the host forward what is wanted. It is safe for concurrent use, except that calls that name
// the same network must follow each other; changes are applied one at a time, in turns. Every wait is
// bounded by the caller's context.
type Plane struct {
	sw    *ovsctl.Switch
	links *hostlink.Links
	opts  Options
	log   *slog.Logger
	poke  chan struct{}
	up    chan struct{} // closed when packets could be forwarded for the first time

	// applying is the turn: who holds it may change the host and what follows.
	applying lock.Lock
	underlay hostlink.Underlay        // as it was when the present turn began
	owned    map[string]hostlink.Link // as the kernel had them at the last pass, and what Attach made since
	left     map[string]bool          // links and ports that were removed since the last pass: news of them that come late are no reason for another
	conn     *openflow.Conn           // only Run's goroutine changes it
	dialled  time.Time                // when conn was made
	datapath string
	tunnel   dataplane.TunnelKind
	tso      bool
	cookie   uint64 // 0 while it is not known what flows the switch has
	base     []openflow.Flow
	baseFor  pipeline.Config // from what base was computed
	trouble  retry.Trouble
	strays   strays
	drift    retry.Trouble // logs what mendFlows finds
	// monitored says that the switch tells this connection of flows that others change; compared is when all flows were last compared, zero
	// after a replay. drifted has a signal when the switch told of one.
	monitored bool
	compared  time.Time
	drifted   chan struct{}

	mu       sync.Mutex          // guards what follows; never held while anything is waited for
	networks map[string]*network // its map, and each network's state
	where    hostlink.Underlay   // what SetUnderlay said last
	status   Status
	readyErr error
	behind   bool // a change was noted, and not applied, since the present or last pass began
}

// driftRest is how long flows must be unchanged for the next change by another program to be logged: repeated changes are logged as one trouble.
const driftRest = 10 * time.Minute

// New returns a Plane; Run makes it work.
func New(sw *ovsctl.Switch, links *hostlink.Links, opts Options) *Plane {
	if opts.Resync == 0 {
		opts.Resync = 30 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Plane{
		sw: sw, links: links, opts: opts, log: opts.Logger,
		where: opts.Underlay, poke: make(chan struct{}, 1), up: make(chan struct{}), applying: lock.New(), drifted: make(chan struct{}, 1),
		networks: map[string]*network{}, owned: map[string]hostlink.Link{}, left: map[string]bool{},
		trouble: retry.Trouble{Logger: opts.Logger, Level: slog.LevelError, Text: "part of the data plane is not as wanted; it is tried again"},
		strays:  newStrays(opts.Logger),
		drift: retry.Trouble{Logger: opts.Logger, Level: slog.LevelWarn, Steady: driftRest,
			Text: "flows of the switch are not what they were: another program changed them; mending"},
		readyErr: fmt.Errorf("%w: the agent has just started: try again in a second", ErrNotReady),
	}
}

// Ready is nil when packets can be forwarded.
func (p *Plane) Ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.readyErr
}

// Up is closed when packets could be forwarded for the first time.
func (p *Plane) Up() <-chan struct{} { return p.up }

// MTU is the containers' MTU: the underlay's less what VXLAN adds.
func (p *Plane) MTU() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return dataplane.ContainerMTU(p.where.MTU, p.where.Addr)
}

// SetUnderlay moves this host's tunnels. Devices, ports and flows follow in the pass that it causes.
func (p *Plane) SetUnderlay(u hostlink.Underlay) {
	p.mu.Lock()
	same := p.where == u
	p.where = u
	p.mu.Unlock()
	if !same {
		p.nudge()
	}
}

// Status tells how the data plane is.
func (p *Plane) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.status
	st.Flows = st.baseFlows
	for _, n := range p.networks {
		st.Flows += n.count + len(n.common)
		if far := n.flood.Unreached(n.basis.config, n.basis.segment); far > 0 && n.basis.active {
			if st.Unreached == nil {
				st.Unreached = map[string]int{}
			}
			st.Unreached[n.id] = far
		}
	}
	return st
}

// SetNetwork makes the network be forwarded exactly so. What can't be applied now
// is remembered, and applied when it can be.
func (p *Plane) SetNetwork(ctx context.Context, want dataplane.Network) error {
	p.mu.Lock()
	n := p.networks[want.ID]
	if n == nil {
		n = newNetwork(want.ID)
		p.networks[want.ID] = n
	}
	c := n.set(want)
	p.mu.Unlock()
	return p.change(ctx, n, c)
}

// RemoveNetwork removes everything of the network, now or when it can be done.
func (p *Plane) RemoveNetwork(ctx context.Context, id string) error {
	p.mu.Lock()
	if n := p.networks[id]; n != nil {
		n.remove()
	}
	p.mu.Unlock()
	return p.serve(ctx, id)
}

// Apply changes a network that was set before.
func (p *Plane) Apply(ctx context.Context, c dataplane.Change) error {
	p.mu.Lock()
	n, err := p.known(c.Network)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return p.change(ctx, n, c)
}

// known is a network that was set before. Called with mu held.
func (p *Plane) known(id string) (*network, error) {
	if n := p.networks[id]; n != nil && !n.gone {
		return n, nil
	}
	return nil, fmt.Errorf("%w: %s", dataplane.ErrUnknownNetwork, id)
}

// Attach is Apply that also makes the links of one of the network's endpoints. The switch
// has the endpoint's port when it returns. If it fails, what was wanted of that endpoint before stays wanted.
func (p *Plane) Attach(ctx context.Context, c dataplane.Change, endpoint string) error {
	if err := p.mayAttach(c, endpoint); err != nil {
		return err
	}
	release, err := p.acquire(ctx)
	if err != nil {
		return err
	}
	veth, undo, err := p.want(c, endpoint)
	if err != nil {
		release()
		return err
	}
	err = p.attach(ctx, c.Network, veth)
	release()
	if err == nil {
		_, err = p.sw.WaitPort(ctx, veth.Host)
	}
	if err != nil {
		undo()
		p.nudge()
	}
	return err
}

// mayAttach says why an endpoint can't be attached now.
func (p *Plane) mayAttach(c dataplane.Change, endpoint string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, err := p.known(c.Network)
	if err != nil {
		return err
	}
	is := func(e dataplane.Endpoint) bool { return e.ID == endpoint }
	if n.local[endpoint] == nil && !slices.ContainsFunc(c.Local, is) {
		return fmt.Errorf("attach: network %s has no endpoint %s on this host", c.Network, endpoint)
	}
	return p.readyErr
}

// want makes a change in a network's state, and returns the links of one of its endpoints, and what makes that endpoint be as it was if nothing
// else has been wanted of it since.
func (p *Plane) want(c dataplane.Change, endpoint string) (hostlink.Veth, func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, err := p.known(c.Network)
	if err != nil {
		return hostlink.Veth{}, nil, err
	}
	var former *dataplane.Endpoint
	if s := n.local[endpoint]; s != nil {
		former = s.local
	}
	n.apply(c)
	mine := n.local[endpoint]
	if mine == nil {
		return hostlink.Veth{}, nil, fmt.Errorf("attach: network %s has no endpoint %s on this host", c.Network, endpoint)
	}
	n.edits.links[mine.local.HostLink] = true
	undo := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if n.local[endpoint] == mine {
			n.setLocal(endpoint, former)
			n.edits.links[mine.local.HostLink] = true
		}
	}
	return p.veth(n.mtu, *mine.local), undo, nil
}

// attach is apply with the links of a new endpoint, which are made while the switch takes up its flows: only its
// port needs both. Nobody else changes anything meanwhile.
func (p *Plane) attach(ctx context.Context, id string, veth hostlink.Veth) error {
	made := make(chan error, 1)
	go func() { made <- p.links.EnsureVeth(ctx, veth) }()
	linked := func() error {
		if err := <-made; err != nil {
			return err
		}
		p.owned[veth.Host] = hostlink.Link{Name: veth.Host, Alias: veth.Alias}
		delete(p.left, veth.Host)
		return nil
	}
	return p.applyWith(ctx, id, linked)
}

// serve applies one network, and has everything looked at when that fails.
func (p *Plane) serve(ctx context.Context, id string) error {
	if err := p.serves(); err != nil {
		return err
	}
	release, err := p.acquire(ctx)
	if err == nil {
		err = p.apply(ctx, id)
		release()
	}
	if err != nil {
		p.nudge()
	}
	return err
}

// serves is Ready; if nothing can be applied now, Run takes up what is noted as soon as it can.
func (p *Plane) serves() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behind = p.behind || p.readyErr != nil
	return p.readyErr
}

// acquire waits for its turn to change the host.
func (p *Plane) acquire(ctx context.Context) (release func(), err error) {
	if err := p.applying.Take(ctx); err != nil {
		return nil, fmt.Errorf("%w: another change is still being applied: see whether ovs-vswitchd hangs (its log, ovs-appctl version): %w", ErrNotReady, err)
	}
	p.mu.Lock()
	p.underlay = p.where
	p.mu.Unlock()
	return p.applying.Release, nil
}

func (p *Plane) nudge() {
	select {
	case p.poke <- struct{}{}:
	default: // Run is about to look anyway
	}
}
