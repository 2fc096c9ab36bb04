// Package reconcile makes the host forward what the drivers want: it compares the desired
// networks with what OVSDB, the switch and the kernel report, and applies the difference.
//
// It owns the bridge's flows, ports and tunnels as a whole and the order in which they change. It
// imports ovsctl, its subpackages and internal/hostlink; it knows neither Docker nor the store.
//
// The order: a frame must never meet a port whose guards are not there, and a device goes only
// after its port. So flows come before ports, and ports go before links.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// ErrNotReady says that nothing can be forwarded now; the text says why and the cure.
var ErrNotReady = errors.New("the data plane is not ready")

// Options are the settings of a Reconciler.
type Options struct {
	// Tunnel is the wanted kind; empty chooses (see decide).
	Tunnel dataplane.TunnelKind
	// VXLANPort is the UDP port of the tunnels, here and on the other hosts.
	VXLANPort uint16
	// Underlay is where this host's tunnels end.
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
	// LastSync is when everything was last found or made true; Drift how often something had to be mended.
	LastSync time.Time
	Drift    uint64
	Err      error
}

// Reconciler applies desired state. It is safe for concurrent use; changes are applied one at a time.
type Reconciler struct {
	sw    *ovsctl.Switch
	links *hostlink.Links
	opts  Options
	log   *slog.Logger
	poke  chan struct{}

	mu       sync.Mutex // guards what follows, and serialises the application
	networks map[string]*network
	conn     *openflow.Conn
	datapath string
	tunnel   dataplane.TunnelKind
	tso      bool
	cookie   uint64
	base     map[string]openflow.Flow

	up     chan struct{} // closed when packets could be forwarded for the first time
	upOnce sync.Once

	statusMu sync.Mutex // guards what follows; never held while anything is waited for
	status   Status
	readyErr error
}

// network is what is wanted for one network, and what is installed.
type network struct {
	want      dataplane.Network
	device    device
	installed map[string]openflow.Flow
}

// New returns a Reconciler; Run makes it work.
func New(sw *ovsctl.Switch, links *hostlink.Links, opts Options) *Reconciler {
	if opts.Resync == 0 {
		opts.Resync = 30 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Reconciler{
		sw: sw, links: links, opts: opts, log: opts.Logger, poke: make(chan struct{}, 1),
		networks: map[string]*network{}, up: make(chan struct{}),
		readyErr: fmt.Errorf("%w: the agent has just started: try again in a second", ErrNotReady),
	}
}

// Ready is nil when packets can be forwarded.
func (r *Reconciler) Ready() error {
	r.statusMu.Lock()
	defer r.statusMu.Unlock()
	return r.readyErr
}

// Up is closed when packets could be forwarded for the first time.
func (r *Reconciler) Up() <-chan struct{} { return r.up }

// MTU is the containers' MTU: the underlay's less what VXLAN adds.
func (r *Reconciler) MTU() int { return overlayMTU(r.opts.Underlay) }

// Outer Ethernet 14, IPv4 20 or IPv6 40, UDP 8, VXLAN 8 (RFC 7348), less the outer
// Ethernet header, which the underlay's MTU does not count, plus the inner one of 14.
const (
	vxlanOverIPv4 = 50
	vxlanOverIPv6 = 70
)

func overlayMTU(u hostlink.Underlay) int {
	if u.Addr.Is6() {
		return u.MTU - vxlanOverIPv6
	}
	return u.MTU - vxlanOverIPv4
}

// Status tells how the data plane is.
func (r *Reconciler) Status() Status {
	r.statusMu.Lock()
	defer r.statusMu.Unlock()
	return r.status
}

// SetNetwork makes the network be forwarded exactly so. What can't be applied now
// is remembered, and applied when it can be.
func (r *Reconciler) SetNetwork(ctx context.Context, want dataplane.Network) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set(ctx, want)
}

// Attach makes the links of one of the network's endpoints, and then is SetNetwork.
func (r *Reconciler) Attach(ctx context.Context, want dataplane.Network, endpoint string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range want.Local {
		if e.ID != endpoint {
			continue
		}
		err := r.links.EnsureVeth(ctx, hostlink.Veth{
			Host: e.HostLink, Peer: e.PeerLink, PeerMAC: e.MAC, MTU: want.MTU,
			Alias: endpointAlias(e.ID), TXChecksum: r.tso,
		})
		if err != nil {
			return err
		}
	}
	return r.set(ctx, want)
}

func (r *Reconciler) set(ctx context.Context, want dataplane.Network) error {
	n, ok := r.networks[want.ID]
	if !ok {
		n = &network{installed: map[string]openflow.Flow{}}
		r.networks[want.ID] = n
	}
	old := n.want
	n.want = want
	return r.applied(ctx, n, old)
}

// RemoveNetwork removes everything of the network.
func (r *Reconciler) RemoveNetwork(ctx context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.networks[id]
	if !ok {
		return nil
	}
	old := n.want
	n.want = dataplane.Network{ID: id, VNI: old.VNI}
	if err := r.applied(ctx, n, old); err != nil {
		return err
	}
	delete(r.networks, id)
	return nil
}

// applied applies one network, and has everything looked at when that fails.
func (r *Reconciler) applied(ctx context.Context, n *network, old dataplane.Network) error {
	if err := r.Ready(); err != nil {
		return err
	}
	err := r.apply(ctx, n)
	if err == nil {
		err = r.dropLinks(ctx, old, n.want)
	}
	if err != nil {
		r.nudge()
	}
	return err
}

func (r *Reconciler) nudge() {
	select {
	case r.poke <- struct{}{}:
	default: // Run is about to look anyway
	}
}

func (r *Reconciler) setStatus(change func(*Status)) {
	r.statusMu.Lock()
	defer r.statusMu.Unlock()
	change(&r.status)
}

func (r *Reconciler) setReady(err error) {
	if err == nil {
		r.upOnce.Do(func() { close(r.up) })
	}
	r.statusMu.Lock()
	defer r.statusMu.Unlock()
	if was := r.readyErr; (was == nil) != (err == nil) {
		if err != nil {
			r.log.Error("data plane is down; running containers keep what the switch has", "err", err)
		} else {
			r.log.Info("data plane is ready", "datapath", r.status.Datapath, "tunnel", r.status.Tunnel)
		}
	}
	r.readyErr, r.status.Err = err, err
}
