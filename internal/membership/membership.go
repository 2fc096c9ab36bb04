package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/cluster"
	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/internal/operator"
	"github.com/socketplane/socketplane/store"
)

var _ adminapi.ClusterOperator = (*Membership)(nil)

// answerTimeout bounds what an answer asks the cluster's store.
const answerTimeout = 2 * time.Second

// Deps are what answers are made of.
type Deps struct {
	// Managed is the cluster that this agent runs; nil where it runs none.
	Managed *cluster.Cluster
	// Kind and Address say where the cluster's state is.
	Kind    config.StoreKind
	Address string
	Cluster *store.Cluster
	// Port is the first of the cluster's ports, for addresses without one.
	Port uint16
	// Networks are those of this host.
	Networks func() []netview.Network
}

// Membership answers. Its methods may be called concurrently.
type Membership struct{ deps Deps }

// New returns what answers with these parts.
func New(deps Deps) *Membership { return &Membership{deps} }

// managed is the cluster that this agent runs, or why there is none.
func (m *Membership) managed() (*cluster.Cluster, error) {
	if m.deps.Managed != nil {
		return m.deps.Managed, nil
	}
	if m.deps.Kind == config.StoreConsul {
		return nil, fmt.Errorf("%w: this host uses the Consul at %s, which SocketPlane does not manage: set --store cluster for a cluster of its own",
			adminapi.ErrConflict, m.deps.Address)
	}
	return nil, fmt.Errorf("%w: this host keeps its state in a file, alone: install consul, or give its path with --consul-binary, and restart the agent with --store cluster",
		adminapi.ErrConflict)
}

// spoken is operator.Spoken, for errors of the cluster that this host is in as well.
func spoken(err error) error {
	var refused *admission.Refused
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrInCluster), errors.Is(err, cluster.ErrNotInCluster), errors.As(err, &refused), errors.Is(err, trust.ErrStranger):
		return fmt.Errorf("%w: %w", adminapi.ErrConflict, err)
	case errors.Is(err, trust.ErrToken):
		return fmt.Errorf("%w: %w", adminapi.ErrInvalid, err)
	}
	return operator.Spoken(err)
}

func summaryOf(st cluster.Status) adminapi.ClusterSummary {
	s := adminapi.ClusterSummary{
		ID: st.Cluster, State: string(st.State), Role: st.Role, Locked: st.Locked, Epoch: int(st.Epoch), Trouble: st.Trouble,
	}
	for _, m := range st.Members {
		if m.Role == store.RoleServer {
			s.Servers++
		}
	}
	for _, f := range st.Foreign {
		s.Foreign = append(s.Foreign, adminapi.ForeignCluster{ID: f.ID, Hosts: f.Hosts})
	}
	return s
}

// Summary tells what this host is in which cluster, without asking anything; nil where it forms none by itself.
func (m *Membership) Summary() *adminapi.ClusterSummary {
	if m.deps.Managed == nil {
		return nil
	}
	s := summaryOf(m.deps.Managed.Status())
	return &s
}

// Cluster tells what this host is in which cluster.
func (m *Membership) Cluster(ctx context.Context) (adminapi.ClusterStatus, error) {
	c, err := m.managed()
	if err != nil {
		return adminapi.ClusterStatus{}, err
	}
	st := c.Status()
	out := adminapi.ClusterStatus{ClusterSummary: summaryOf(st), Members: []adminapi.ClusterMemberInfo{}}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	hosts, err := m.deps.Cluster.Hosts(ctx)
	if err != nil && st.Cluster != "" {
		out.Trouble = cmp.Or(out.Trouble, err.Error())
	}
	leader, voters := c.Raft(ctx)
	for _, member := range st.Members {
		state := adminapi.ClusterMember
		if member.State == store.StateLeaving {
			state = adminapi.ClusterLeaving
		}
		out.Members = append(out.Members, adminapi.ClusterMemberInfo{
			ID: member.ID, Name: member.Name, Addr: member.Addr, Role: member.Role, State: state, Voter: voters[member.ID], Alive: hosts.Alive[member.ID],
			Leader: member.ID == leader, Version: hosts.Hosts[member.ID].Version, Joined: member.Joined,
		})
	}
	slices.SortFunc(out.Members, func(a, b adminapi.ClusterMemberInfo) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// InitCluster founds a cluster on this host.
func (m *Membership) InitCluster(ctx context.Context, r adminapi.InitRequest) error {
	c, err := m.managed()
	if err != nil {
		return err
	}
	return spoken(c.Init(ctx, r.Locked))
}

// JoinCluster makes this host a member of another host's cluster.
func (m *Membership) JoinCluster(ctx context.Context, r adminapi.JoinRequest) error {
	c, err := m.managed()
	if err != nil {
		return err
	}
	var token *trust.Token
	if r.Token != "" {
		t, err := trust.ParseToken(r.Token)
		if err != nil {
			return spoken(err)
		}
		token = &t
	}
	var addrs []string
	for _, text := range r.Addresses {
		addr, err := config.JoinAddress(text, m.deps.Port)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", adminapi.ErrInvalid, text, err)
		}
		addrs = append(addrs, addr)
	}
	return spoken(c.Join(ctx, addrs, token))
}

// SetLocked closes or opens the cluster.
func (m *Membership) SetLocked(ctx context.Context, locked bool) error {
	c, err := m.managed()
	if err != nil {
		return err
	}
	return spoken(c.SetLocked(ctx, locked))
}
