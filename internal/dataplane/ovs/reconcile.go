// Package ovs makes the host forward what the drivers want: it compares the desired
// networks with what OVSDB, the switch and the kernel report, and applies the difference.
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
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// ErrNotReady says that nothing can be forwarded now; the text says why and the cure.
var ErrNotReady = errors.New("the data plane is not ready")

// Options are the settings of a Reconciler.
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
	// Flows are those of the present generation.
	Flows      int
	Generation uint32
	// LastSync is when everything was last found or made true.
	LastSync time.Time
	// Passes is how often everything was looked at, Failed how often something then was not as wanted in the end.
	Passes, Failed uint64
	// Drift is what had to be mended though nobody had asked for a change.
	Drift Drift
	// Err is what keeps something from being true: of everything (then Ready says the same) or
	// of single networks.
	Err error
}

// Drift counts what somebody else had changed, or left behind: passes that found wrong flows or ports, links that nothing needs, and
// addresses and routes on our links.
type Drift struct {
	Flows, Ports, Links, Strays uint64
	// FlowsAt is when Flows last grew, StraysAt when Strays did.
	FlowsAt, StraysAt time.Time
	// Stray is one of the addresses and routes that were found last, with its link.
	Stray string
}

// Reconciler applies desired state. It is safe for concurrent use, except that calls that name
// the same network must follow each other; changes are applied one at a time. Every wait is
// bounded by the caller's context.
type Reconciler struct {
	sw    *ovsctl.Switch
	links *hostlink.Links
	opts  Options
	log   *slog.Logger
	poke  chan struct{}
	up    chan struct{} // closed when packets could be forwarded for the first time

	// applying has room for one: who puts something in may change the host and what follows.
	applying chan struct{}
	underlay hostlink.Underlay // as it was when the present turn began
	networks map[string]*network
	owned    map[string]hostlink.Link // as the kernel had them at the last pass, and what Attach made since
	conn     *openflow.Conn           // only Run's goroutine changes it
	dialled  time.Time                // when conn was made
	datapath string
	tunnel   dataplane.TunnelKind
	tso      bool
	cookie   uint64 // 0 while it is not known what flows the switch has
	base     flowSet
	baseFor  pipeline.Config // from what base was computed
	trouble  retry.Trouble
	strays   strays
	drift    retry.Trouble // logs what mendFlows finds

	mu       sync.Mutex        // guards what follows; never held while anything is waited for
	where    hostlink.Underlay // what SetUnderlay said last
	desired  map[string]desired
	revision uint64
	status   Status
	readyErr error
}

// desired is what is wanted for a network; the revision is of this program's life.
type desired struct {
	dataplane.Network
	revision uint64
}

// driftRest is how long flows must be unchanged for the next change by another program to be logged: repeated changes are logged as one trouble.
const driftRest = 10 * time.Minute

// New returns a Reconciler; Run makes it work.
func New(sw *ovsctl.Switch, links *hostlink.Links, opts Options) *Reconciler {
	if opts.Resync == 0 {
		opts.Resync = 30 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Reconciler{
		sw: sw, links: links, opts: opts, log: opts.Logger,
		where: opts.Underlay, poke: make(chan struct{}, 1), up: make(chan struct{}), applying: make(chan struct{}, 1),
		networks: map[string]*network{}, owned: map[string]hostlink.Link{}, desired: map[string]desired{},
		trouble: retry.Trouble{Logger: opts.Logger, Level: slog.LevelError, Text: "part of the data plane is not as wanted; it is tried again"},
		strays:  newStrays(opts.Logger),
		drift: retry.Trouble{Logger: opts.Logger, Level: slog.LevelWarn, Steady: driftRest,
			Text: "flows of the switch are not what they were: somebody else changed them; mending"},
		readyErr: fmt.Errorf("%w: the agent has just started: try again in a second", ErrNotReady),
	}
}

// Ready is nil when packets can be forwarded.
func (r *Reconciler) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.readyErr
}

// Up is closed when packets could be forwarded for the first time.
func (r *Reconciler) Up() <-chan struct{} { return r.up }

// MTU is the containers' MTU: the underlay's less what VXLAN adds.
func (r *Reconciler) MTU() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return dataplane.ContainerMTU(r.where.MTU, r.where.Addr)
}

// SetUnderlay moves this host's tunnels. Devices, ports and flows follow in the pass that it causes.
func (r *Reconciler) SetUnderlay(u hostlink.Underlay) {
	r.mu.Lock()
	same := r.where == u
	r.where = u
	r.mu.Unlock()
	if !same {
		r.nudge()
	}
}

