package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/socketplane/socketplane/internal/lock"
)

// ErrNewer says that data was written by a newer agent than this one, which therefore leaves it alone.
var ErrNewer = errors.New("written by a newer socketplane")

// SchemaKey says which schema a store's records have; there is one in the cluster's store and one in each host's own.
const (
	SchemaKey      = Root + "schema"
	LocalSchemaKey = Root + "local/schema"
)

// Migration leads a store's records from one schema to the next. It may need several transactions, and is repeated from its
// beginning if it could not be finished, maybe by another host at the same time.
type Migration func(context.Context, KV) error

// Migrations are those that lead to Schema: the first from records that do not say, as agents wrote them before there
// were schemas of stores.
func Migrations() []Migration {
	return []Migration{func(context.Context, KV) error { return nil }} // the records are the same
}

// schemaRecord is what SchemaKey holds.
type schemaRecord struct {
	Schema int `json:"schema"`
}

// Guarded returns kv behind a check that comes before everything else: data of a newer schema is neither read nor changed, and data
// of an older one is migrated first. what names the data in errors, key is where its schema is written, and
// steps lead to the schema that this agent knows. As long as the store does not answer, nothing is known, and every call says so.
func Guarded(kv KV, what, key string, steps []Migration) KV {
	return &guarded{KV: kv, what: what, key: key, steps: steps, turn: lock.New()}
}

type guarded struct {
	KV
	what  string
	key   string
	steps []Migration
	ready atomic.Bool
	turn  lock.Lock // of the one that checks
}

// check makes sure once that the data is of the schema that is known.
func (g *guarded) check(ctx context.Context) error {
	if g.ready.Load() {
		return nil
	}
	if err := g.turn.Take(ctx); err != nil {
		return fmt.Errorf("%w: the schema of %s is still being looked at: %w", ErrUnavailable, g.what, err)
	}
	defer g.turn.Release()
	for !g.ready.Load() {
		if err := g.step(ctx); err != nil && !errors.Is(err, ErrConflict) { // else another host was faster
			return err
		}
	}
	return nil
}

// step looks at the schema, and migrates to the next one if there is one.
func (g *guarded) step(ctx context.Context) error {
	var have schemaRecord
	e, err := g.KV.Get(ctx, g.key)
	switch {
	case errors.Is(err, ErrNotFound) && g.key == SchemaKey:
		// Before anything is written: whoever is first may make a network before its own record.
		if err := NewCluster(g.KV, "").BeginLayout(ctx); err != nil {
			return err
		}
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	default:
		if have.Schema, err = SchemaOf(e); err != nil {
			return err
		}
	}
	switch known := len(g.steps); {
	case g.key == SchemaKey && have.Schema > known && have.Schema <= NewestLayout:
		g.ready.Store(true) // the layout's number
		return nil
	case have.Schema > known:
		return fmt.Errorf("%w: %w: %s has schema %d, this agent knows %d and changes nothing: upgrade socketplane on this host",
			ErrInvalid, ErrNewer, g.what, have.Schema, known)
	case have.Schema == known:
		g.ready.Store(true)
		return nil
	}
	if err := g.steps[have.Schema](ctx, g.KV); err != nil {
		return fmt.Errorf("bring %s from schema %d to %d: %w", g.what, have.Schema, have.Schema+1, err)
	}
	return g.KV.Apply(ctx, Op{Kind: OpSet, Key: g.key, Value: Encode(schemaRecord{have.Schema + 1}), Version: e.Version})
}

func (g *guarded) Get(ctx context.Context, key string) (Entry, error) {
	if err := g.check(ctx); err != nil {
		return Entry{}, err
	}
	return g.KV.Get(ctx, key)
}

func (g *guarded) List(ctx context.Context, prefix string) ([]Entry, error) {
	if err := g.check(ctx); err != nil {
		return nil, err
	}
	return g.KV.List(ctx, prefix)
}

func (g *guarded) Apply(ctx context.Context, ops ...Op) error {
	if err := g.check(ctx); err != nil {
		return err
	}
	return g.KV.Apply(ctx, ops...)
}

func (g *guarded) Watch(ctx context.Context, prefix string, since uint64) ([]Entry, uint64, error) {
	if err := g.check(ctx); err != nil {
		return nil, 0, err
	}
	return g.KV.Watch(ctx, prefix, since)
}

func (g *guarded) Announce(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := g.check(ctx); err != nil {
		return err
	}
	return g.KV.Announce(ctx, key, value, ttl)
}
