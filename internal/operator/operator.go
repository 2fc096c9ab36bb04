// Package operator answers what an operator asks of the agent: networks, endpoints and hosts of the cluster, and changes of them. It owns how much of the store
// an answer reads: one list of each kind of record, or the records of one network.
//
// It may import store, the values of internal/adminapi, internal/mirror, driver and ipamdriver, and what reads a request (internal/netopt, internal/ipalloc). It must
// not know how the agent is put together, nor Open vSwitch.
package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/mirror"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

// Mirror is what brings the cluster's networks to this host.
type Mirror interface {
	// Wake makes it compare soon; it does not block.
	Wake()
	Troubles() []mirror.Trouble
	// Note is what happened on this host to a network, given by id, that a user should know.
	Note(network string) string
}

// Addresses is address management on this host.
type Addresses interface {
	// Use tells who has how much of a pool. published are the addresses of other hosts' endpoints, by host.
	Use(ctx context.Context, pool netip.Prefix, published map[string][]netip.Addr) ([]ipamdriver.Use, error)
	// Propose names a free subnet.
	Propose(ctx context.Context, v6 bool) (netip.Prefix, error)
}

// Deps are what answers are made of.
type Deps struct {
	Cluster *store.Cluster
	// Mirror is nil without Docker's API.
	Mirror Mirror
	// Follows says that this host's Docker gets the networks that are declared.
	Follows   bool
	Addresses Addresses
	// MTU is what every host can carry, in bytes.
	MTU func() int
	// Member removes a host from the cluster that this agent runs; nil where it runs none.
	Member func(ctx context.Context, hosts store.Membership, name string) error
	Logger *slog.Logger
}

// Operator answers. Its methods may be called concurrently.
type Operator struct{ deps Deps }

// New returns an operator of these parts.
func New(deps Deps) *Operator {
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	return &Operator{deps}
}

func (o *Operator) wake() {
	if o.deps.Mirror != nil {
		o.deps.Mirror.Wake()
	}
}

// tries is how often a subnet is chosen when other hosts are faster.
const tries = 8

// CreateNetwork declares a network; the mirrors of all hosts bring it there.
func (o *Operator) CreateNetwork(ctx context.Context, r adminapi.NetworkRequest) (adminapi.NetworkDetail, error) {
	if !o.deps.Follows {
		return adminapi.NetworkDetail{}, fmt.Errorf("%w: this host's agent makes no networks in Docker (--mirror=false or --docker-host none): "+
			"use 'docker network create -d socketplane' on every host", adminapi.ErrConflict)
	}
	if err := checkRequest(&r); err != nil {
		return adminapi.NetworkDetail{}, fmt.Errorf("%w: %w", adminapi.ErrInvalid, err)
	}
	chosen := len(r.Subnets) == 0
	for try := 1; ; try++ {
		want, err := o.wanted(ctx, r)
		if err != nil {
			return adminapi.NetworkDetail{}, err
		}
		n, err := o.deps.Cluster.Create(ctx, want)
		if errors.Is(err, store.ErrOverlap) && chosen && try < tries {
			continue
		}
		if err != nil {
			return adminapi.NetworkDetail{}, Spoken(err)
		}
		o.wake()
		o.deps.Logger.Info("network is created for all hosts", "network", n.Name, "pools", n.Pools)
		members, err := o.deps.Cluster.Hosts(ctx)
		return detail(store.BoundNetwork{Network: n}, members, &census{}), err
	}
}

// RemoveNetwork begins to remove a network from all hosts.
func (o *Operator) RemoveNetwork(ctx context.Context, name string) error {
	n, err := o.given(ctx, name)
	if err != nil {
		return Spoken(err)
	}
	bindings, err := o.deps.Cluster.BoundTo(ctx, n.ID)
	if err != nil {
		return Spoken(err)
	}
	if n.Declared == nil && len(bindings.Present()) > 0 {
		return fmt.Errorf("%w: network %s is not shared: 'docker network rm' it on the hosts that have it", adminapi.ErrConflict, n.Title())
	}
	if err := o.deps.Cluster.Remove(ctx, n.ID); err != nil {
		return Spoken(err)
	}
	o.wake()
	return nil
}

// AttachNetwork makes this host have a network again that its user removed here.
func (o *Operator) AttachNetwork(ctx context.Context, name string) error {
	if !o.deps.Follows {
		return fmt.Errorf("%w: this host's agent makes no networks in Docker (--mirror=false or --docker-host none): "+
			"use 'docker network create -d socketplane' with the network's subnet", adminapi.ErrConflict)
	}
	n, err := o.given(ctx, name)
	if err == nil {
		err = o.deps.Cluster.Attach(ctx, n.ID)
	}
	if err != nil {
		return Spoken(err)
	}
	o.wake()
	return nil
}

// RemoveHost forgets a host that will not come back.
func (o *Operator) RemoveHost(ctx context.Context, name string) error {
	hosts, err := o.deps.Cluster.Hosts(ctx)
	if err != nil {
		return err
	}
	if o.deps.Member != nil {
		return Spoken(o.deps.Member(ctx, hosts, name))
	}
	h, err := hosts.FindHost(name)
	if err == nil {
		err = o.deps.Cluster.RemoveHost(ctx, h.ID)
	}
	return Spoken(err)
}
