// Package ipamdriver hands out pools and addresses: libnetwork's IPAM role.
//
// It owns which addresses this host has handed out (the journal, in the host's
// own store) and keeps the cluster's claims equal to that. It may import
// store and internal/ipalloc; it knows neither bridges nor Open vSwitch nor HTTP.
//
// An address is claimed in the cluster first and journalled second, both before
// it is answered. A crash between the two leaves a claim that no journal
// knows, which Sync gives back; the other order could hand an address out twice. A claim
// whose outcome is unknown, for the store did not answer, is journalled as one to be returned.
package ipamdriver

import (
	"context"
	"errors"
	"fmt"
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

// Options are the settings of a Driver.
type Options struct {
	// Pools are the prefixes from which subnets are cut when none is asked for;
	// the defaults are 10.32.0.0/12 in /20, and a random ULA /64.
	Pools []PoolRange
	// Subnets tells the connected routes of this host, which chosen pools avoid.
	Subnets func(context.Context) ([]netip.Prefix, error)
	Logger  *slog.Logger
}

// PoolRange is a prefix and the length of the subnets that are cut from it.
type PoolRange struct {
	Prefix netip.Prefix
	Bits   int
}

// DefaultPools are used when Options names none.
func DefaultPools() []PoolRange {
	return []PoolRange{{Prefix: netip.MustParsePrefix("10.32.0.0/12"), Bits: 20}}
}

// Driver hands out pools and addresses. It is safe for concurrent use.
type Driver struct {
	cluster *store.Cluster
	local   store.KV
	opts    Options
	log     *slog.Logger

	// busy are the addresses and pools that are being claimed or returned: Sync must
	// not take a claim that is about to be journalled for a leak, and a release must
	// not return what was just claimed anew.
	busy busy

	mu sync.Mutex
	// hints name the block of each pool in which an address was found last.
	// They only save time: any value is right.
	hints map[string]netip.Prefix
}

// New returns a driver on the cluster's state and this host's own.
func New(cluster *store.Cluster, local store.KV, opts Options) *Driver {
	if len(opts.Pools) == 0 {
		opts.Pools = DefaultPools()
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Driver{cluster: cluster, local: local, opts: opts, log: opts.Logger, hints: map[string]netip.Prefix{}}
}

// address is the journal's record of one address that this host handed out.
type address struct {
	Schema int          `json:"schema"`
	Pool   netip.Prefix `json:"pool"`
	Addr   netip.Addr   `json:"addr"`
	MAC    string       `json:"mac,omitempty"`
	// Returning is set when it was released but the cluster does not know yet.
	Returning bool      `json:"returning,omitempty"`
	Since     time.Time `json:"since"`
}

func (a address) key() string { return store.LocalAddressKey(a.Pool, a.Addr) }

// heldPool is the record of a pool that Docker holds through us on this host.
type heldPool struct {
	Schema    int          `json:"schema"`
	CIDR      netip.Prefix `json:"cidr"`
	Returning bool         `json:"returning,omitempty"`
}

// parsePoolID reads what RequestPool answered.
func parsePoolID(id string) (ipalloc.Pool, error) {
	p, err := ipalloc.Parse(id)
	if err != nil {
		return p, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return p, nil
}
