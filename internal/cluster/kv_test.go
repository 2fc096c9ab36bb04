package cluster

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
	"github.com/socketplane/socketplane/store/consul"
	"github.com/socketplane/socketplane/store/storetest"
)

func openBolt(t *testing.T) store.KV {
	t.Helper()
	kv, err := bolt.Open(filepath.Join(t.TempDir(), "x.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kv.Close(); err != nil {
			t.Error(err)
		}
	})
	return kv
}

// TestContract: with a store behind it, KV is one.
func TestContract(t *testing.T) {
	server := testenv.Consul(t)
	storetest.Run(t, func(t *testing.T) store.KV {
		inner, err := consul.Open(consul.Options{Address: server.Addr})
		if err != nil {
			t.Fatal(err)
		}
		k := newKV()
		k.open(inner)
		t.Cleanup(func() {
			if err := k.Close(); err != nil {
				t.Error(err)
			}
		})
		return k
	})
}

// TestNone: without a store every call says why there is none.
func TestNone(t *testing.T) {
	k := newKV()
	k.shut("the moon is full")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, get := k.Get(ctx, "a")
	_, list := k.List(ctx, "a")
	apply := k.Apply(ctx, store.Op{Kind: store.OpPut, Key: "a"})
	for name, err := range map[string]error{"get": get, "list": list, "apply": apply} {
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrClosed) || !strings.Contains(err.Error(), "the moon is full") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, watch := k.Watch(ctx, "a", 0)
	if announce := k.Announce(ctx, "a", nil, time.Minute); !errors.Is(watch, store.ErrUnavailable) || !errors.Is(announce, store.ErrUnavailable) {
		t.Errorf("watch: %v, announce: %v", watch, announce)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if _, err := k.Get(t.Context(), "a"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestOtherStore: an index of one store means nothing in the next, who waits for a store gets it at once, and that a former
// store was closed does not look like the end.
func TestOtherStore(t *testing.T) {
	first, second := openBolt(t), openBolt(t)
	k := newKV()
	ctx := t.Context()
	type answer struct {
		index uint64
		err   error
	}
	waits := make(chan answer, 1)
	watch := func(since uint64) {
		go func() {
			_, index, err := k.Watch(ctx, "a", since)
			waits <- answer{index, err}
		}()
	}
	watch(0)
	k.open(first)
	one := <-waits
	if one.err != nil {
		t.Fatal(one.err)
	}
	for range 5 {
		if err := k.Apply(ctx, store.Op{Kind: store.OpPut, Key: "a", Value: []byte(store.NewNonce())}); err != nil {
			t.Fatal(err)
		}
	}
	_, index, err := k.Watch(ctx, "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	watch(index)
	k.shut("between")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if a := <-waits; !errors.Is(a.err, store.ErrUnavailable) || errors.Is(a.err, store.ErrClosed) {
		t.Errorf("a watch of the first store ended with %v", a.err)
	}
	k.open(second)
	entries, again, err := k.Watch(ctx, "a", index)
	if err != nil || len(entries) != 0 || again == index {
		t.Errorf("Watch with the first store's index = %v, %d, %v", entries, again, err)
	}
}

// cut is a store that is away, and that says when it is asked.
type cut struct {
	store.KV
	asked chan struct{}
	away  chan struct{} // calls fail until it is closed
	// cutOff is called before a call fails, if not nil.
	cutOff func()
}

func (c *cut) Get(ctx context.Context, key string) (store.Entry, error) {
	select {
	case <-c.away:
		return c.KV.Get(ctx, key)
	default:
	}
	if c.cutOff != nil {
		c.cutOff()
	}
	c.asked <- struct{}{}
	return store.Entry{}, store.ErrUnavailable
}

// TestHold: while this host's Consul restarts calls wait, also those that it cut off.
func TestHold(t *testing.T) {
	k := newKV()
	inner := &cut{KV: openBolt(t), asked: make(chan struct{}), away: make(chan struct{})}
	k.open(inner)
	get := func() chan error {
		got := make(chan error, 1)
		go func() {
			_, err := k.Get(t.Context(), "a")
			got <- err
		}()
		return got
	}
	// Cut off before anybody said that it restarts: the error stands.
	before := get()
	<-inner.asked
	if err := <-before; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without a restart: %v", err)
	}
	k.hold()
	waiting := get()
	select {
	case err := <-waiting:
		t.Fatalf("a call did not wait: %v", err)
	case <-inner.asked:
		t.Fatal("a call went to a store that restarts")
	case <-time.After(50 * time.Millisecond):
	}
	close(inner.away)
	k.release()
	if err := <-waiting; !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the restart: %v", err)
	}

	// A call that was under way when the restart began is repeated.
	inner = &cut{KV: inner.KV, asked: make(chan struct{}), away: make(chan struct{})}
	inner.cutOff = k.hold
	k.open(inner)
	off := get()
	<-inner.asked
	close(inner.away)
	k.release()
	if err := <-off; !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a call that was cut off: %v", err)
	}
	k.hold()
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Get(t.Context(), "a"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}
