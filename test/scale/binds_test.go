package scale

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
)

// bindEach is how many endpoints each host has that binds a network.
const bindEach = 3

// asked is a store whose requests are counted.
type asked struct {
	store.KV
	reads, writes *atomic.Int64
}

// Get implements store.KV.
func (a asked) Get(ctx context.Context, key string) (store.Entry, error) {
	a.reads.Add(1)
	return a.KV.Get(ctx, key)
}

// List implements store.KV.
func (a asked) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	a.reads.Add(1)
	return a.KV.List(ctx, prefix)
}

// Apply implements store.KV.
func (a asked) Apply(ctx context.Context, ops ...store.Op) error {
	a.writes.Add(1)
	return a.KV.Apply(ctx, ops...)
}

// measureBinds lets many hosts, as records, bind one network at the same time, on three Consul servers.
func measureBinds(t *testing.T, hosts int) *Binds {
	servers := testenv.Consuls(t, 3)
	b := &Binds{Hosts: hosts}
	var reads, writes atomic.Int64
	var all []*peer
	for i := range hosts {
		kv, err := consul.Open(consul.Options{Address: servers[i%len(servers)]})
		if err != nil {
			t.Fatal(err)
		}
		defer kv.Close()
		all = append(all, (&peers{kv: asked{kv, &reads, &writes}}).peer(i))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := all[0].c.BeginLayout(ctx); err != nil {
		t.Fatal(err)
	}
	at := func(do func(o *peer) error) (seconds float64) {
		began := time.Now()
		var g errgroup.Group
		for _, o := range all {
			g.Go(func() error { return do(o) })
		}
		if err := g.Wait(); err != nil && b.Failed == "" {
			b.Failed = err.Error()
		}
		return time.Since(began).Seconds()
	}
	b.Start = at(func(o *peer) error { return o.begin(ctx) })
	reads.Store(0)
	writes.Store(0)
	b.Seconds = at(func(o *peer) error { return o.join(ctx, bindEach) })
	b.Reads, b.Writes = float64(reads.Load())/float64(hosts), float64(writes.Load())/float64(hosts)
	b.Plain = at(func(o *peer) error { return o.plain(ctx, int(b.Reads+0.5), int(b.Writes+0.5)) })
	t.Logf("%d hosts start in %.1f s, and bind in %.1f s with %.1f reads and %.1f writes each; as many plain ones: %.1f s", hosts, b.Start, b.Seconds, b.Reads, b.Writes, b.Plain)
	return b
}

// plain writes a key of its own so often, and reads it.
func (o *peer) plain(ctx context.Context, reads, writes int) error {
	kv, key := o.c.KV(), fmt.Sprintf("%splain/%d", store.Root, o.number)
	for range writes {
		if err := kv.Apply(ctx, store.Op{Kind: store.OpPut, Key: key, Value: []byte(store.NewNonce())}); err != nil {
			return fmt.Errorf("plain write of host %d: %w", o.number, err)
		}
	}
	for range reads {
		if _, err := kv.Get(ctx, key); err != nil {
			return fmt.Errorf("plain read of host %d: %w", o.number, err)
		}
	}
	return nil
}
