package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/consulproc"
	"github.com/socketplane/socketplane/internal/cluster/discovery"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
)

// session is this host's time in one cluster.
type session struct {
	c    *Cluster
	id   string // the cluster's
	proc *consulproc.Process
	op   *operator
	kv   *consul.Store
	st   *store.Cluster
	// guarded is kv for the rest of the agent: each cluster's schema is looked at, whichever was there before.
	guarded store.KV
	// follower keeps this host's credentials those of the cluster.
	follower *trust.Follower
	lead     leadership
	gossip   gossiping

	applying sync.Mutex // what is set last is what was decided last

	mu       sync.Mutex
	joins    []netip.AddrPort // Options.Join, as it was resolved
	members  []store.Member
	known    bool      // the members were read once
	entered  bool      // the store is open to the rest of the agent
	silent   time.Time // since when the store does not answer; zero while it does
	headless time.Time // since when Raft has no leader; a watch that waits does not notice
	leader   string
	voters   []string
	strange  map[string]bool // foreign clusters that were told of
}

// errOut ends a session: this host is in the cluster no more.
var errOut = errors.New("this host is no member of the cluster any more")

// inside takes part in the cluster of the credentials until this host is out of it, or until ctx ends.
func (c *Cluster) inside(ctx context.Context) error {
	if err := c.records.change(func(r *record) { r.Addr = c.addr() }); err != nil {
		return err
	}
	s, err := c.newSession()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.session = s
	c.mu.Unlock()
	err = s.run(ctx)
	c.mu.Lock()
	c.session = nil
	c.mu.Unlock()
	c.rest("this host's Consul is not used")
	s.op.close()
	if closed := s.kv.Close(); err == nil {
		err = closed
	}
	if errors.Is(err, errOut) {
		c.log.Info("cluster: this host is out of its cluster", "cluster", s.id)
		return c.records.change(func(r *record) { *r = record{Ending: true, Alone: r.Alone || r.Leaving} })
	}
	return err
}

func (c *Cluster) newSession() (*session, error) {
	creds := c.keeper.Credentials()
	s := &session{c: c, id: creds.Cluster(), strange: map[string]bool{}}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(c.opts.Port+httpsPort)))
	var err error
	operate := func() store.Secret { return c.keeper.Credentials().OperatorToken() }
	if s.op, err = newOperator(addr, operate, recoveryToken(c.keeper.Identity().KeyPEM()), c.keeper.ConsulTLS()); err != nil {
		return nil, err
	}
	s.kv, err = consul.Open(consul.Options{Address: addr, TLS: c.keeper.ConsulTLS(),
		TokenNow: func() consul.Token { return consul.Token(c.keeper.Credentials().StoreToken().Reveal()) }})
	if err != nil {
		return nil, err
	}
	s.st = store.NewCluster(s.kv, c.opts.Host)
	s.guarded = store.Guarded(s.kv, "the data of cluster "+s.id, store.SchemaKey, store.Migrations())
	s.proc = consulproc.New(consulproc.Options{Binary: c.opts.Consul, Dir: c.consulDir(), Logger: c.log})
	s.lead.rotator = trust.NewRotator(s.st, s.op, c.opts.Lifetimes, c.log)
	s.follower = c.keeper.NewFollower(s.st, trust.Ways{
		Host: s.subject, Token: s.ownToken, Ask: s.askServer, Confirm: s.confirm, Reload: s.reload,
	}, c.log)
	return s, nil
}

