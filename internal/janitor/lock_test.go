package janitor

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
)

// patience bounds what a test waits for; only one that fails waits so long.
const patience = 90 * time.Second

// asked counts how often a host asked who is alive.
type asked struct {
	store.KV
	alive atomic.Int64
}

func (a *asked) Watch(ctx context.Context, prefix string, since uint64) ([]store.Entry, uint64, error) {
	if prefix == store.AlivePrefix {
		a.alive.Add(1)
	}
	return a.KV.Watch(ctx, prefix, since)
}

// janitorHost is a host with a janitor that runs while the host's agent does.
type janitorHost struct {
	kv      *asked
	cluster *store.Cluster
	end     func() // stops the agent
}

// begin runs a host's agent, as far as the janitor needs one.
func begin(t *testing.T, ctx context.Context, kv store.KV, id string, expiry time.Duration) *janitorHost {
	t.Helper()
	own := &asked{KV: kv}
	c := store.NewCluster(own, id)
	if err := c.PutHost(ctx, store.Host{Name: id}); err != nil {
		t.Fatal(err)
	}
	j := New(c, Options{Expiry: expiry, Grace: time.Second, Members: func() (store.Membership, bool) {
		members, err := c.Hosts(ctx)
		members.Alive = nil // the roster does not know it
		return members, err == nil
	}})
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			if err := c.Announce(ctx, 10*time.Second, func() (int, <-chan struct{}) { return store.NewestLayout, nil }); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrConflict) {
				t.Errorf("announce %s: %v", id, err)
			}
		}
	})
	running.Go(func() { _ = j.Run(ctx) })
	h := &janitorHost{own, c, func() { cancel(); running.Wait() }}
	t.Cleanup(h.end)
	return h
}

// holder is the host that has the lock.
func holder(t *testing.T, ctx context.Context, kv store.KV) string {
	t.Helper()
	e, err := kv.Get(ctx, store.JanitorKey)
	if errors.Is(err, store.ErrNotFound) {
		return ""
	}
	r, bad := store.Decode[struct {
		Host string `json:"host"`
	}](e)
	if err := errors.Join(err, bad); err != nil {
		t.Fatal(err)
	}
	return r.Host
}

// TestJanitorDies: the lock of the janitor goes to another host when its holder's session ends without a word, and again when the next one stops; each removes the hosts
// that are away for too long. The others do not ask who is alive.
func TestJanitorDies(t *testing.T) {
	server := testenv.Consul(t)
	kv, err := consul.Open(consul.Options{Address: server.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dead := store.NewCluster(kv, "dead")
	if err := errors.Join(dead.BeginLayout(ctx), dead.PutHost(ctx, store.Host{Name: "dead"})); err != nil {
		t.Fatal(err)
	}
	abandon(t, server.Addr, store.AliveKey("dead"))
	if mine, err := dead.IsJanitor(ctx, store.Membership{}); err != nil || !mine {
		t.Fatalf("the first host that asks is not the janitor: %t, %v", mine, err)
	}
	hosts := map[string]*janitorHost{}
	for _, id := range []string{"a", "b"} {
		hosts[id] = begin(t, ctx, kv, id, 2*time.Second)
	}
	await := func(what string, is func() bool) {
		t.Helper()
		if err := testenv.Poll(ctx, 50*time.Millisecond, is); err != nil {
			t.Fatalf("not within %v: %s; %q is the janitor", patience, what, holder(t, ctx, kv))
		}
	}
	known := func(id string) bool {
		members, err := dead.Hosts(ctx)
		return err != nil || members.Known(id)
	}
	if alive, err := dead.Alive(ctx); err != nil || alive && holder(t, ctx, kv) != "dead" {
		t.Errorf("while its holder is alive the lock has %q, %v", holder(t, ctx, kv), err)
	}
	await("another is the janitor when the first is dead", func() bool { return hosts[holder(t, ctx, kv)] != nil })
	await("the dead host is removed", func() bool { return !known("dead") })
	second := holder(t, ctx, kv)
	other := map[string]string{"a": "b", "b": "a"}[second]
	if n := hosts[other].kv.alive.Load(); n > 0 {
		t.Errorf("%s, which is not the janitor, asked %d times who is alive", other, n)
	}
	hosts[second].end()
	await("the other is the janitor when the second has stopped", func() bool { return holder(t, ctx, kv) == other })
	await("the second host is removed", func() bool { return !known(second) })
	if !known(other) {
		t.Error("the cluster's janitor is removed")
	}
}

// abandon makes a key with a session that is not renewed: Consul ends it after ten to twenty seconds.
func abandon(t *testing.T, addr, key string) {
	t.Helper()
	client, err := api.NewClient(&api.Config{Address: addr})
	if err != nil {
		t.Fatal(err)
	}
	session, _, err := client.Session().CreateNoChecks(&api.SessionEntry{TTL: "10s", Behavior: api.SessionBehaviorDelete, LockDelay: time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := client.KV().Acquire(&api.KVPair{Key: key, Value: []byte("x"), Session: session}, nil); err != nil || !ok {
		t.Fatalf("lock %s: %t, %v", key, ok, err)
	}
}
