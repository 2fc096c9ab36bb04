// Package driver is libnetwork's network driver role: the life of networks and
// endpoints on this host, what they look like to other hosts, and what this host must
// forward.
//
// It owns the host's bindings (which Docker network is which network of the
// cluster) and endpoints, kept in the host's own store. It tells internal/netview what is here, and passes on to the
// data plane what that knows of other hosts. It may import store and the
// plain values of internal/dataplane; it knows neither Open vSwitch nor Consul nor HTTP, and reads no other host's records.
//
// No handler waits for another host or for Docker. Handlers that create need the
// store; Join, Leave and DeleteEndpoint work without it.
package driver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/lock"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// Errors of the driver. They are matched with errors.Is.
var (
	// ErrBadRequest says that a request can't be understood or never succeed.
	ErrBadRequest = errors.New("bad request")
	// ErrUnknown says that a network or endpoint is not known on this host.
	ErrUnknown = errors.New("unknown")
	// ErrBusy says that an earlier change of the network was not over in time.
	ErrBusy = errors.New("an earlier change of the network is still under way")
)

// Addresses are the claims of this host, for networks whose addresses Docker chooses.
type Addresses interface {
	Reserve(ctx context.Context, pool netip.Prefix, addr netip.Addr, mac string) error
	ReserveShared(ctx context.Context, pool netip.Prefix, addr netip.Addr) error
	Release(ctx context.Context, pool netip.Prefix, addr netip.Addr, mac string) error
}

// Limits of what no handler's deadline bounds.
const (
	planeLimit = 10 * time.Second // the data plane's time for one network
	undoLimit  = 2 * time.Second  // undoing what a handler did whose time is over
)

// Options are the settings of a Driver.
type Options struct {
	// AddressSpace is the name by which Docker tells that our IPAM gave the pool.
	AddressSpace string
	// EngineAPI tells the API version of this host's Docker Engine, "" while it is not known. It must not wait for Docker.
	EngineAPI func() string
	// Named says that somebody looks at the names of new networks, and calls SetName, Looked or CutOff.
	Named bool
	// Judged says that somebody asks Docker why it removed a network, and calls SettleRemoval. Else every removal is
	// this host's alone.
	Judged bool
	// Admit says who asks for a network, by the request's context: an error if that one may have none here, and a mark if it may be
	// another Docker Engine than the one whose networks the agent follows. It must not wait for Docker.
	Admit func(context.Context) (mark string, err error)
	// HasLink says whether this host has a link of this name; nil if that can't be told.
	HasLink func(ctx context.Context, name string) bool
	Logger  *slog.Logger
}

// Driver serves the life of networks and endpoints. It is safe for concurrent use.
type Driver struct {
	cluster *store.Cluster
	local   store.KV
	dp      dataplane.Plane
	addrs   Addresses
	space   string
	engine  func() string // Options.EngineAPI
	admit   func(context.Context) (string, error)
	hasLink func(context.Context, string) bool
	judged  bool
	named   bool
	removed chan struct{} // has room for the news that there is a removal
	view    *netview.View // what is known of other hosts
	log     *slog.Logger

	mu       sync.Mutex // guards what follows
	networks map[string]*segment
	ports    map[uint32]bool
	lastPort uint32
	// binding are the Docker networks whose binding is being made or ended, each by one at a time: Sync must not take
	// one that is about to be journalled for a leak. The channel is closed when it is done.
	binding map[string]chan struct{}
	// expected are copies that are being made here, by their subnets.
	expected map[string]*expectation
	removals map[string]Removal        // that are not settled, by Docker's id
	cut      map[string][]netip.Prefix // subnets of the networks that were cut off, by Docker's id
	unread   retry.Trouble             // records of networks that can't be read
	leaked   bool                      // a binding may be left that the journal does not know
	forward  func(*segment)            // begins to tell the data plane of a network's peers; nil before Run
}

// Deps are the parts that a Driver works on.
type Deps struct {
	Cluster   *store.Cluster
	Local     store.KV
	View      *netview.View
	Dataplane dataplane.Plane
	Addresses Addresses
}

