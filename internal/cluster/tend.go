package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/discovery"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// Times of a member.
const (
	tendEvery = time.Second
	// tendTime bounds one look.
	tendTime = 8 * time.Second
	// isolated is how long the store may be silent until the other members are asked what has become of this host.
	isolated   = 8 * time.Second
	askedPause = 10 * time.Second
)

// gossiping remembers what was asked of others, so that it is not asked each second.
type gossiping struct {
	joined map[string]time.Time
	asked  time.Time
	// servers are the addresses at which Consul's servers were alive last, by host.
	servers map[string]string
}

// tend looks every second, and when something has changed, at what this host is and is to be. It returns errOut when it is out.
func (s *session) tend(ctx context.Context) error {
	for ctx.Err() == nil {
		look, cancel := context.WithTimeout(ctx, tendTime)
		err := s.look(look)
		cancel()
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errOut):
			return errOut
		case err != nil:
			s.c.trouble(err)
		}
		if s.c.kv.held() {
			s.returned(ctx)
		}
		s.c.await(ctx, tendEvery)
	}
	return nil
}

func (s *session) look(ctx context.Context) error {
	for w := s.c.nextWish(); w != nil; w = s.c.nextWish() {
		err := s.fulfil(ctx, w)
		w.answer <- err
		if err == nil && w.kind == wishJoin {
			return errOut
		}
	}
	if s.c.records.get().Forced {
		return s.leaveByForce(ctx)
	}
	s.announce()
	s.tellForeign()
	s.mu.Lock()
	members, known, silent, entered := s.members, s.known, s.silent, s.entered
	s.mu.Unlock()
	if me, in := memberOf(members, s.c.opts.Host); in && !entered {
		if err := s.enter(ctx, me); err != nil {
			return err
		}
	}
	s.meet(ctx)
	leader, headless := s.leading(ctx)
	if silent.IsZero() || !headless.IsZero() && headless.Before(silent) {
		silent = headless
	}
	if !silent.IsZero() && time.Since(silent) > isolated {
		return s.askOthers(ctx)
	}
	if !known {
		return nil
	}
	me, in := memberOf(members, s.c.opts.Host)
	if !in {
		return s.removed(ctx)
	}
	if err := s.c.keeper.SetPeers(trust.Peers(members, s.c.opts.Host)); err != nil {
		return err
	}
	if err := s.correct(ctx, me); err != nil {
		return err
	}
	if err := s.play(ctx, me); err != nil {
		return err
	}
	err := s.leadIfLeader(ctx, members, leader)
	if s.c.records.get().Leaving {
		return errors.Join(err, s.leave(ctx, me, members))
	}
	if err != nil {
		return err
	}
	if silent.IsZero() {
		s.c.fine()
	}
	return nil
}

// enter opens the cluster's store to the rest of the agent.
func (s *session) enter(ctx context.Context, me store.Member) error {
	if err := s.fits(ctx); err != nil {
		return err
	}
	if err := s.bring(ctx); errors.Is(err, store.ErrCollides) {
		// It goes on alone, with its file.
		if gone := s.resign(ctx); gone != nil {
			return errors.Join(err, gone)
		}
		s.c.trouble(err)
		if err := s.c.records.change(func(r *record) { r.Alone = true }); err != nil {
			return err
		}
		return errOut
	} else if err != nil {
		return err
	}
	s.c.kv.open(s.guarded)
	s.mu.Lock()
	s.entered = true
	s.mu.Unlock()
	if s.c.opts.Entered != nil && !s.c.records.get().Leaving {
		s.c.opts.Entered()
	}
	s.c.fine()
	if !s.c.keeper.Credentials().Keys.Locked {
		s.c.log.Info("cluster: it is open: any machine that reaches a host's cluster port becomes a member by asking; 'socketplane cluster lock' closes it", "cluster", s.id)
	}
	return nil
}

func memberOf(members []store.Member, id string) (store.Member, bool) {
	for _, m := range members {
		if m.ID == id {
			return m, true
		}
	}
	return store.Member{}, false
}

// removed makes sure that this host has no record. A watch may have answered from a leader that had just begun.
func (s *session) removed(ctx context.Context) error {
	members, err := s.st.Members(ctx)
	if err != nil {
		return nil // the store is silent: that is another matter
	}
	if _, in := memberOf(members, s.c.opts.Host); in {
		s.learn(members)
		return nil
	}
	return errOut
}

