package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/cluster"
	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/consulproc"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/operator"
	"github.com/socketplane/socketplane/internal/statedir"
	"github.com/socketplane/socketplane/store"
)

var _ adminapi.ClusterOperator = (*agent)(nil)

// openManaged makes the cluster that hosts form by themselves. It starts with the agent's other parts.
func (a *agent) openManaged(host string) (storage, error) {
	binary, err := consulproc.Find(a.cfg.ConsulBinary)
	if err != nil {
		return storage{}, err
	}
	c, err := cluster.New(cluster.Options{
		Host: host, Name: a.cfg.Name, Addr: a.where().Addr, Dev: a.where().Dev, Port: a.cfg.ClusterPort,
		Dir: filepath.Join(a.cfg.StateDir, statedir.ManagedDir), File: filepath.Join(a.cfg.StateDir, statedir.ClusterFile), Damage: a.damage, Consul: binary, Join: a.cfg.JoinAddresses(), Silent: !a.cfg.Multicast,
		Token: a.joinToken, Locked: a.cfg.JoinTokenFile != "", Founded: a.founded, Grace: a.cfg.ServerGrace, Logger: a.log,
		Farewell: a.farewell, Entered: a.entered,
	})
	if err != nil {
		return storage{}, err
	}
	address := "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(int(a.cfg.ClusterPort)+config.ClusterPorts-1))
	return storage{kv: c.KV(), kind: config.StoreCluster, address: address, managed: c}, nil
}

// entered lets this host say anew to the cluster that it is there: to another one than before, perhaps.
func (a *agent) entered() {
	a.presence.Close()
	a.presence.Open()
	a.resync.Store(true)
}

// joinToken is the token that this host was given; nil if it was given none, or its file is not there yet.
func (a *agent) joinToken() (*trust.Token, error) {
	secret, err := a.cfg.ReadToken(os.ReadFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !secret.IsSet():
		return nil, nil
	}
	t, err := trust.ParseToken(secret.Reveal())
	return &t, err
}

// founded writes a token for the other hosts of a locked cluster to the file that was named, unless there is one.
func (a *agent) founded(ctx context.Context, st *store.Cluster, keys store.Keys) error {
	if !keys.Locked || a.cfg.JoinTokenFile == "" {
		return nil
	}
	if _, err := os.Stat(a.cfg.JoinTokenFile); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t, record, err := trust.NewToken(keys, time.Time{}, 0)
	if err != nil {
		return err
	}
	if err := a.writeToken(t, func() error { return st.CreateToken(ctx, record) }); err != nil {
		return fmt.Errorf("the cluster's token for %s: %w: see that its directory is there and can be written, or give another --join-token-file", a.cfg.JoinTokenFile, err)
	}
	a.log.Info("the cluster is locked: other hosts join with the token in the file", "file", a.cfg.JoinTokenFile)
	return nil
}

