// Package meter owns a decorator of store.KV that tells how long a store takes to answer and how often it fails.
//
// It imports store only. It must not know which store it is, nor who counts.
package meter

import (
	"context"
	"errors"
	"time"

	"github.com/socketplane/socketplane/store"
)

// Operations of a store, as Observe is told them.
const (
	Get      = "get"
	List     = "list"
	Apply    = "apply"
	Watch    = "watch"
	Announce = "announce"
)

// Operations lists them all.
func Operations() []string { return []string{Get, List, Apply, Watch, Announce} }

// Observe is told of each operation that has ended, concurrently. failed says that the store did not do what it is there for: that a
// key is not found or has changed is an answer, and that nobody waits any more no failure. Watch and Announce last as long
// as nothing happens: how long says nothing.
type Observe func(operation string, took time.Duration, failed bool)

// New returns kv as it is, but told of.
func New(kv store.KV, observe Observe) store.KV { return &metered{kv, observe} }

type metered struct {
	store.KV
	observe Observe
}

func (m *metered) done(operation string, began time.Time, err error) {
	failed := err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) &&
		!errors.Is(err, store.ErrClosed) && !errors.Is(err, context.Canceled)
	m.observe(operation, time.Since(began), failed)
}

func (m *metered) Get(ctx context.Context, key string) (store.Entry, error) {
	began := time.Now()
	e, err := m.KV.Get(ctx, key)
	m.done(Get, began, err)
	return e, err
}

func (m *metered) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	began := time.Now()
	entries, err := m.KV.List(ctx, prefix)
	m.done(List, began, err)
	return entries, err
}

func (m *metered) Apply(ctx context.Context, ops ...store.Op) error {
	began := time.Now()
	err := m.KV.Apply(ctx, ops...)
	m.done(Apply, began, err)
	return err
}

func (m *metered) Watch(ctx context.Context, prefix string, since uint64) ([]store.Entry, uint64, error) {
	began := time.Now()
	entries, index, err := m.KV.Watch(ctx, prefix, since)
	m.done(Watch, began, err)
	return entries, index, err
}

func (m *metered) Announce(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	began := time.Now()
	err := m.KV.Announce(ctx, key, value, ttl)
	m.done(Announce, began, err)
	return err
}
