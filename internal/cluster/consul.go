package cluster

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/internal/cluster/consulproc"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// operator speaks to this host's own Consul with the most that this host may do: about Raft, gossip, tokens and the process itself,
// never about records.
type operator struct {
	client   *api.Client
	http     *http.Client
	recovery string
	*trust.Operator
}

// askConsul bounds a question to this host's own Consul. It may have to ask the leader.
const askConsul = 4 * time.Second

// newOperator makes an operator. The token is asked for with each request that names none: it changes with the keys and with the
// host's role.
func newOperator(addr string, token func() store.Secret, recovery string, config *tls.Config) (*operator, error) {
	transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}
	o := &operator{recovery: recovery, http: &http.Client{Transport: tokened{transport, token}, Timeout: 2 * askConsul}}
	var err error
	o.client, err = api.NewClient(&api.Config{Address: addr, Scheme: "https", HttpClient: o.http})
	if err != nil {
		return nil, fmt.Errorf("client of this host's Consul: %w", err)
	}
	o.Operator = trust.NewOperator(o.client)
	return o, nil
}

func (o *operator) close() { o.http.CloseIdleConnections() }

// tokened puts the token of the moment on requests that have none.
type tokened struct {
	*http.Transport
	token func() store.Secret
}

// RoundTrip implements http.RoundTripper.
func (t tokened) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("X-Consul-Token") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("X-Consul-Token", t.token().Reveal())
	}
	return t.Transport.RoundTrip(r)
}

// recoveryToken is Consul's acl.tokens.agent_recovery of this host. A server that has just begun knows no tokens until there is a leader, and there is no leader
// until servers that have moved find each other by their gossip: what lets them gossip must not need a token of the cluster.
// It is made of the host's own key, so that nobody else knows it.
func recoveryToken(key []byte) string {
	sum := sha256.Sum256(append([]byte("socketplane agent recovery "), key...))
	return hex.EncodeToString(sum[:])
}

func query(ctx context.Context) *api.QueryOptions { return (&api.QueryOptions{}).WithContext(ctx) }
func write(ctx context.Context) *api.WriteOptions { return (&api.WriteOptions{}).WithContext(ctx) }

// leader is the RPC address of Raft's leader as this host's Consul knows it; "" if there is none.
func (o *operator) leader(ctx context.Context) (string, error) {
	var addr string
	_, err := o.client.Raw().Query("/v1/status/leader", &addr, query(ctx))
	return addr, err
}

// node is a host in Consul's gossip.
type node struct {
	host   string
	alive  bool
	failed bool
	server bool
	addr   string
	port   uint16
}

// nodes are the hosts in this host's view of the gossip, by host id.
func (o *operator) nodes(ctx context.Context) (map[string]node, error) {
	var members []*api.AgentMember
	options := query(ctx)
	options.Token = o.recovery
	if _, err := o.client.Raw().Query("/v1/agent/members", &members, options); err != nil {
		return nil, err
	}
	out := make(map[string]node, len(members))
	for _, m := range members {
		out[m.Name] = node{
			host: m.Name, alive: m.Status == serfAlive, failed: m.Status == serfFailed,
			server: m.Tags["role"] == "consul", addr: m.Addr, port: m.Port,
		}
	}
	return out, nil
}

// States of a node in the gossip, as Serf counts them.
const (
	serfAlive  = 1
	serfFailed = 4
)

// raftPeer is a server of Raft's configuration.
type raftPeer struct {
	id     string
	voter  bool
	leader bool
}

func (o *operator) raft(ctx context.Context) ([]raftPeer, error) {
	config, err := o.client.Operator().RaftGetConfiguration(query(ctx))
	if err != nil {
		return nil, err
	}
	var out []raftPeer
	for _, s := range config.Servers {
		out = append(out, raftPeer{id: s.ID, voter: s.Voter, leader: s.Leader})
	}
	return out, nil
}

func (o *operator) removePeer(ctx context.Context, id string) error {
	return o.client.Operator().RaftRemovePeerByID(id, write(ctx))
}

// join lets this host's Consul gossip with another.
func (o *operator) join(ctx context.Context, addr string) error {
	options := write(ctx)
	options.Token = o.recovery
	_, err := o.client.Raw().Write("/v1/agent/join/"+addr, nil, nil, options)
	return err
}

// forget removes a node that has failed from the gossip.
func (o *operator) forget(host string) error { return o.client.Agent().ForceLeavePrune(host) }

// transfer makes another server Raft's leader.
func (o *operator) transfer(ctx context.Context, id string) error {
	_, err := o.client.Operator().RaftLeaderTransfer(id, query(ctx))
	return err
}

// raftID is the id of a host's server in Raft.
func raftID(host string) string { return consulproc.NodeID(host) }