// writeToken writes a token to the file that was named, which only root can read. It is recorded when it is on the disk and before the file has its name:
// a file that can't be written is tried again, and must not leave a token each time.
func (a *agent) writeToken(t trust.Token, record func() error) (err error) {
	path := a.cfg.JoinTokenFile
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(t.Text() + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = record(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// managed is the cluster that this agent runs, or why there is none.
func (a *agent) managed() (*cluster.Cluster, error) {
	if a.storage.managed != nil {
		return a.storage.managed, nil
	}
	if a.storage.kind == config.StoreConsul {
		return nil, fmt.Errorf("%w: this host uses the Consul at %s, which SocketPlane does not manage: set --store cluster for a cluster of its own",
			adminapi.ErrConflict, a.storage.address)
	}
	return nil, fmt.Errorf("%w: this host keeps its state in a file, alone: install consul, or give its path with --consul-binary, and restart the agent with --store cluster",
		adminapi.ErrConflict)
}

// clusterSpoken is spoken for errors of the cluster's own.
func clusterSpoken(err error) error {
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

// Cluster tells what this host is in which cluster.
func (a *agent) Cluster(ctx context.Context) (adminapi.ClusterStatus, error) {
	c, err := a.managed()
	if err != nil {
		return adminapi.ClusterStatus{}, err
	}
	st := c.Status()
	out := adminapi.ClusterStatus{ClusterSummary: summaryOf(st), Members: []adminapi.ClusterMemberInfo{}}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	hosts, err := a.cluster.Hosts(ctx)
	if err != nil && st.Cluster != "" {
		out.Trouble = cmp.Or(out.Trouble, err.Error())
	}
	leader, voters := c.Raft(ctx)
	for _, m := range st.Members {
		state := adminapi.ClusterMember
		if m.State == store.StateLeaving {
			state = adminapi.ClusterLeaving
		}
		out.Members = append(out.Members, adminapi.ClusterMemberInfo{
			ID: m.ID, Name: m.Name, Addr: m.Addr, Role: m.Role, State: state, Voter: voters[m.ID], Alive: hosts.Alive[m.ID],
			Leader: m.ID == leader, Version: hosts.Hosts[m.ID].Version, Joined: m.Joined,
		})
	}
	slices.SortFunc(out.Members, func(a, b adminapi.ClusterMemberInfo) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// InitCluster founds a cluster on this host.
func (a *agent) InitCluster(ctx context.Context, r adminapi.InitRequest) error {
	c, err := a.managed()
	if err != nil {
		return err
	}
	return clusterSpoken(c.Init(ctx, r.Locked))
}

// JoinCluster makes this host a member of another host's cluster.
func (a *agent) JoinCluster(ctx context.Context, r adminapi.JoinRequest) error {
	c, err := a.managed()
	if err != nil {
		return err
	}
	var token *trust.Token
	if r.Token != "" {
		t, err := trust.ParseToken(r.Token)
		if err != nil {
			return clusterSpoken(err)
		}
		token = &t
	}
	var addrs []string
	for _, text := range r.Addresses {
		addr, err := config.JoinAddress(text, a.cfg.ClusterPort)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", adminapi.ErrInvalid, text, err)
		}
		addrs = append(addrs, addr)
	}
	return clusterSpoken(c.Join(ctx, addrs, token))
}

// SetLocked closes or opens the cluster.
func (a *agent) SetLocked(ctx context.Context, locked bool) error {
	c, err := a.managed()
	if err != nil {
		return err
	}
	return clusterSpoken(c.SetLocked(ctx, locked))
}

// CreateToken makes a token with which hosts join.
func (a *agent) CreateToken(ctx context.Context, r adminapi.TokenRequest) (adminapi.Token, error) {
	c, err := a.managed()
	if err != nil {
		return adminapi.Token{}, err
	}
	keys, err := a.cluster.Keys(ctx)
	if err != nil {
		return adminapi.Token{}, clusterSpoken(err)
	}
	var expires time.Time
	if r.Lifetime > 0 {
		expires = time.Now().Add(r.Lifetime)
	}
	t, record, err := trust.NewToken(keys, expires, r.Uses)
	if err == nil {
		err = c.CreateToken(ctx, record)
	}
	if err != nil {
		return adminapi.Token{}, clusterSpoken(err)
	}
	out := tokenOf(record)
	out.Created, out.Text = time.Now().UTC(), t.Text()
	return out, nil
}

func tokenOf(t store.JoinToken) adminapi.Token {
	return adminapi.Token{ID: t.ID, Created: t.Made, Expires: t.Expires, Uses: t.Uses, Used: t.Used}
}

// Tokens lists the tokens that can still be used.
func (a *agent) Tokens(ctx context.Context) ([]adminapi.Token, error) {
	if _, err := a.managed(); err != nil {
		return nil, err
	}
	all, err := a.cluster.Tokens(ctx)
	if err != nil {
		return nil, clusterSpoken(err)
	}
	out := []adminapi.Token{}
	for _, t := range all {
		if t.Spent(time.Now()) == nil {
			out = append(out, tokenOf(t))
		}
	}
	slices.SortFunc(out, func(a, b adminapi.Token) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// RemoveToken makes a token useless.
func (a *agent) RemoveToken(ctx context.Context, id string) error {
	c, err := a.managed()
	if err != nil {
		return err
	}
	return clusterSpoken(c.RemoveToken(ctx, id))
}