// correct makes this host's record say where it is, and that it leaves.
func (s *session) correct(ctx context.Context, me store.Member) error {
	h := s.c.host()
	leaving := s.c.records.get().Leaving
	if me.Addr == h.Addr && me.Port == h.Port && me.Name == h.Name && me.Trust == s.c.trusts() && (me.State == store.StateLeaving) == leaving {
		return nil
	}
	return s.quiet(s.report(ctx, me.Epoch))
}

// quiet leaves out what others say: that the store does not answer.
func (s *session) quiet(err error) error {
	if errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotMember) {
		return nil
	}
	return err
}

// play makes this host's Consul what its record says. A server that is to be a client votes on until the leader has removed it from Raft:
// then nobody waits for it, whatever happens to it in between.
func (s *session) play(ctx context.Context, me store.Member) error {
	if me.Role == s.c.records.get().Role {
		_, err := s.holdKeys(ctx)
		return err
	}
	if me.Role == store.RoleClient {
		if in, err := s.inRaft(ctx); err != nil || in {
			return nil
		}
	} else if ready, err := s.holdKeys(ctx); !ready {
		return err // without the keys of servers its Consul can't be one
	}
	s.c.log.Info("cluster: this host's Consul changes its role", "role", me.Role)
	if err := s.c.records.change(func(r *record) { r.Role = me.Role }); err != nil {
		return err
	}
	err := s.follower.Release(ctx) // what it could not do is done by holdKeys at the next look
	s.c.kv.hold()
	s.apply()
	return s.quiet(err)
}

// returnTime is how long a Consul that begins anew may take to answer, until calls meet it as it is.
const returnTime = 10 * time.Second

// returned waits until this host's Consul, which restarts, answers.
func (s *session) returned(ctx context.Context) {
	defer s.c.kv.release()
	wait, cancel := context.WithTimeout(ctx, returnTime)
	defer cancel()
	for wait.Err() == nil {
		sleep(wait, returnPause)
		if !s.proc.Status().Agrees {
			continue
		}
		ask, cancel := context.WithTimeout(wait, time.Second)
		_, err := s.kv.Get(ask, store.PoolsRevisionKey) // any key does
		cancel()
		if err == nil || errors.Is(err, store.ErrNotFound) {
			return
		}
	}
}

// returnPause is between looks at a Consul that restarts.
const returnPause = 50 * time.Millisecond

// inRaft says whether this host is one of Raft's servers, as the leader has it.
func (s *session) inRaft(ctx context.Context) (bool, error) {
	peers, err := s.op.raft(ctx)
	for _, p := range peers {
		if p.id == raftID(s.c.opts.Host) {
			return true, nil
		}
	}
	return false, err
}

// meet lets this host's Consul gossip with members that are heard and that it does not know, or knows elsewhere: all may
// have changed their addresses.
func (s *session) meet(ctx context.Context) {
	var wanted []discovery.Peer
	for _, p := range s.c.disco.Peers() {
		if p.Cluster == s.id && p.State == discovery.Member {
			wanted = append(wanted, p)
		}
	}
	if !s.proc.Status().Running {
		return
	}
	nodes, err := s.op.nodes(ctx)
	if err != nil {
		return // it is starting
	}
	s.followServers(nodes)
	now := time.Now()
	for _, p := range wanted {
		if n, ok := nodes[p.Host]; ok && n.alive && n.addr == p.Addr.String() || now.Sub(s.gossip.joined[p.Host]) < askedPause {
			continue
		}
		if s.gossip.joined == nil {
			s.gossip.joined = map[string]time.Time{}
		}
		s.gossip.joined[p.Host] = now
		join, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := s.op.join(join, hostPort(p.Addr, p.Port+gossipPort))
		cancel()
		if err != nil {
			s.c.log.Debug("cluster: a member does not gossip yet", "host", p.Host, "addr", p.Addr, "err", err)
		}
	}
}

