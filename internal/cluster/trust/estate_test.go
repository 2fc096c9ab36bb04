package trust_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/internal/cluster/consulproc"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// node is one host: its keys, and a real Consul process that runs with them.
type node struct {
	t      *testing.T
	ctx    context.Context
	id     string
	keeper *trust.Keeper
	dir    string
	proc   *consulproc.Process
	spec   consulproc.Spec
	http   *http.Client
	stop   func()
}

// newNode makes a host with a loopback address of its own.
func newNode(t *testing.T, ctx context.Context, n int) *node {
	t.Helper()
	nd := &node{t: t, ctx: ctx, id: fmt.Sprintf("%016x", n), keeper: open(t, t.TempDir()), dir: filepath.Join(t.TempDir(), "consul")}
	addr := netip.AddrFrom4([4]byte{127, 77, byte(n), 1})
	nd.spec = consulproc.Spec{Host: nd.id, Datacenter: trust.Datacenter, Addr: addr,
		Ports: consulproc.Ports{RPC: 24781, Gossip: 24782, HTTPS: freePort(t)}}
	return nd
}

func (n *node) subject() trust.Subject { return trust.Subject{ID: n.id, Addr: n.spec.Addr} }

func (n *node) wants(c trust.Credentials) {
	n.spec.CA, n.spec.Cert, n.spec.Key = c.Bundle(), c.Cert, n.keeper.Identity().KeyPEM()
	n.spec.AgentToken, n.spec.ManagementToken = c.ProcessToken().Reveal(), c.Keys.ManagementToken().Reveal()
	n.spec.GossipKeys = nil
	for _, g := range c.Keys.Gossip {
		n.spec.GossipKeys = append(n.spec.GossipKeys, g.Reveal())
	}
	spec := n.spec
	n.proc.Set(&spec)
}

// start runs Consul with the node's credentials, which joins others; it ends with the test.
func (n *node) start(join ...*node) {
	n.t.Helper()
	binary, err := testenv.ConsulBinary()
	if err != nil {
		testenv.Missing(n.t, err.Error())
	}
	n.spec.Server, n.spec.Bootstrap = len(join) == 0, len(join) == 0
	for _, o := range join {
		n.spec.Join = append(n.spec.Join, netip.AddrPortFrom(o.spec.Addr, o.spec.Ports.Gossip).String())
	}
	n.proc = consulproc.New(consulproc.Options{Binary: binary, Dir: n.dir, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.proc.Run(ctx) }()
	n.wants(n.keeper.Credentials())
	n.stop = sync.OnceFunc(func() {
		n.proc.Set(nil)
		n.until("Consul ends", func() bool { return !n.proc.Status().Running })
		cancel()
		if err := <-done; err != nil {
			n.t.Error(err)
		}
		if n.http != nil {
			n.http.CloseIdleConnections()
		}
		if n.t.Failed() {
			n.t.Logf("Consul of %s:\n%s", n.id, testenv.TailFile(filepath.Join(n.dir, "consul.log"), 30))
		}
	})
	n.t.Cleanup(n.stop)
}

// reload is the node's part when its credentials change.
func (n *node) reload(ctx context.Context, c trust.Credentials) error {
	n.wants(c)
	return testenv.Poll(ctx, 20*time.Millisecond, func() bool { return n.proc.Status().Agrees })
}

// managing puts the node's management token of the moment on requests.
type managing struct {
	*http.Transport
	keeper *trust.Keeper
}

func (m managing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.Header.Get("X-Consul-Token") == "" {
		r.Header.Set("X-Consul-Token", m.keeper.Credentials().OperatorToken().Reveal())
	}
	return m.Transport.RoundTrip(r)
}

// client speaks to the node's own Consul with the node's TLS, or with another one; without a token as its operator.
func (n *node) client(token store.Secret, config *tls.Config) *api.Client {
	n.t.Helper()
	tr := &http.Transport{TLSClientConfig: config}
	n.t.Cleanup(tr.CloseIdleConnections)
	h := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	if token.Reveal() == "" {
		h.Transport = managing{tr, n.keeper}
	}
	c, err := api.NewClient(&api.Config{Address: fmt.Sprintf("127.0.0.1:%d", n.spec.Ports.HTTPS), Scheme: "https", Token: token.Reveal(), HttpClient: h})
	must(n.t, err)
	return c
}

func (n *node) until(what string, ready func() bool) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), consulPatience)
	defer cancel()
	if err := testenv.Poll(ctx, 50*time.Millisecond, ready); err != nil {
		n.t.Fatalf("%s: %v", what, err)
	}
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// estate is a cluster of one server and two clients, and the records of its keys and members.
type estate struct {
	t     *testing.T
	ctx   context.Context
	nodes []*node
	kv    store.KV
	op    *trust.Operator
}

