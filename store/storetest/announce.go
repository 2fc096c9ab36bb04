package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// vanishes waits until below root is what is wanted: who ends an announcement does not wait long for the store.
func (k *kv) vanishes(want ...string) {
	k.t.Helper()
	eventually(k.t, "the end of an announced key", func() bool {
		entries, err := k.List(k.ctx, k.root)
		return err == nil && slices.Equal(k.render(entries), want)
	})
}

// announce begins an Announce, and waits until the key has the value.
func (k *kv) announce(ctx context.Context, name, value string) <-chan error {
	k.t.Helper()
	ch := make(chan error, 1)
	go func() { ch <- k.Announce(ctx, k.key(name), []byte(value), ttl) }()
	eventually(k.t, "the announced key", func() bool {
		e, err := k.Get(k.ctx, k.key(name))
		return err == nil && string(e.Value) == value
	})
	return ch
}

func testAnnounce(t *testing.T, k *kv) {
	before, index := k.now("")
	woken := k.watch(k.ctx, "", index, before...)
	ctx, cancel := context.WithCancel(k.ctx)
	defer cancel()
	ended := k.announce(ctx, "alive", "1")
	got := receive(t, "a watch of the announced key", woken)
	if got.err != nil || len(got.lines) != 1 {
		t.Fatalf("got %q, %v", got.lines, got.err)
	}
	woken = k.watch(k.ctx, "", got.index, got.lines...)
	cancel()
	if err := receive(t, "the end of Announce", ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("Announce = %v", err)
	}
	k.vanishes()
	if got := receive(t, "a watch of its vanishing", woken); got.err != nil || len(got.lines) != 0 {
		t.Fatalf("got %q, %v", got.lines, got.err)
	}
	// And again, over an ordinary key of the same name.
	k.must(k.put("alive", "ordinary"))
	ctx, cancel = context.WithCancel(k.ctx)
	defer cancel()
	ended = k.announce(ctx, "alive", "2")
	cancel()
	receive(t, "the end of Announce", ended)
	k.vanishes()
}

// testAnnounceTakeover: the later one wins, the former hears of it, and its
// end leaves the later one's key alone.
func testAnnounceTakeover(t *testing.T, k *kv) {
	first := k.announce(k.ctx, "alive", "first")
	ctx, cancel := context.WithCancel(k.ctx)
	defer cancel()
	second := k.announce(ctx, "alive", "second")
	wantError(t, receive(t, "the loss", first), store.ErrConflict)
	k.expect("alive=second")
	cancel()
	wantError(t, receive(t, "the end", second), context.Canceled)
	k.vanishes()
}

func testAnnounceLost(t *testing.T, k *kv) {
	lost := k.announce(k.ctx, "alive", "1")
	k.must(k.remove("alive"))
	wantError(t, receive(t, "the loss", lost), store.ErrConflict)
	k.expect()
}

func testClose(t *testing.T, k *kv) {
	k.must(k.put("w/a", "1"))
	before, index := k.now("w/")
	watch := k.watch(k.ctx, "w/", index, before...)
	announced := k.announce(k.ctx, "alive", "1")
	if err := k.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	wantClosed := func(name string, err error) {
		t.Helper()
		if !errors.Is(err, store.ErrClosed) || !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s = %v, want ErrClosed and ErrUnavailable", name, err)
		}
	}
	wantClosed("waiting Watch", receive(t, "the end of Watch", watch).err)
	wantClosed("waiting Announce", receive(t, "the end of Announce", announced))
	_, err := k.Get(k.ctx, k.key("w/a"))
	wantClosed("Get", err)
	_, err = k.List(k.ctx, k.root)
	wantClosed("List", err)
	_, _, err = k.Watch(k.ctx, k.root, 0)
	wantClosed("Watch", err)
	wantClosed("Apply", k.Apply(k.ctx, k.put("a", "1")))
	wantClosed("Announce", k.Announce(k.ctx, k.key("alive"), nil, ttl))
	if err := k.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}