// askOthers asks the other members to be admitted again: this host may have missed that the keys were changed, or that it was removed.
func (s *session) askOthers(ctx context.Context) error {
	if time.Since(s.gossip.asked) < askedPause {
		return nil
	}
	s.gossip.asked = time.Now()
	missing := fmt.Errorf("the cluster does not answer: check that a majority of its servers runs and that this host reaches them on ports %d to %d",
		s.c.opts.Port, s.c.opts.Port+gossipPort)
	others := s.others()
	if len(others) == 0 {
		return missing
	}
	creds, err := s.c.askAny(ctx, others, admission.Question{Host: s.c.host(), Trust: s.c.trusts(), Cluster: s.id, Again: true})
	var refused *admission.Refused
	switch {
	case errors.As(err, &refused) && (refused.Code == admission.CodeNotMember || refused.Code == admission.CodeOtherKey):
		return errOut
	case err != nil:
		return fmt.Errorf("%w (%s)", missing, strings.TrimSpace(err.Error()))
	}
	old := s.c.keeper.Credentials()
	// Who answered had a store to look into if it knows this host's token: then what it says of this host's role counts.
	current := creds.Token.Reveal() != ""
	if !current {
		creds.Token = old.Token
	}
	if creds.Keys.Split && !creds.Keys.Private() && s.c.records.get().Role == store.RoleServer {
		if !current {
			return missing
		}
		s.c.log.Info("cluster: this host was a server, and other hosts have taken its place")
		if err := s.c.records.change(func(r *record) { r.Role = store.RoleClient }); err != nil {
			return err
		}
		// Its credentials may be a client's already, if it was to be a server for a moment only. Then nothing else restarts its Consul.
		s.apply()
	}
	if creds.Keys.Epoch <= old.Keys.Epoch && creds.Token.Reveal() == old.Token.Reveal() { // that one knows no more than this host
		return missing
	}
	s.c.log.Info("cluster: this host had missed that the cluster's keys were changed", "epoch", creds.Keys.Epoch)
	if err := s.c.keeper.Set(creds); err != nil {
		return err
	}
	s.apply()
	s.proc.Restart() // it reads gossip keys at its start only
	return nil
}

// tellForeign says once of each other cluster that it is heard.
func (s *session) tellForeign() {
	for _, f := range unheard(s.strange, foreign(s.c.disco.Peers(), s.id)) {
		s.c.log.Warn("cluster: another cluster is on this segment, and they don't merge by themselves: to unite them, run 'socketplane cluster leave' and 'socketplane cluster join ADDRESS' on the hosts of one",
			"cluster", f.ID, "hosts", f.Hosts)
	}
}

// maxStrange bounds how many foreign clusters are told of: anybody on the segment can make them up.
const maxStrange = 32

// unheard are the clusters that were not heard before; they are by now.
func unheard(before map[string]bool, all []Foreign) []Foreign {
	var fresh []Foreign
	for _, f := range all {
		if !before[f.ID] && len(before) < maxStrange {
			before[f.ID] = true
			fresh = append(fresh, f)
		}
	}
	return fresh
}

// fulfil does what a user wants of a member.
func (s *session) fulfil(ctx context.Context, w *wish) error {
	s.mu.Lock()
	silent, members := !s.silent.IsZero() || !s.headless.IsZero() || !s.known, len(s.members)
	s.mu.Unlock()
	switch {
	case w.kind == wishJoin && !silent && members == 1:
		return s.move(ctx, w)
	case w.kind == wishLeave:
		if silent && !w.force {
			return fmt.Errorf("%w: the cluster does not answer, so this host can't leave in good order: wait until a majority of its servers runs, or leave with --force", store.ErrUnavailable)
		}
		defer s.c.poke()
		return s.c.records.change(func(r *record) { r.Leaving, r.Forced = true, w.force })
	case silent:
		return fmt.Errorf("%w: this host is in cluster %s, which does not answer: wait until it does, or leave it with --force", store.ErrUnavailable, s.id)
	default:
		return fmt.Errorf("%w (%s): 'socketplane cluster leave' first", ErrInCluster, s.id)
	}
}

// move takes this host, the only one of its cluster, to another cluster. Nothing changes before that has admitted it.
func (s *session) move(ctx context.Context, w *wish) error {
	m := move{}
	var err error
	if m.addrs, err = s.c.resolve(ctx, w.join); err != nil {
		return err
	}
	creds, err := s.c.askAny(ctx, m.addrs, admission.Question{Host: s.c.host(), Trust: s.c.trusts(), Token: w.token})
	switch {
	case err != nil:
		return err
	case creds.Cluster() == s.id:
		return fmt.Errorf("%w: it is this host's own", ErrInCluster)
	}
	if err := s.pack(ctx); err != nil {
		return fmt.Errorf("this host's networks can't be packed up: %w", err)
	}
	s.c.mu.Lock()
	s.c.next = &creds
	s.c.mu.Unlock()
	return nil
}
