package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

const schemaKey = "test/schema"

func emptyStore(t testing.TB) store.KV {
	t.Helper()
	kv, err := bolt.Open(filepath.Join(t.TempDir(), "kv.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}

func put(t *testing.T, kv store.KV, key, value string) {
	t.Helper()
	if err := kv.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: key, Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
}

// content is all that a store has, in lines.
func content(t *testing.T, kv store.KV) string {
	t.Helper()
	entries, err := kv.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&out, "%s=%s\n", e.Key, e.Value)
	}
	return out.String()
}

// appending are steps that leave their number behind the value of test/a; each can be repeated.
func appending(n int) (steps []store.Migration) {
	for i := range n {
		steps = append(steps, func(ctx context.Context, kv store.KV) error {
			e, err := kv.Get(ctx, "test/a")
			if err != nil {
				return err
			}
			mark := fmt.Sprint(i + 1)
			if strings.HasSuffix(string(e.Value), mark) {
				return nil
			}
			return kv.Apply(ctx, store.Op{Kind: store.OpSet, Key: "test/a", Value: append(e.Value, mark...), Version: e.Version})
		})
	}
	return steps
}

// TestMigratesForward: whatever schema the data has, it is brought to the known one before it is read.
func TestMigratesForward(t *testing.T) {
	for name, c := range map[string]struct{ schema, want string }{
		"does not say": {"", "v123"},
		"first":        {`{"schema":1}`, "v23"},
		"last but one": {`{"schema":2}`, "v3"},
		"known":        {`{"schema":3}`, "v"},
	} {
		t.Run(name, func(t *testing.T) {
			kv := emptyStore(t)
			put(t, kv, "test/a", "v")
			if c.schema != "" {
				put(t, kv, schemaKey, c.schema)
			}
			e, err := store.Guarded(kv, "the data", schemaKey, appending(3)).Get(t.Context(), "test/a")
			if err != nil || string(e.Value) != c.want {
				t.Errorf("read %q, %v; want %q", e.Value, err, c.want)
			}
			if got, want := content(t, kv), "test/a="+c.want+"\n"+schemaKey+`={"schema":3}`+"\n"; got != want {
				t.Errorf("the store has\n%swant\n%s", got, want)
			}
		})
	}
}

// TestMigrationGoesOn: what could not be finished is done by the next call, or by the next agent.
func TestMigrationGoesOn(t *testing.T) {
	kv := emptyStore(t)
	put(t, kv, "test/a", "v")
	steps := appending(3)
	broken := errors.New("the power went out")
	whole := steps[1]
	steps[1] = func(ctx context.Context, kv store.KV) error { return errors.Join(whole(ctx, kv), broken) }
	guarded := store.Guarded(kv, "the data", schemaKey, steps)
	if _, err := guarded.List(t.Context(), "test/"); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if _, err := store.Guarded(kv, "the data", schemaKey, appending(3)).List(t.Context(), "test/"); err != nil {
		t.Fatal(err)
	}
	steps[1] = whole
	if e, err := guarded.Get(t.Context(), "test/a"); err != nil || string(e.Value) != "v123" {
		t.Errorf("read %q, %v", e.Value, err)
	}
}

// TestManyMigrateAtOnce: agents that start in one moment do each step once.
func TestManyMigrateAtOnce(t *testing.T) {
	kv := emptyStore(t)
	put(t, kv, "test/a", "v")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			// A step that met another host is begun again by whoever calls next.
			g := store.Guarded(kv, "the data", schemaKey, appending(3))
			for try := 0; ; try++ {
				e, err := g.Get(t.Context(), "test/a")
				if err == nil && string(e.Value) != "v123" || err != nil && try > 100 {
					t.Errorf("read %q, %v", e.Value, err)
				}
				if err == nil || try > 100 {
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestNewerDataIsLeftAlone: no call reads or changes anything, and each says what to do.
func TestNewerDataIsLeftAlone(t *testing.T) {
	kv := emptyStore(t)
	put(t, kv, "test/a", "v")
	put(t, kv, schemaKey, `{"schema":4,"more":"than is known"}`)
	before := content(t, kv)
	g := store.Guarded(kv, "the cluster's data", schemaKey, appending(3))
	op := store.Op{Kind: store.OpPut, Key: "test/a", Value: []byte("destroyed")}
	for name, call := range map[string]func() error{
		"get":      func() error { _, err := g.Get(t.Context(), "test/a"); return err },
		"list":     func() error { _, err := g.List(t.Context(), ""); return err },
		"apply":    func() error { return g.Apply(t.Context(), op) },
		"watch":    func() error { _, _, err := g.Watch(t.Context(), "", 0); return err },
		"announce": func() error { return g.Announce(t.Context(), "test/alive", []byte("x"), time.Minute) },
	} {
		err := call()
		if !errors.Is(err, store.ErrNewer) || !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, part := range []string{"the cluster's data has schema 4", "knows 3", "upgrade socketplane on this host"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s does not say %q: %v", name, part, err)
			}
		}
	}
	if after := content(t, kv); after != before {
		t.Errorf("the store had\n%sand has\n%s", before, after)
	}
}

// TestMigrationsLeadToSchema: who raises Schema must say how older data becomes what it is now.
func TestMigrationsLeadToSchema(t *testing.T) {
	if got := len(store.Migrations()); got != store.Schema {
		t.Errorf("%d migrations lead to schema %d", got, store.Schema)
	}
}