// Status tells how the data plane is.
func (r *Reconciler) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// SetNetwork makes the network be forwarded exactly so. What can't be applied now
// is remembered, and applied when it can be.
func (r *Reconciler) SetNetwork(ctx context.Context, want dataplane.Network) error {
	r.want(want)
	return r.serve(ctx, want.ID)
}

// RemoveNetwork removes everything of the network, now or when it can be done.
func (r *Reconciler) RemoveNetwork(ctx context.Context, id string) error {
	r.mu.Lock()
	delete(r.desired, id)
	r.mu.Unlock()
	return r.serve(ctx, id)
}

// Apply changes a network that was set before.
func (r *Reconciler) Apply(ctx context.Context, c dataplane.Change) error {
	want, err := r.changed(c)
	if err != nil {
		return err
	}
	return r.SetNetwork(ctx, want)
}

// changed is a network as it is wanted, with a change.
func (r *Reconciler) changed(c dataplane.Change) (dataplane.Network, error) {
	r.mu.Lock()
	former, known := r.desired[c.Network]
	r.mu.Unlock()
	if !known {
		return dataplane.Network{}, fmt.Errorf("%w: %s", dataplane.ErrUnknownNetwork, c.Network)
	}
	return c.Apply(former.Network), nil
}

// Attach is Apply that also makes the links of one of the network's endpoints. The switch
// has the endpoint's port when it returns. If it fails, what was wanted before stays wanted.
func (r *Reconciler) Attach(ctx context.Context, c dataplane.Change, endpoint string) error {
	want, err := r.changed(c)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(want.Local, func(e dataplane.Endpoint) bool { return e.ID == endpoint })
	if i < 0 {
		return fmt.Errorf("attach: network %s has no endpoint %s on this host", want.ID, endpoint)
	}
	if err := r.Ready(); err != nil {
		return err
	}
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	undo := r.want(want)
	err = r.attach(ctx, want.ID, r.veth(want, want.Local[i]))
	release()
	if err == nil {
		_, err = r.sw.WaitPort(ctx, want.Local[i].HostLink)
	}
	if err != nil {
		undo()
		r.nudge()
	}
	return err
}

// attach is apply with the links of a new endpoint, which are made while the switch takes up its flows: only its
// port needs both. Nobody else changes anything meanwhile.
func (r *Reconciler) attach(ctx context.Context, id string, veth hostlink.Veth) error {
	made := make(chan error, 1)
	go func() { made <- r.links.EnsureVeth(ctx, veth) }()
	linked := func() error {
		if err := <-made; err != nil {
			return err
		}
		r.owned[veth.Host] = hostlink.Link{Name: veth.Host, Alias: veth.Alias}
		return nil
	}
	return r.applyWith(ctx, id, linked)
}

// want sets what is wanted, and returns what takes it back if nothing else has been wanted since.
func (r *Reconciler) want(want dataplane.Network) (undo func()) {
	want.Remote = slices.Clone(want.Remote) // the caller's may change
	r.mu.Lock()
	defer r.mu.Unlock()
	former, known := r.desired[want.ID]
	r.revision++
	mine := r.revision
	r.desired[want.ID] = desired{want, mine}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.desired[want.ID].revision != mine {
			return
		}
		delete(r.desired, want.ID)
		if known {
			r.revision++
			r.desired[want.ID] = desired{former.Network, r.revision}
		}
	}
}

// serve applies one network, and has everything looked at when that fails.
func (r *Reconciler) serve(ctx context.Context, id string) error {
	if err := r.Ready(); err != nil {
		return err // Run takes it up as soon as it can
	}
	release, err := r.acquire(ctx)
	if err == nil {
		err = r.apply(ctx, id)
		release()
	}
	if err != nil {
		r.nudge()
	}
	return err
}

// acquire waits for its turn to change the host.
func (r *Reconciler) acquire(ctx context.Context) (release func(), err error) {
	select {
	case r.applying <- struct{}{}:
		r.mu.Lock()
		r.underlay = r.where
		r.mu.Unlock()
		return func() { <-r.applying }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: another change is still being applied: see whether ovs-vswitchd hangs (its log, ovs-appctl version): %w",
			ErrNotReady, ctx.Err())
	}
}

func (r *Reconciler) nudge() {
	select {
	case r.poke <- struct{}{}:
	default: // Run is about to look anyway
	}
}
