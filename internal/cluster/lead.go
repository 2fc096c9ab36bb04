package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// leadership is what the host beside Raft's leader remembers while it is that.
type leadership struct {
	is      bool
	rotator *trust.Rotator
	// down is since when hosts have been away.
	down map[string]time.Time
}

// leading asks for the address of Raft's leader, and notes since when there is none.
func (s *session) leading(ctx context.Context) (leader string, headless time.Time) {
	leader, err := s.op.leader(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || leader == "" {
		s.leader, s.voters = "", nil
	}
	switch {
	case err != nil: // it is starting; who watches the store says what is wrong
	case leader != "":
		s.headless = time.Time{}
	case s.headless.IsZero():
		s.headless = time.Now()
	}
	return leader, s.headless
}

// leaderHost is the id of the host whose Consul has the leader's address, "" if none has. A host knows its own address better
// than any record does: another member's may be old, or made up.
func (c *Cluster) leaderHost(members []store.Member, leader string) string {
	if leader == hostPort(c.addr(), c.opts.Port+rpcPort) {
		return c.opts.Host
	}
	for _, m := range members {
		if m.ID != c.opts.Host && hostPort(m.Addr, m.Port+rpcPort) == leader {
			return m.ID
		}
	}
	return ""
}

// leadIfLeader does the leader's work, if this host's Consul is Raft's leader.
func (s *session) leadIfLeader(ctx context.Context, members []store.Member, leader string) (err error) {
	var voters []string
	id := s.c.leaderHost(members, leader)
	is := id == s.c.opts.Host && s.c.records.get().Role == store.RoleServer
	if !is {
		s.lead.is, s.lead.down = false, nil
	} else if !s.lead.is {
		s.lead.is, s.lead.down = true, map[string]time.Time{}
		s.lead.rotator = trust.NewRotator(s.st, s.op, s.c.opts.Lifetimes, s.c.log) // what was settled before may not be any more
		s.c.log.Info("cluster: this host leads the cluster")
	}
	if is {
		voters, err = s.govern(ctx, members)
	}
	s.mu.Lock()
	s.leader, s.voters = id, voters
	s.mu.Unlock()
	return s.quiet(err)
}

// govern gives the roles, and removes from Raft and gossip who does not belong there any more. It returns the hosts that vote.
func (s *session) govern(ctx context.Context, members []store.Member) ([]string, error) {
	peers, err := s.op.raft(ctx)
	if err != nil {
		return nil, fmt.Errorf("raft's servers: %w", err)
	}
	nodes, err := s.op.nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	v := s.view(members, peers, nodes)
	var voters []string
	for id := range v.voters {
		voters = append(voters, id)
	}
	changes := planRoles(v)
	if promotes(changes) {
		// A host whose agent is away would not follow, though its Consul is there.
		hosts, err := s.st.Hosts(ctx)
		if err != nil {
			return voters, err
		}
		for id := range v.up {
			v.up[id] = hosts.Alive[id]
		}
		changes = planRoles(v)
	}
	var errs []error
	if changes[v.self] == store.RoleClient {
		// Its heir removes it from Raft, and not it itself.
		delete(changes, v.self)
		errs = append(errs, s.handOver(ctx, peers))
	}
	for id, role := range changes {
		m, _ := memberOf(members, id)
		s.c.log.Info("cluster: a host gets another role", "host", m.Name, "id", id, "role", role)
		errs = append(errs, s.st.UpdateMember(ctx, id, func(m *store.Member) error {
			m.Role = role
			return nil
		}))
	}
	errs = append(errs, s.sweep(ctx, members, peers, nodes), s.lead.rotator.Advance(ctx, v.up, time.Now()))
	return voters, errors.Join(errs...)
}

// handOver makes another voter lead, one that is there.
func (s *session) handOver(ctx context.Context, peers []raftPeer) error {
	nodes, err := s.op.nodes(ctx)
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	there := map[string]bool{}
	for id, n := range nodes {
		there[raftID(id)] = n.alive && id != s.c.opts.Host
	}
	for _, p := range peers {
		if p.voter && there[p.id] {
			s.c.log.Info("cluster: this host hands the lead over", "to", p.id)
			return s.op.transfer(ctx, p.id)
		}
	}
	return nil
}

func promotes(changes map[string]string) bool {
	for _, role := range changes {
		if role == store.RoleServer {
			return true
		}
	}
	return false
}

// view is what roles are given by.
func (s *session) view(members []store.Member, peers []raftPeer, nodes map[string]node) roleView {
	v := roleView{self: s.c.opts.Host, members: members, lost: map[string]bool{}, up: map[string]bool{}, voters: map[string]bool{}}
	voting := map[string]bool{}
	for _, p := range peers {
		voting[p.id] = p.voter
	}
	now := time.Now()
	for _, m := range members {
		if voting[raftID(m.ID)] {
			v.voters[m.ID] = true
		}
		if nodes[m.ID].alive {
			v.up[m.ID] = true
			delete(s.lead.down, m.ID)
			continue
		}
		if s.lead.down[m.ID].IsZero() {
			s.lead.down[m.ID] = now
		}
		v.lost[m.ID] = now.Sub(s.lead.down[m.ID]) >= s.c.opts.Grace
	}
	return v
}

// sweep removes one server from Raft that is none by its record, and nodes from the gossip that have no record.
func (s *session) sweep(ctx context.Context, members []store.Member, peers []raftPeer, nodes map[string]node) error {
	servers, known := map[string]bool{}, map[string]bool{}
	for _, m := range members {
		known[m.ID] = true
		servers[raftID(m.ID)] = m.Role == store.RoleServer
	}
	var errs []error
	for _, p := range peers {
		if !servers[p.id] && p.id != raftID(s.c.opts.Host) {
			s.c.log.Info("cluster: a server is removed from Raft", "id", p.id)
			errs = append(errs, s.op.removePeer(ctx, p.id))
			break // one change at a time
		}
	}
	for id, n := range nodes {
		if !known[id] && n.failed {
			errs = append(errs, s.op.forget(id))
		}
	}
	return errors.Join(errs...)
}

// leave goes on with leaving: first this host's records go, then others serve, then its record as a member goes, and last it is out.
func (s *session) leave(ctx context.Context, me store.Member, members []store.Member) error {
	others := 0
	for _, m := range members {
		if m.ID != me.ID {
			others++
		}
	}
	if s.c.opts.Farewell != nil {
		if err := s.c.opts.Farewell(ctx, false); err != nil {
			return s.quiet(fmt.Errorf("leave the cluster: %w", err))
		}
	}
	if others == 0 {
		return errOut // the cluster ends with its last host
	}
	if me.State != store.StateLeaving || me.Role == store.RoleServer || s.c.records.get().Role == store.RoleServer {
		return nil // the leader gives the role to another one first
	}
	if err := s.resign(ctx); err != nil {
		return s.quiet(fmt.Errorf("leave the cluster: %w", err))
	}
	return errOut // its Consul, a client, is just ended: the leader removes from the gossip who has no record
}

// leaveRaft waits until the others have removed this host from Raft, within the time of ctx.
func (s *session) leaveRaft(ctx context.Context) error {
	for {
		peers, err := s.op.raft(ctx)
		if err != nil {
			return fmt.Errorf("leave raft: %w", err)
		}
		in, leads := false, false
		for _, p := range peers {
			if p.id == raftID(s.c.opts.Host) {
				in, leads = true, p.leader
			}
		}
		if !in || len(peers) == 1 {
			return nil
		}
		if leads {
			if err := s.handOver(ctx, peers); err != nil {
				return fmt.Errorf("leave raft: %w", err)
			}
		}
		sleep(ctx, foundPause)
		if ctx.Err() != nil {
			return fmt.Errorf("leave raft: %w", ctx.Err())
		}
	}
}

// leaveByForce does what can be done within the time of ctx, and is out.
func (s *session) leaveByForce(ctx context.Context) error {
	var errs []error
	if s.c.opts.Farewell != nil {
		errs = append(errs, s.c.opts.Farewell(ctx, true))
	}
	errs = append(errs, s.resign(ctx))
	if s.c.records.get().Role == store.RoleServer {
		errs = append(errs, s.leaveRaft(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		s.c.log.Warn("cluster: this host leaves by force, and something of it stays with the others: 'socketplane host rm' there", "host", s.c.opts.Host, "err", err)
	}
	return errOut
}

// Leave begins to leave the cluster. Status tells how far it is. With force it waits for nobody.
func (c *Cluster) Leave(ctx context.Context, force bool) error {
	return c.want(ctx, &wish{kind: wishLeave, force: force})
}