// New returns a driver with what the host's own store remembers.
func New(ctx context.Context, deps Deps, opts Options) (*Driver, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.EngineAPI == nil {
		opts.EngineAPI = func() string { return "" }
	}
	if opts.Admit == nil {
		opts.Admit = func(context.Context) (string, error) { return "", nil }
	}
	d := &Driver{
		cluster: deps.Cluster, local: deps.Local, dp: deps.Dataplane, addrs: deps.Addresses,
		space: opts.AddressSpace, engine: opts.EngineAPI, admit: opts.Admit, hasLink: opts.HasLink, judged: opts.Judged, named: opts.Named, removed: make(chan struct{}, 1), removals: map[string]Removal{}, cut: map[string][]netip.Prefix{}, log: opts.Logger,
		unread:   retry.Trouble{Logger: opts.Logger, Level: slog.LevelWarn, Text: "records of networks can't be read; these networks stay as they are here"},
		networks: map[string]*segment{}, ports: map[uint32]bool{},
		view: deps.View, binding: map[string]chan struct{}{}, expected: map[string]*expectation{},
	}
	if err := d.restore(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// segment is one bound network in memory; everything in it can be read again from the stores.
type segment struct {
	network string // the cluster's id; never changes, so it needs no lock
	view    *netview.View
	// lock serialises the changes of this network and its way to the data plane: take takes it.
	lock   lock.Lock
	stream *netview.Stream    // of its peers
	stop   context.CancelFunc // ends what tells the data plane of its peers; nil while they are not followed
	unsure bool               // the data plane may not know all that it was told
	isCut  bool               // nothing of what CutOff does is left to do

	// mu is never held while anything is waited for. Who has the lock holds it to change what follows and what that points to, others to read it.
	mu        sync.Mutex
	rec       binding
	endpoints map[string]*endpoint // by ID; add and drop change it
	index     index
	joined    int           // how many of these have joined
	gone      bool          // DeleteNetwork was here
	looked    chan struct{} // closed when its name was looked at; nil if no call waits for that
}

// take waits for the network's lock. Its error wraps ErrBusy.
func (n *segment) take(ctx context.Context) error {
	if err := n.lock.Take(ctx); err != nil {
		return fmt.Errorf("network %s: %w: %w: repeat the command; if this lasts, see 'socketplane doctor' for what Open vSwitch or the store does not answer", n.title(), ErrBusy, err)
	}
	return nil
}

// note changes what mu guards, and tells the view; the network's lock is held.
func (n *segment) note(change func()) {
	n.mu.Lock()
	change()
	now, gone := n.seen(), n.gone
	n.mu.Unlock()
	if !gone {
		n.view.SetNetwork(now)
	}
}

// setRecord replaces the network's record.
func (n *segment) setRecord(b binding) { n.note(func() { n.rec = b }) }

// set changes one of the network's endpoints.
func (n *segment) set(e *endpoint, next endpoint) { n.note(func() { n.replace(e, next) }) }

func (n *segment) title() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rec.title()
}

// find returns a bound network by Docker's id.
func (d *Driver) find(dockerID string) (*segment, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.networks[dockerID]
	return n, ok
}

// all returns the bound networks.
func (d *Driver) all() []*segment {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]*segment, 0, len(d.networks))
	for _, n := range d.networks {
		all = append(all, n)
	}
	return all
}

// put writes one record of the host's own store.
func (d *Driver) put(ctx context.Context, key string, record any) error {
	return d.local.Apply(ctx, store.Op{Kind: store.OpPut, Key: key, Value: store.Encode(record)})
}

// drop removes records of the host's own store.
func (d *Driver) drop(ctx context.Context, keys ...string) error {
	ops := make([]store.Op, len(keys))
	for i, k := range keys {
		ops[i] = store.Op{Kind: store.OpRemove, Key: k}
	}
	return store.ApplyAll(ctx, d.local, ops...)
}

// undoing gives a handler's cleanup some time, though the handler's own may be over.
func undoing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
}

// apply gives the data plane a network, whose lock is held, as it is now.
func (d *Driver) apply(ctx context.Context, n *segment) error {
	ctx, cancel := context.WithTimeout(ctx, planeLimit)
	defer cancel()
	err := d.dp.SetNetwork(ctx, d.plane(n))
	n.unsure = err != nil
	return err
}
