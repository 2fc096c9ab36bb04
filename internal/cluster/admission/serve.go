package admission

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// Bounds of the server.
const (
	// askTime is for who connects and says nothing, or too slowly.
	askTime = 5 * time.Second
	// decideTime bounds what the store takes; a failover of Consul's fits in.
	decideTime = 9 * time.Second
	writeTime  = 5 * time.Second
)

// Options of Serve.
type Options struct {
	// Lifetimes are those of the certificates that are issued.
	Lifetimes trust.Lifetimes
	// Self is what other hosts have to know of this one.
	Self func() trust.Peer
	// Alive gives where the gossip finds hosts alive, by id; nil if that is not looked at.
	Alive func(ctx context.Context) (map[string]netip.AddrPort, error)
	// Token gives the Consul token of the host with this id, and makes it if there is none.
	Token  func(ctx context.Context, host string) (store.Secret, error)
	Logger *slog.Logger
}

// server is a running Serve.
type server struct {
	keeper  *trust.Keeper
	cluster *store.Cluster
	opts    Options
	log     *slog.Logger
	limit   *limiter
}

// Serve admits hosts on l until ctx ends; l is closed then. It answers whoever connects, at most as often as its limits
// say, and logs who was refused and why. A host that holds no keys can answer nothing: it connects who asks with a server.
func Serve(ctx context.Context, l net.Listener, keeper *trust.Keeper, cluster *store.Cluster, opts Options) error {
	s := &server{keeper: keeper, cluster: cluster, opts: opts, log: opts.Logger, limit: newLimiter()}
	s.opts.Lifetimes = s.opts.Lifetimes.Complete()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	pause := time.Duration(0)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("admission: %w", err)
		case err != nil:
			// Out of file descriptors, most likely: that passes.
			if pause == 0 {
				s.log.Warn("admission: no connection can be accepted; it is tried again", "err", err)
			}
			pause = min(max(2*pause, 10*time.Millisecond), time.Second)
			wait(ctx, pause)
			continue
		}
		pause = 0
		from := addrOf(conn)
		visit, why := s.limit.enter(from, time.Now())
		if why != "" {
			_ = conn.Close()
			s.noise(from, "it is turned away for now", errors.New(why))
			continue
		}
		conns.Go(func() {
			defer s.limit.leave(visit)
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
			defer stop()
			s.handle(ctx, conn, visit)
		})
	}
}

// asker is who asks.
type asker struct {
	ask
	from   netip.Addr
	public *ecdsa.PublicKey
	key    string // the public key's fingerprint
}

// handle has one question and one answer.
func (s *server) handle(ctx context.Context, raw net.Conn, visit *visit) {
	from := visit.from
	_ = raw.SetDeadline(time.Now().Add(askTime))
	raw, origin, err := s.origin(raw, from)
	if err != nil {
		s.noise(from, "it did not begin a TLS handshake", err)
		return
	}
	relayed := origin.IsValid()
	if mine := s.keeper.Credentials(); mine.Keys.Split && !mine.Keys.Private() {
		if relayed {
			return // who relays takes this host for a server, and asks another one next
		}
		if why := s.limit.relay(visit); why != "" {
			s.noise(from, "it is turned away for now", errors.New(why))
		} else if err := relay(ctx, raw, from, mine.Peers); err != nil {
			s.noise(from, "it could not be connected with a server", err)
		}
		return
	}
	if relayed {
		if why := s.limit.relayed(visit, origin, time.Now()); why != "" {
			s.noise(from, "a question that it relays is turned away for now", errors.New(why))
			return
		}
		from = origin
	}
	conn := tls.Server(raw, s.keeper.AdmissionServerTLS())
	if err = conn.HandshakeContext(ctx); err != nil {
		s.noise(from, "it did not finish the TLS handshake", err)
		return
	}
	who := asker{from: from}
	creds, err := s.hear(ctx, conn, &who)
	a := answer{Version: version}
	switch {
	case err != nil:
		a.Refused = s.refusal(who, err)
	case who.Do != "":
		a.Done = true
	default:
		a.Credentials = creds.Reveal()
	}
	_ = conn.SetDeadline(time.Now().Add(writeTime))
	if err := errors.Join(json.NewEncoder(conn).Encode(a), conn.CloseWrite()); err != nil {
		// A host that does not hear its answer asks again.
		s.noise(from, "it did not take its answer", err)
		return
	}
	if a.Credentials != nil {
		s.log.Info("host admitted", "peer", from, "host", who.Host.ID, "name", who.Host.Name, "key", who.key, "again", who.Again)
	}
}