func (s *session) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if err := s.resolveJoins(ctx); err != nil {
		s.c.log.Warn("cluster: addresses of --join are not known yet; they are looked up again", "err", err)
		group.Go(func() error {
			s.resolveLate(ctx, askedPause, s.op.join)
			return nil
		})
	}
	group.Go(func() error { return s.proc.Run(ctx) })
	s.apply()
	if s.c.carrying() == nil {
		s.c.kv.shut("this host's Consul is starting")
	}
	group.Go(func() error {
		if s.c.records.get().Founder {
			if err := s.found(ctx); err != nil {
				return err
			}
		}
		s.announce()
		group.Go(func() error { return s.admit(ctx) })
		group.Go(func() error { return s.watch(ctx) })
		group.Go(func() error {
			return s.follower.Run(ctx)
		})
		return s.tend(ctx)
	})
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// apply says how this host's Consul is to run.
func (s *session) apply() {
	s.applying.Lock()
	defer s.applying.Unlock()
	creds, rec := s.c.keeper.Credentials(), s.c.records.get()
	spec := &consulproc.Spec{
		Host: s.c.opts.Host, Datacenter: trust.Datacenter, Server: rec.Role == store.RoleServer, Bootstrap: rec.Founder,
		Addr: s.c.addr(), Ports: consulproc.Ports{RPC: s.c.opts.Port + rpcPort, Gossip: s.c.opts.Port + gossipPort, HTTPS: s.c.opts.Port + httpsPort},
		CA: creds.Bundle(), Cert: creds.Cert, Key: s.c.keeper.Identity().KeyPEM(),
		AgentToken: creds.ProcessToken().Reveal(), ManagementToken: creds.Keys.ManagementToken().Reveal(), RecoveryToken: s.op.recovery,
	}
	for _, g := range creds.Keys.Gossip {
		spec.GossipKeys = append(spec.GossipKeys, g.Reveal())
	}
	for _, addr := range s.others() {
		spec.Join = append(spec.Join, gossipAddr(addr))
	}
	s.proc.Set(spec)
}

// others are the addresses of the other members: as they were last known, and as they are heard. Both may be old.
func (s *session) others() []netip.AddrPort {
	seen := map[netip.AddrPort]bool{}
	var out []netip.AddrPort
	add := func(a netip.AddrPort) {
		if !seen[a] && a.Addr() != s.c.addr() {
			seen[a] = true
			out = append(out, a)
		}
	}
	for _, p := range s.c.disco.Peers() {
		if p.Cluster == s.id && p.State == discovery.Member {
			add(netip.AddrPortFrom(p.Addr, p.Port))
		}
	}
	for _, p := range s.c.keeper.Credentials().Peers {
		add(p.Addr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, addr := range s.joins {
		add(addr)
	}
	return out
}

// resolveJoins looks the given addresses up, for members that have moved where no multicast tells of it.
func (s *session) resolveJoins(ctx context.Context) error {
	if len(s.c.opts.Join) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	addrs, err := s.c.resolve(ctx, s.c.opts.Join)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joins = addrs
	return nil
}

// resolveLate looks the given addresses up until they are known, as a host may boot before its name server, and lets this host's Consul gossip
// with them: it has begun without.
func (s *session) resolveLate(ctx context.Context, every time.Duration, join func(ctx context.Context, addr string) error) {
	for sleep(ctx, every); ctx.Err() == nil; sleep(ctx, every) {
		if s.resolveJoins(ctx) != nil {
			continue
		}
		s.mu.Lock()
		joins := s.joins
		s.mu.Unlock()
		s.c.log.Info("cluster: addresses of --join are known now", "addrs", joins)
		for _, addr := range joins {
			ask, cancel := context.WithTimeout(ctx, 2*time.Second)
			err := join(ask, gossipAddr(addr))
			cancel()
			if err != nil {
				s.c.log.Debug("cluster: a host of --join does not gossip yet", "addr", addr, "err", err)
			}
		}
		return
	}
}

func gossipAddr(admission netip.AddrPort) string {
	return hostPort(admission.Addr(), admission.Port()+gossipPort)
}

// reloadTime bounds how long this host's Consul may take to take something up.
const reloadTime = 10 * time.Second

// reload lets this host's Consul take up new credentials.
func (s *session) reload(ctx context.Context, _ trust.Credentials) error {
	s.apply()
	ctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		st := s.proc.Status()
		if st.Agrees {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), st.Err)
		case <-ticker.C:
		}
	}
}

const (
	// foundPause is between looks at the first leader's birth.
	foundPause = 100 * time.Millisecond
	// foundQuiet is how long a cluster may take to be complete: then it is told why it is not.
	foundQuiet = 15 * time.Second
)