func newEstate(t *testing.T) *estate {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), estatePatience)
	t.Cleanup(cancel)
	kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
	must(t, err)
	t.Cleanup(func() { _ = kv.Close() })
	e := &estate{t: t, ctx: ctx, kv: kv}
	for i := range 3 {
		n := newNode(t, ctx, i+1)
		var c trust.Credentials
		if i == 0 {
			c, err = trust.Found(n.keeper.Identity(), n.subject(), false, trust.Lifetimes{}, time.Now())
			must(t, err)
			must(t, e.cluster(n).PutKeys(ctx, c.Keys))
		} else {
			c = e.issue(n)
		}
		must(t, n.keeper.Set(c))
		e.nodes = append(e.nodes, n)
		must(t, e.cluster(n).PutMember(ctx, store.Member{ID: n.id, Key: n.keeper.Identity().Fingerprint(), Epoch: c.Keys.Epoch, Trust: store.TrustLeaf}))
		if i > 0 {
			n.start(e.nodes[0])
			continue
		}
		n.start()
		e.op = trust.NewOperator(n.client(store.Secret{}, n.keeper.ConsulTLS()))
		n.until("the ACLs are made", func() bool {
			_, err := e.op.HostToken(ctx, n.id, c.Token)
			return err == nil && e.op.EnsureACL(ctx, c.Keys) == nil
		})
	}
	for _, n := range e.nodes {
		n.until("a host's token writes", func() bool { return n.write("ready") == nil })
	}
	return e
}

func (e *estate) cluster(n *node) *store.Cluster { return store.NewCluster(e.kv, n.id) }

// up are all hosts.
func (e *estate) up() map[string]bool {
	up := map[string]bool{}
	for _, n := range e.nodes {
		up[n.id] = true
	}
	return up
}

// issue gives a host what admission would.
func (e *estate) issue(n *node) trust.Credentials {
	e.t.Helper()
	keys, err := store.NewCluster(e.kv, "admission").AllKeys(e.ctx)
	must(e.t, err)
	subject := n.subject()
	subject.Client = true
	cert, err := trust.Issue(keys, subject, n.keeper.Identity().Public(), 90*24*time.Hour, time.Now())
	must(e.t, err)
	token, err := e.op.HostToken(e.ctx, n.id, store.Secret{})
	must(e.t, err)
	return trust.Credentials{Keys: keys.Public(), Cert: cert, Token: token}
}

// write writes one of our keys through the node's Consul.
func (n *node) write(key string) error {
	if n.http == nil {
		n.http = &http.Client{Transport: &http.Transport{TLSClientConfig: n.keeper.ConsulTLS()}, Timeout: 10 * time.Second}
	}
	c, err := api.NewClient(&api.Config{Address: fmt.Sprintf("127.0.0.1:%d", n.spec.Ports.HTTPS), Scheme: "https",
		Token: n.keeper.Credentials().StoreToken().Reveal(), HttpClient: n.http})
	if err != nil {
		return err
	}
	_, err = c.KV().Put(&api.KVPair{Key: "socketplane/v1/test/" + key, Value: []byte(n.id)}, nil)
	return err
}

// ways are a node's: the first is the server.
func (e *estate) ways(n *node) trust.Ways {
	return trust.Ways{
		Host: func() trust.Subject {
			subject := n.subject()
			subject.Client = n != e.nodes[0]
			return subject
		},
		Token: func(ctx context.Context, _ store.Keys) (store.Secret, error) {
			return e.op.HostToken(ctx, n.id, store.Secret{})
		},
		Ask: func(context.Context) (trust.Credentials, error) { return e.issue(n), nil },
		Confirm: func(ctx context.Context, epoch uint64) error {
			return e.cluster(n).UpdateMember(ctx, n.id, func(m *store.Member) error { m.Epoch = epoch; return nil })
		},
		Reload: n.reload,
	}
}

// rotate lets everybody follow while a rotation goes from beginning to end.
func (e *estate) rotate() store.Keys {
	e.t.Helper()
	ctx, cancel := context.WithCancel(e.ctx)
	var all sync.WaitGroup
	for _, n := range e.nodes {
		all.Go(func() {
			_ = n.keeper.NewFollower(e.cluster(n), e.ways(n), slog.New(slog.DiscardHandler)).Run(ctx)
		})
	}
	defer all.Wait()
	defer cancel()
	cluster := e.cluster(e.nodes[0])
	before, err := cluster.UpdateKeys(ctx, func(k *store.Keys) (bool, error) { k.Rotate = true; return true, nil })
	must(e.t, err)
	rotator := trust.NewRotator(cluster, e.op, trust.Lifetimes{}, slog.New(slog.DiscardHandler))
	var keys store.Keys
	e.nodes[0].until("the rotation ends", func() bool {
		if err := rotator.Advance(ctx, e.up(), time.Now()); err != nil {
			e.t.Errorf("advance: %v", err)
		}
		keys, err = cluster.AllKeys(ctx)
		must(e.t, err)
		return keys.Epoch == before.Epoch+3 && keys.Phase == store.PhaseNone && !keys.Rotate
	})
	e.nodes[0].until("everybody has followed", func() bool {
		must(e.t, rotator.Advance(ctx, e.up(), time.Now()))
		members, err := cluster.Members(ctx)
		must(e.t, err)
		return !slices.ContainsFunc(members, func(m store.Member) bool { return m.Epoch != keys.Epoch })
	})
	return keys
}
