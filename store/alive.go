package store

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// AlivePrefix is the prefix of all hosts' signs of life. They do not lie beside the hosts' records, whose watchers they would wake.
const AlivePrefix = Root + "alive/"

// AliveKey is there while the host's agent holds its session.
func AliveKey(id string) string { return AlivePrefix + id }

// formerAlive ends the key that is announced too while the cluster has the first layout: agents that know only that one look there.
const formerAlive = "/alive"

// FormerAliveKey is AliveKey in the first layout.
func FormerAliveKey(id string) string { return HostKey(id) + formerAlive }

// LayoutNow is the layout of the cluster's records as its watcher read it last, 0 while it has not, and what is closed when it is another one. It waits for nothing and is safe
// for concurrent use.
type LayoutNow func() (layout int, changed <-chan struct{})

// Announce is KV.Announce for this host's sign of life, where agents of the cluster's layout look for it. It follows changes of the layout, which now tells.
func (c HostRecords) Announce(ctx context.Context, ttl time.Duration, now LayoutNow) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	ended := make(chan error, 2)
	defer running.Wait()
	defer cancel()
	running.Go(func() { ended <- c.kv.Announce(ctx, AliveKey(c.host), []byte(c.host), ttl) })
	running.Go(func() { ended <- c.announceFormer(ctx, ttl, now) })
	return <-ended
}

// announceFormer announces FormerAliveKey whenever the layout is the first.
func (c *core) announceFormer(ctx context.Context, ttl time.Duration, now LayoutNow) error {
	var former *announcement
	defer func() { former.end() }()
	for {
		layout, changed := now()
		switch {
		case layout == FirstLayout && former == nil:
			former = c.beginFormer(ctx, ttl)
		case layout > FirstLayout:
			former.end()
			former = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-former.lost():
			return former.err
		case <-changed:
		}
	}
}

// WatchLayout is KV.Watch for the layout that records are written in. Its one watcher tells it to all parts of an agent.
func (c HostRecords) WatchLayout(ctx context.Context, since uint64) (layout int, index uint64, err error) {
	entries, index, err := c.kv.Watch(ctx, LayoutKey, since)
	if err != nil {
		return 0, 0, err
	}
	l := Layout{}
	for _, e := range entries {
		if e.Key == LayoutKey {
			if l, err = Decode[Layout](e); err != nil {
				return 0, 0, err
			}
		}
	}
	return min(max(l.Layout, FirstLayout), NewestLayout), index, nil
}

// announcement is one KV.Announce in the background; nil is none.
type announcement struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when err is set
	err    error
}

func (c *core) beginFormer(ctx context.Context, ttl time.Duration) *announcement {
	ctx, cancel := context.WithCancel(ctx)
	a := &announcement{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.err = c.kv.Announce(ctx, FormerAliveKey(c.host), []byte(c.host), ttl)
	}()
	return a
}

// lost is closed when the announcement has ended.
func (a *announcement) lost() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.done
}

func (a *announcement) end() {
	if a != nil {
		a.cancel()
		<-a.done
	}
}

// Alive says whether an agent holds this host's sign of life.
func (c HostRecords) Alive(ctx context.Context) (bool, error) {
	_, alive, err := c.sign(ctx, c.host)
	return alive, err
}

// sign looks for a host's sign of life; check makes a transaction fail when that is another one, or gone.
func (c *core) sign(ctx context.Context, id string) (check Op, alive bool, err error) {
	for _, key := range []string{AliveKey(id), FormerAliveKey(id)} {
		e, err := c.kv.Get(ctx, key)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return Op{Kind: OpCheck, Key: key, Version: e.Version}, err == nil, err
		}
	}
	return Op{}, false, nil
}

// WatchAlive is KV.Watch for the hosts' signs of life at AlivePrefix. Each answer has all of them: only the cluster's janitor watches them.
func (c HostRecords) WatchAlive(ctx context.Context, since uint64) (map[string]bool, uint64, error) {
	entries, index, err := c.kv.Watch(ctx, AlivePrefix, since)
	if err != nil {
		return nil, 0, err
	}
	return membership(entries).Alive, index, nil
}

// aliveHost reads a key of either layout's signs of life.
func aliveHost(key string) (id string, is bool) {
	if id, is = strings.CutPrefix(key, AlivePrefix); is {
		return id, !isPermanent(key)
	}
	return strings.CutSuffix(strings.TrimPrefix(key, HostsPrefix), formerAlive)
}

// notAlive are the operations by which a transaction fails if the host is alive.
func notAlive(id string) []Op {
	return []Op{{Kind: OpCheck, Key: AliveKey(id)}, {Kind: OpCheck, Key: FormerAliveKey(id)}}
}