// found completes a new cluster: the first server's Raft, the tokens, the records. Only then others are let in.
func (s *session) found(ctx context.Context) error {
	creds := s.c.keeper.Credentials()
	s.c.announce(discovery.Founding, s.id, creds.Keys.Locked)
	for began := time.Now(); ctx.Err() == nil; {
		step, cancel := context.WithTimeout(ctx, askConsul)
		err := s.complete(step, creds)
		cancel()
		if err == nil {
			s.c.fine()
			s.c.log.Info("cluster: the cluster is there", "cluster", s.id, "locked", creds.Keys.Locked)
			return s.c.records.change(func(r *record) { r.Founder = false })
		}
		if s.proc.Status().Running {
			why := "this host founds a cluster, and its Consul is not ready yet"
			if time.Since(began) > foundQuiet && ctx.Err() == nil {
				s.c.trouble(fmt.Errorf("the cluster that this host founds is not complete: %w", err))
				why = "this host founds a cluster, which is not complete: " + err.Error()
			}
			if s.c.carrying() == nil {
				s.c.kv.shut(why)
			}
		} else if perr := s.proc.Status().Err; perr != nil {
			s.c.trouble(perr)
		}
		sleep(ctx, foundPause)
	}
	return ctx.Err()
}

func (s *session) complete(ctx context.Context, creds trust.Credentials) error {
	if leader, err := s.op.leader(ctx); err != nil || leader == "" {
		return errors.Join(err, errors.New("consul has no leader yet"))
	}
	if err := s.op.EnsureACL(ctx, creds.Keys); err != nil {
		return err
	}
	if creds.Keys.Split {
		if _, err := s.op.HostToken(ctx, s.c.opts.Host, creds.Token); err != nil {
			return err
		}
	}
	if err := s.st.PutKeys(ctx, creds.Keys); err != nil {
		return err
	}
	me := store.Member{
		ID: s.c.opts.Host, Name: s.c.opts.Name, Addr: s.c.addr(), Port: s.c.opts.Port, Key: s.c.keeper.Identity().Fingerprint(),
		Joined: time.Now().UTC(), Role: store.RoleServer, Epoch: creds.Keys.Epoch, Trust: s.c.trusts(),
	}
	if err := s.st.PutMember(ctx, me); err != nil {
		return err
	}
	if s.c.opts.Founded != nil {
		return s.c.opts.Founded(ctx, s.st, creds.Keys)
	}
	return nil
}

// announce tells the segment of the cluster.
func (s *session) announce() {
	s.c.announce(discovery.Member, s.id, s.c.keeper.Credentials().Keys.Locked)
}

// admit serves the cluster's door, which it opens again when it fails.
func (s *session) admit(ctx context.Context) error {
	for ctx.Err() == nil {
		var config net.ListenConfig
		l, err := config.Listen(ctx, "tcp", hostPort(s.c.addr(), s.c.opts.Port))
		if err == nil {
			err = admission.Serve(ctx, l, s.c.keeper, s.st, admission.Options{
				Lifetimes: s.c.opts.Lifetimes, Self: s.c.self, Alive: s.alive, Logger: s.c.log,
				Token: func(ctx context.Context, host string) (store.Secret, error) {
					return s.op.HostToken(ctx, host, store.Secret{})
				},
			})
		}
		if err != nil && ctx.Err() == nil {
			s.c.trouble(fmt.Errorf("hosts can't be admitted here: %w: is --cluster-port free?", err))
			sleep(ctx, retryPause)
		}
	}
	return nil
}

// watch keeps the members as the store has them.
func (s *session) watch(ctx context.Context) error {
	var since uint64
	for ctx.Err() == nil {
		members, index, err := s.st.WatchMembers(ctx, since)
		if err != nil {
			since = 0
			s.mu.Lock()
			if s.silent.IsZero() {
				s.silent = time.Now()
			}
			s.mu.Unlock()
			sleep(ctx, foundPause)
			continue
		}
		since = index
		s.learn(members)
	}
	return nil
}

func (s *session) learn(members []store.Member) {
	s.mu.Lock()
	first := !s.known
	s.members, s.known, s.silent = members, true, time.Time{}
	s.mu.Unlock()
	if first {
		s.c.log.Info("cluster: the store answers", "cluster", s.id, "members", len(members))
	}
	s.c.poke()
}
