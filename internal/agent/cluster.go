package agent

import (
	"context"
	"net"
	"path/filepath"
	"strconv"

	"github.com/socketplane/socketplane/internal/cluster"
	"github.com/socketplane/socketplane/internal/cluster/consulproc"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/membership"
	"github.com/socketplane/socketplane/internal/statedir"
)

// openManaged makes the cluster that hosts form by themselves. It starts with the agent's other parts.
func (a *agent) openManaged(host string) (storage, error) {
	binary, err := consulproc.Find(a.cfg.ConsulBinary)
	if err != nil {
		return storage{}, err
	}
	tokens := membership.TokenFile{Config: a.cfg, Logger: a.log}
	c, err := cluster.New(cluster.Options{
		Host: host, Name: a.cfg.Name, Addr: a.where().Addr, Dev: a.where().Dev, Port: a.cfg.ClusterPort,
		Dir: filepath.Join(a.cfg.StateDir, statedir.ManagedDir), File: filepath.Join(a.cfg.StateDir, statedir.ClusterFile), Damage: a.damage, Consul: binary, Join: a.cfg.JoinAddresses(), Silent: !a.cfg.Multicast,
		Token: tokens.Token, Locked: a.cfg.JoinTokenFile != "", Founded: tokens.Founded, Grace: a.cfg.ServerGrace, Logger: a.log,
		Farewell: a.farewell, Entered: a.entered,
	})
	if err != nil {
		return storage{}, err
	}
	address := "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(int(a.cfg.ClusterPort)+config.ClusterPorts-1))
	return storage{kv: c.KV(), kind: config.StoreCluster, address: address, managed: c}, nil
}

// entered announces this host again, and writes its record: the cluster may be another one than before.
func (a *agent) entered() {
	a.member.Close()
	a.member.Open()
	a.resync.Store(true)
}

// farewell ends this host's announcement, so that its record is not written again, and then removes its records from the cluster.
func (a *agent) farewell(ctx context.Context, force bool) error {
	a.member.Close()
	f := membership.Farewell{Cluster: a.cluster, Driver: a.driver}
	if a.docker != nil { // else it would be an interface with nil in it
		f.Docker = a.docker
	}
	return f.Say(ctx, force)
}
