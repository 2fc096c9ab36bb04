package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// carried is appended to the name of a file whose networks a cluster has now. It is kept: nothing else has its former state.
const carried = ".imported"

// openCarry opens the file of networks that this host has and no cluster does, if there is one.
func (c *Cluster) openCarry() error {
	if c.opts.File == "" {
		return nil
	}
	if _, err := os.Stat(c.opts.File); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	kv, err := bolt.Open(c.opts.File, bolt.Options{Damage: c.opts.Damage})
	if err != nil {
		return err
	}
	c.setCarry(store.Guarded(kv, "this host's networks in "+c.opts.File, store.SchemaKey, store.Migrations()))
	return nil
}

func (c *Cluster) setCarry(kv store.KV) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.carry = kv
}

func (c *Cluster) carrying() store.KV {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.carry
}

// rest is what the store is while this host is in no cluster: its file, if it has one, else nothing, for this reason.
func (c *Cluster) rest(why string) {
	if kv := c.carrying(); kv != nil {
		c.kv.open(kv)
		return
	}
	c.kv.shut(why)
}

// fits says whether this agent knows the schema of the cluster's data. It takes nothing there, and uses nothing, if it does not.
func (s *session) fits(ctx context.Context) error {
	_, err := s.guarded.Get(ctx, store.SchemaKey)
	if errors.Is(err, store.ErrNewer) && s.c.carrying() == nil {
		s.c.kv.shut(err.Error())
	}
	return err
}

// bring takes the networks of this host's file along to the cluster. An error that wraps store.ErrCollides means that it can't be, and
// that nothing has changed.
func (s *session) bring(ctx context.Context) error {
	kv := s.c.carrying()
	if kv == nil {
		return nil
	}
	s.c.kv.shut("this host takes its networks along to the cluster")
	done, err := s.st.Import(ctx, kv)
	if err != nil {
		return fmt.Errorf("this host's networks can't be taken along: %w", err)
	}
	names := make([]string, 0, len(done.Networks))
	for _, n := range done.Networks {
		names = append(names, n.Title())
	}
	s.c.log.Info("cluster: this host's networks are taken along", "cluster", s.id, "networks", names, "gave_way", done.GaveWay)
	s.c.setCarry(nil)
	crashpoint.Hit("networks taken along: put their file aside")
	err = errors.Join(kv.Close(), os.Rename(s.c.opts.File, s.c.opts.File+carried))
	crashpoint.Hit("networks taken along: put aside")
	if err != nil {
		return fmt.Errorf("this host's networks: %w", err)
	}
	return nil
}

// pack writes all that this host has in a cluster of which it is the only member into its file.
func (s *session) pack(ctx context.Context) (err error) {
	path := s.c.opts.File
	if path == "" {
		return fmt.Errorf("%w: there is no place for this host's networks", store.ErrInvalid)
	}
	s.c.kv.shut("this host moves to another cluster")
	defer func() {
		if err != nil {
			s.c.kv.open(s.guarded)
		}
	}()
	entries, err := s.kv.List(ctx, store.Root)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e store.Entry) bool {
		return strings.HasPrefix(e.Key, store.MembersPrefix) || strings.HasPrefix(e.Key, store.TokensPrefix) ||
			strings.HasPrefix(e.Key, store.HostsPrefix) || strings.HasPrefix(e.Key, store.AlivePrefix) || strings.HasPrefix(e.Key, store.HostHeadsPrefix) ||
			strings.HasPrefix(e.Key, store.HostShardsPrefix) || e.Key == store.JanitorKey || e.Key == store.ClusterKeysKey || e.Key == store.ClusterPrivateKey
	})
	fresh := path + ".new"
	crashpoint.Hit("networks to take along: remove half a file")
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	kv, err := bolt.Open(fresh, bolt.Options{})
	if err != nil {
		return err
	}
	for _, e := range entries {
		crashpoint.Hit("networks to take along: write one")
		if err = kv.Apply(ctx, store.Op{Kind: store.OpPut, Key: e.Key, Value: e.Value}); err != nil {
			return errors.Join(err, kv.Close())
		}
	}
	crashpoint.Hit("networks to take along: name the file")
	if err := errors.Join(kv.Close(), os.Rename(fresh, path)); err != nil {
		return err
	}
	crashpoint.Hit("networks to take along: all written")
	return s.c.openCarry()
}