// hear reads the question and decides.
func (s *server) hear(ctx context.Context, conn *tls.Conn, who *asker) (trust.Credentials, error) {
	public, ok := conn.ConnectionState().PeerCertificates[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return trust.Credentials{}, refuse(CodeBadRequest, "the host's key is not an ECDSA key (P-256)")
	}
	who.public, who.key = public, trust.Fingerprint(public)
	var err error
	if who.ask, err = readAsk(conn); err != nil {
		return trust.Credentials{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, decideTime)
	defer cancel()
	return s.decide(ctx, *who)
}

// decide admits the host, or says why not.
func (s *server) decide(ctx context.Context, who asker) (trust.Credentials, error) {
	mine := s.keeper.Credentials()
	if who.Cluster != "" && who.Cluster != mine.Cluster() {
		return trust.Credentials{}, refuse(CodeOtherCluster, "the host that was asked is of cluster %s, not of %s: to unite them, run 'socketplane cluster leave' and 'socketplane cluster join' on the hosts of one of them", mine.Cluster(), who.Cluster)
	}
	if err := s.misplaced(ctx, who); err != nil {
		return trust.Credentials{}, err
	}
	if who.Do != "" {
		return trust.Credentials{}, s.act(ctx, who)
	}
	member, keys, err := s.admit(ctx, who)
	if errors.Is(err, store.ErrUnavailable) {
		// Without a majority nobody new is admitted, but a member that missed a rotation may be what the majority lacks.
		if p, known := knows(mine, who); known {
			return s.credentials(mine.Keys, who, p.Server, append(slices.Clone(mine.Peers), s.opts.Self()))
		}
	}
	if err != nil {
		return trust.Credentials{}, err
	}
	members, err := s.cluster.Members(ctx)
	if err != nil {
		return trust.Credentials{}, err
	}
	creds, err := s.credentials(keys, who, member.Role == store.RoleServer, trust.Peers(members, member.ID))
	if err == nil && keys.Split {
		creds.Token, err = s.opts.Token(ctx, member.ID)
	}
	return creds, err
}

// maxMembers bounds what an open cluster can be filled with.
const maxMembers = 1000

// admit makes the host a member in the store, or finds that it is one.
func (s *server) admit(ctx context.Context, who asker) (store.Member, store.Keys, error) {
	h := who.Host
	if !who.Again {
		members, err := s.cluster.Members(ctx)
		if err != nil {
			return store.Member{}, store.Keys{}, err
		}
		if len(members) >= maxMembers && !slices.ContainsFunc(members, func(m store.Member) bool { return m.ID == h.ID }) {
			return store.Member{}, store.Keys{}, refuse(CodeFull, "the cluster has %d hosts, and admits no more: remove those that are gone with 'socketplane host rm'", len(members))
		}
	}
	return s.cluster.Admit(ctx, store.Candidate{
		Member: store.Member{ID: h.ID, Name: h.Name, Addr: h.Addr, Port: h.Port, Key: who.key, Trust: who.Trust, Epoch: who.Epoch},
		Token:  who.Token, Secret: store.NewSecret(who.Secret), Again: who.Again,
	})
}

// credentials are what the host gets: all keys if it is a server, or if members of this cluster hold them all, else what a
// member needs.
func (s *server) credentials(keys store.Keys, who asker, serves bool, peers []trust.Peer) (trust.Credentials, error) {
	if keys.Split && who.Trust < store.TrustLeaf {
		return trust.Credentials{}, store.ErrOldAgent
	}
	peers = slices.DeleteFunc(slices.Clone(peers), func(p trust.Peer) bool { return p.ID == who.Host.ID || p.ID == "" })
	subject := trust.Subject{ID: who.Host.ID, Addr: who.Host.Addr, Client: keys.Split && !serves}
	cert, err := trust.Issue(keys, subject, who.public, s.opts.Lifetimes.Leaf, time.Now())
	if subject.Client {
		keys = keys.Public()
	}
	return trust.Credentials{Keys: keys, Cert: cert, Peers: peers}, err
}

// knows finds the host among the members that this one last heard of.
func knows(mine trust.Credentials, who asker) (trust.Peer, bool) {
	i := slices.IndexFunc(mine.Peers, func(p trust.Peer) bool { return p.ID == who.Host.ID && p.Key == who.key })
	if i < 0 {
		return trust.Peer{}, false
	}
	return mine.Peers[i], true
}

// refusal logs why a host was refused (the same once a minute), and gives what it is told: one sentence that says nothing of the cluster.
func (s *server) refusal(who asker, err error) *refusal {
	r := reason(err)
	if times, log := s.limit.repeated(who.key+" "+who.Token+" "+string(r.Code), time.Now()); log {
		s.log.Warn("host refused", "peer", who.from, "host", who.Host.ID, "name", who.Host.Name, "key", who.key,
			"token", who.Token, "code", string(r.Code), "reason", err, "times", times)
	}
	return &refusal{Code: r.Code, Text: r.Text}
}

// reason is what the host is told.
func reason(err error) *Refused {
	var r *Refused
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, store.ErrLocked):
		return refuse(CodeLocked, "the cluster is locked: get a token with 'socketplane cluster token create' on one of its hosts, and join with it")
	case errors.Is(err, store.ErrTokenExpired):
		return refuse(CodeTokenExpired, "the token has expired: get a new one with 'socketplane cluster token create' on a host of the cluster")
	case errors.Is(err, store.ErrTokenSpent):
		return refuse(CodeTokenSpent, "the token was used as often as it may be: get a new one with 'socketplane cluster token create' on a host of the cluster")
	case errors.Is(err, store.ErrTokenUnknown):
		return refuse(CodeToken, "the cluster does not know this token: it was removed, or not copied whole")
	case errors.Is(err, store.ErrOtherKey):
		return refuse(CodeOtherKey, "the cluster has a host with this id and another key: remove that one with 'socketplane host rm' on a host of the cluster, or empty this host's state directory to give it an id of its own")
	case errors.Is(err, store.ErrNotMember):
		return refuse(CodeNotMember, "the cluster has no such host, it was removed: join as a new one with 'socketplane cluster join'")
	case errors.Is(err, store.ErrOldAgent):
		return refuse(CodeOldAgent, "the host's socketplane is too old for this cluster: upgrade it")
	case errors.Is(err, store.ErrInvalid):
		return refuse(CodeBadRequest, "what the host says of itself can't be recorded: are both hosts of the same version of socketplane?")
	default:
		return refuse(CodeNotNow, "the cluster can admit nobody at the moment (it may have no leader): try again")
	}
}

// noise logs, now and then for each peer, what is no question: a port scan, a broken network.
func (s *server) noise(from netip.Addr, what string, err error) {
	if s.limit.say(from, time.Now()) {
		s.log.Warn("admission: a peer was not served", "peer", from, "reason", what, "err", err)
	}
}

func addrOf(conn net.Conn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
