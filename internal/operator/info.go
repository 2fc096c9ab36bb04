package operator

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/store"
)

// infoTimeout bounds what Info asks the cluster's store.
const infoTimeout = 2 * time.Second

// SelfDeps are what an agent tells of itself. What the functions tell is known on this host, and none of them waits for a handler; they may be called concurrently.
type SelfDeps struct {
	// Known is what does not change while the agent runs: its version, when it started, where the cluster's state is.
	Known adminapi.Info
	// Host is this host as the agent knows it.
	Host func() adminapi.Host
	// Switch is this host's switch, with what keeps it from forwarding as its error.
	Switch func(context.Context) adminapi.OVS
	// Membership is nil where the host forms no cluster by itself.
	Membership func() *adminapi.ClusterSummary
	// Served is what is wrong with the process's sockets, Works what keeps containers from being attached; nil if nothing is.
	Served, Works func() error
	// Networks are those of this host.
	Networks func() []netview.Network
	// Hosts asks the cluster's store for all hosts.
	Hosts func(context.Context) (store.Membership, error)
}

// Self tells how this host's agent does. Its methods may be called concurrently.
type Self struct{ deps SelfDeps }

// NewSelf returns what tells of an agent.
func NewSelf(deps SelfDeps) *Self { return &Self{deps} }

// Info tells how this host's agent does. What is broken is told in it, not as an error.
func (s *Self) Info(ctx context.Context) (adminapi.Info, error) {
	info := s.deps.Known
	info.Host, info.OVS, info.Cluster = s.deps.Host(), s.deps.Switch(ctx), s.deps.Membership()
	if err := s.deps.Served(); err != nil {
		info.Trouble = err.Error()
	}
	for _, n := range s.deps.Networks() {
		info.Networks = append(info.Networks, adminapi.Network{
			ID: n.ID, Name: n.Name, VNI: n.VNI, Pools: n.Pools, Endpoints: n.Endpoints, Peers: n.Peers,
		})
	}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	members, err := s.deps.Hosts(ctx)
	if err != nil {
		info.Store.Error = err.Error()
	}
	for id, h := range members.Hosts {
		info.Hosts = append(info.Hosts, adminapi.Member{
			ID: id, Name: h.Name, VTEP: h.VTEP, Alive: members.Alive[id], Version: h.Version, Started: h.Started, Subnets: h.Subnets,
		})
	}
	slices.SortFunc(info.Hosts, func(a, b adminapi.Member) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return info, nil
}

// Ready is nil while Docker can call, and containers can be attached.
func (s *Self) Ready(context.Context) error { return s.deps.Works() }
