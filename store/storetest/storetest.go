// Package storetest owns the contract of store.KV as tests, which every
// implementation runs.
//
// It may import store and what tests need. It knows no implementation.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/store"
)

// patience bounds everything that should happen soon: generous, as test
// machines are slow, and only ever waited for in full by a test that fails.
const patience = time.Minute

// ttl is for Announce: the shortest that Consul takes.
const ttl = 10 * time.Second

// Run holds an implementation to the contract. open returns an empty store,
// or one whose keys under Root may be used alone, and closes it when t ends; a
// test may close it before.
func Run(t *testing.T, open func(t *testing.T) store.KV) {
	t.Helper()
	suites := []struct {
		name string
		run  func(*testing.T, *kv)
	}{
		{"get", testGet},
		{"values", testValues},
		{"list", testList},
		{"conditions", testConditions},
		{"atomicity", testAtomicity},
		{"order-within-transaction", testSequence},
		{"identical-write", testIdentical},
		{"versions", testVersions},
		{"counters", testCounters},
		{"claims", testClaims},
		{"limits", testLimits},
		{"bad-keys", testBadKeys},
		{"odd-keys", testOddKeys},
		{"ended-context", testEndedContext},
		{"watch-first", testWatchFirst},
		{"watch-wakes", testWatchWakes},
		{"watch-missed", testWatchMissed},
		{"watch-empty", testWatchEmpty},
		{"watch-sibling", testWatchSibling},
		{"watch-many", testWatchMany},
		{"watch-follows", testWatchFollows},
		{"watch-cancel", testWatchCancel},
		{"announce", testAnnounce},
		{"announce-takeover", testAnnounceTakeover},
		{"announce-lost", testAnnounceLost},
		{"close", testClose},
	}
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
			defer cancel()
			s.run(t, &kv{KV: open(t), t: t, ctx: ctx, root: Root(t)})
		})
	}
}

// Root is the prefix of the keys that a test uses, so that many tests can share
// one server.
func Root(t testing.TB) string {
	return "socketplane/test/" + strings.NewReplacer("/", "-", "#", "-").Replace(t.Name()) + "/"
}

// kv is a store with shorthands that fail the test.
type kv struct {
	store.KV
	t    *testing.T
	ctx  context.Context
	root string
}

func (k *kv) key(name string) string { return k.root + name }

func (k *kv) set(name, value string, version uint64) store.Op {
	return store.Op{Kind: store.OpSet, Key: k.key(name), Value: []byte(value), Version: version}
}

func (k *kv) put(name, value string) store.Op {
	return store.Op{Kind: store.OpPut, Key: k.key(name), Value: []byte(value)}
}

func (k *kv) remove(name string) store.Op {
	return store.Op{Kind: store.OpRemove, Key: k.key(name)}
}

func (k *kv) del(name string, version uint64) store.Op {
	return store.Op{Kind: store.OpDelete, Key: k.key(name), Version: version}
}

func (k *kv) check(name string, version uint64) store.Op {
	return store.Op{Kind: store.OpCheck, Key: k.key(name), Version: version}
}

// must applies operations that have to succeed.
func (k *kv) must(ops ...store.Op) {
	k.t.Helper()
	if err := k.Apply(k.ctx, ops...); err != nil {
		k.t.Fatalf("Apply: %v", err)
	}
}

// version returns the key's version, 0 when it is absent.
func (k *kv) version(name string) uint64 {
	k.t.Helper()
	e, err := k.Get(k.ctx, k.key(name))
	if errors.Is(err, store.ErrNotFound) {
		return 0
	}
	if err != nil {
		k.t.Fatalf("Get: %v", err)
	}
	return e.Version
}

// expect compares everything below root with lines of the form "name=value".
func (k *kv) expect(want ...string) {
	k.t.Helper()
	entries, err := k.List(k.ctx, k.root)
	if err != nil {
		k.t.Fatalf("List: %v", err)
	}
	if got := k.render(entries); !slices.Equal(got, want) {
		k.t.Fatalf("the store has %q, want %q", got, want)
	}
}

func (k *kv) render(entries []store.Entry) []string {
	var lines []string
	for _, e := range entries {
		lines = append(lines, fmt.Sprintf("%s=%s", strings.TrimPrefix(e.Key, k.root), e.Value))
	}
	return lines
}

// wantError checks the sentinel that an error wraps.
func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want one that wraps %q", err, want)
	}
}

// eventually polls until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within %s", what, patience)
		case <-tick.C:
		}
	}
}

// receive waits for what a goroutine of the test sends.
func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: not within %s", what, patience)
		panic("unreachable")
	}
}
