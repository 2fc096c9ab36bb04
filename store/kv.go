package store

import (
	"context"
	"errors"
	"time"
)

// Sentinel errors of every implementation of KV. They are matched with
// errors.Is; implementations wrap them with the key and the cause.
var (
	// ErrNotFound says that a key has no value.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that a precondition of Apply did not hold, so that
	// nothing was written: read again and decide anew.
	ErrConflict = errors.New("changed meanwhile")
	// ErrUnavailable says that the store did not answer, or has no leader.
	// A write that returned it may or may not have taken effect: read back.
	ErrUnavailable = errors.New("store unavailable")
	// ErrInvalid says that the request can never succeed (a bad key, too
	// many operations, a value that is too large, a record of a newer schema).
	ErrInvalid = errors.New("invalid")
)

// MaxOps is the largest number of operations of one Apply
// (Consul refuses the 129th).
const MaxOps = 128

// MaxValue is the largest value in bytes. Consul takes 512 KiB as base64 for a
// whole transaction; this leaves room for its other operations.
const MaxValue = 256 << 10

// Entry is one key with its value.
type Entry struct {
	Key   string
	Value []byte
	// Version changes with each write of the key and is never 0.
	Version uint64
}

// OpKind is the kind of one operation of a transaction.
type OpKind int

const (
	// OpSet writes Value if the key's version is Op.Version (0: if the key is absent).
	OpSet OpKind = iota
	// OpDelete removes the key if its version is Op.Version, which must not be 0.
	OpDelete
	// OpCheck writes nothing, but fails the transaction unless the key's
	// version is Op.Version (0: absent).
	OpCheck
	// OpPut writes Value whatever was there. For keys with a single writer.
	OpPut
	// OpRemove removes the key, if it is there, whatever its version.
	OpRemove
)

// Op is one operation of a transaction.
type Op struct {
	Kind    OpKind
	Key     string
	Value   []byte
	Version uint64
}

// KV is an ordered key-value store with atomic transactions and blocking
// reads. It is what the cluster's state (Consul, or bolt on a lone host) and a
// host's own state (bolt) are kept in. Implementations are safe for concurrent
// use, bound every call by its context and by a limit of their own, and are
// held to this contract by store/storetest.
type KV interface {
	// Get returns one entry, or ErrNotFound.
	Get(ctx context.Context, key string) (Entry, error)
	// List returns the entries whose keys begin with prefix, in key order.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Apply carries all operations out, or none. It returns ErrConflict when
	// a precondition does not hold. What it wrote is durable before it returns.
	Apply(ctx context.Context, ops ...Op) error
	// Watch returns the entries under prefix and their index. With since 0
	// it answers at once; else it waits until something under prefix has
	// changed after since, or until a few minutes have passed. An
	// index that is lower than before means that the store was restored:
	// everything must be read anew; callers just use what they are given.
	Watch(ctx context.Context, prefix string, since uint64) ([]Entry, uint64, error)
	// Announce keeps the key with the value present while ctx lives and this
	// process does, and lets it vanish within about ttl otherwise. It returns
	// when ctx ends (removing the key) or when the key was lost.
	Announce(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Close ends all calls.
	Close() error
}
