package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/socketplane/socketplane/internal/cluster"
	"github.com/socketplane/socketplane/internal/cluster/consulproc"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/statedir"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
	"github.com/socketplane/socketplane/store/consul"
)

// schemaTimeout is how long a start waits to know the schema of the cluster's data. A store that does not answer by then is asked
// again before its first use.
const schemaTimeout = 500 * time.Millisecond

// guardCluster keeps the cluster's data from an agent that is too old for it. The error is that it is. A cluster that the agent runs itself
// may become another one, and guards each.
func guardCluster(ctx context.Context, s *storage) error {
	if s.managed != nil {
		return nil
	}
	s.kv = store.Guarded(s.kv, fmt.Sprintf("the cluster's data (%s at %s)", s.kind, s.address), store.SchemaKey, store.Migrations())
	ctx, cancel := context.WithTimeout(ctx, schemaTimeout)
	defer cancel()
	if _, err := s.kv.Get(ctx, store.SchemaKey); errors.Is(err, store.ErrNewer) {
		return err
	}
	return nil
}

// storage is where the cluster's state is.
type storage struct {
	kv      store.KV
	kind    config.StoreKind
	address string
	managed *cluster.Cluster // nil unless this agent runs the cluster's Consul
	// redial gives up connections from addresses that this host has lost; nil where there are none.
	redial func() (int, error)
}

const (
	consulDefault = "127.0.0.1:8500"
	probeTimeout  = time.Second
)

// openCluster opens the cluster's store. With "auto" that is Consul if an address is set or
// one answers on this host, else the cluster that hosts form by themselves where there is a consul program, else a file; a
// host stays with the cluster that it has used once, lest it begin a life of its own when that is late.
func (a *agent) openCluster(ctx context.Context, host string) (storage, error) {
	cfg := a.cfg
	kind := cfg.Store
	if kind == config.StoreAuto {
		var err error
		if kind, err = chooseStore(ctx, cfg, a.local); err != nil {
			return storage{}, err
		}
	}
	if err := a.local.Apply(ctx, store.Op{Kind: store.OpPut, Key: store.LocalStoreKindKey, Value: []byte(kind)}); err != nil {
		return storage{}, err
	}
	switch kind {
	case config.StoreCluster:
		return a.openManaged(host)
	case config.StoreConsul:
		kv, err := consul.Open(consul.Options{Address: cfg.ConsulAddr, Token: consul.Token(cfg.ConsulToken.Reveal())})
		if err != nil {
			return storage{}, err
		}
		return storage{kv: kv, kind: kind, address: consulAddress(cfg), redial: kv.Redial}, nil
	default:
		path := filepath.Join(cfg.StateDir, statedir.ClusterFile)
		kv, err := bolt.Open(path, bolt.Options{Damage: a.damage})
		if err != nil {
			return storage{}, err
		}
		a.opened = append(a.opened, doctor.Opened(path)...)
		return storage{kv: kv, kind: kind, address: path}, nil
	}
}

func consulAddress(cfg config.Config) string {
	return cmp.Or(cfg.ConsulAddr, os.Getenv("CONSUL_HTTP_ADDR"), consulDefault)
}

func chooseStore(ctx context.Context, cfg config.Config, local store.KV) (config.StoreKind, error) {
	if cfg.ConsulAddr != "" || os.Getenv("CONSUL_HTTP_ADDR") != "" {
		return config.StoreConsul, nil
	}
	e, err := local.Get(ctx, store.LocalStoreKindKey)
	if err == nil && config.StoreKind(e.Value) != config.StoreBolt {
		return config.StoreKind(e.Value), nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	dialer := net.Dialer{Timeout: probeTimeout}
	if conn, err := dialer.DialContext(ctx, "tcp", consulDefault); err == nil {
		return config.StoreConsul, conn.Close()
	}
	_, err = consulproc.Find(cfg.ConsulBinary)
	switch {
	case err == nil:
		return config.StoreCluster, nil
	case cfg.ConsulBinary != "" || cfg.Join != "":
		return "", err // it was asked for
	}
	return config.StoreBolt, nil // alone
}
