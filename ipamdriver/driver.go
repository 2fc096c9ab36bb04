// Package ipamdriver hands out pools and addresses: libnetwork's IPAM role.
//
// It owns which addresses this host has claimed and what it does with them: handed out, resting, spare
// (the journal, in a store of this host), and keeps the cluster's claims equal to that. It may import
// store and internal/ipalloc; it knows neither bridges nor Open vSwitch nor HTTP.
//
// An address goes the way claimed in the cluster, journalled, answered, and back the way journalled, given up in the cluster.
// Whatever happens in between leaves a claim too many, which Sync gives back, never one too few. A
// claim counts only after a write of it was acknowledged: what was to be given back, or whose outcome is unknown,
// is written anew before it is handed out, which fences a late write of before.
package ipamdriver

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// ErrExhausted says that a pool has no free address left.
var ErrExhausted = errors.New("no free address")

// ErrBadRequest says that a request can't be understood or never succeed.
var ErrBadRequest = errors.New("bad request")

// Journal keeps what this host has claimed. What Apply acknowledged must survive the death of the process, but need not
// survive that of the machine. Only store.OpPut and store.OpRemove are used. A store.KV is one.
type Journal interface {
	List(ctx context.Context, prefix string) ([]store.Entry, error)
	Apply(ctx context.Context, ops ...store.Op) error
}

// Options are the settings of a Driver.
type Options struct {
	// Pools are the prefixes from which subnets are cut when none is asked for;
	// the defaults are those of DefaultPools, and a random ULA /64.
	Pools []PoolRange
	// Subnets tells the connected routes of this host, which chosen pools avoid.
	Subnets func(context.Context) ([]netip.Prefix, error)
	// HalfDefaults tells the routes of scope link of this host that are parts of a default route; nil if it has none.
	HalfDefaults func(context.Context) ([]netip.Prefix, error)
	// EngineAPI tells the API version of this host's Docker Engine, "" while it is not known. It must not wait for Docker.
	EngineAPI func() string
	// Journal is where addresses are noted; nil means the host's own store.
	Journal Journal
	// Spares is how many unused addresses are kept of a large pool at rest; 0 means 32, less than 0 none.
	Spares int
	// Rest is how long a released address is not used again; 0 means 60 s. With less than 0 it is given back to the
	// cluster before the release is answered, if the cluster answers soon.
	Rest time.Duration
	// SwarmSpace is the address space in which Swarm's manager asks; empty without Swarm.
	SwarmSpace string
	Logger     *slog.Logger
}

// Defaults of Options, and what is not for operators to choose.
const (
	defaultSpares = 32
	defaultRest   = time.Minute
	burstSpares   = 8192
	returnSoon    = 2 * time.Second  // how long a release waits for the cluster
	othersWait    = 2 * time.Second  // how long a request waits for other hosts' spares
	dryTime       = 10 * time.Second // how long no spares are kept of a pool of which somebody needed them
)

// PoolRange is a prefix and the length of the subnets that are cut from it.
type PoolRange struct {
	Prefix netip.Prefix
	Bits   int
}

// DefaultPools are used when Options names none. There are several, in order: a host's LAN may be 10.0.0.0/8, or 10.32.0.0/12
// what Weave has left there.
func DefaultPools() []PoolRange {
	return []PoolRange{
		{Prefix: netip.MustParsePrefix("10.32.0.0/12"), Bits: 20}, {Prefix: netip.MustParsePrefix("10.64.0.0/10"), Bits: 20},
		{Prefix: netip.MustParsePrefix("172.16.0.0/12"), Bits: 20}, {Prefix: netip.MustParsePrefix("192.168.0.0/16"), Bits: 22},
	}
}

// Driver hands out pools and addresses. It is safe for concurrent use.
type Driver struct {
	cluster *store.Cluster
	local   store.KV
	journal Journal
	opts    Options
	policy  ipalloc.Policy
	log     *slog.Logger
	clock
	recallWait time.Duration // othersWait, but in tests

	// pools are those that are being acquired or returned: Sync must not take a hold that is about to be
	// journalled for a leak.
	pools busy[netip.Prefix]
	// managed are those that Swarm's manager works on, which may be in pools too.
	managed busy[netip.Prefix]
	kick    chan struct{} // somebody needs Run

	mu     sync.Mutex
	loaded bool
	stocks map[netip.Prefix]*stock
	synced bool // Sync has seen all pools once
	// cursors are where Swarm's manager found addresses last, by subnet and range.
	cursors map[[2]netip.Prefix]*swarmCursor
}

// New returns a driver on the cluster's state and this host's own.
func New(cluster *store.Cluster, local store.KV, opts Options) *Driver {
	if len(opts.Pools) == 0 {
		opts.Pools = DefaultPools()
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Journal == nil {
		opts.Journal = local
	}
	if opts.Spares == 0 {
		opts.Spares = defaultSpares
	}
	if opts.Rest == 0 {
		opts.Rest = defaultRest
	}
	policy := ipalloc.Policy{Spares: max(opts.Spares, 0), Burst: burstSpares, Rest: ipalloc.Moment(max(opts.Rest, 0).Milliseconds())}
	return &Driver{
		cluster: cluster, local: local, journal: opts.Journal, opts: opts, policy: policy, log: opts.Logger,
		kick: make(chan struct{}, 1), stocks: map[netip.Prefix]*stock{}, clock: clock{time.Now()}, recallWait: othersWait,
	}
}

// wake makes Run look at the pools.
func (d *Driver) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}
