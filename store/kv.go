package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sentinel errors of every implementation of KV. They are matched with
// errors.Is; implementations wrap them with the key and the cause.
var (
	// ErrNotFound says that a key has no value.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that a precondition of Apply did not hold, so that
	// nothing was written: read again and decide anew. Announce returns it
	// when the key was lost.
	ErrConflict = errors.New("changed meanwhile")
	// ErrUnavailable says that the store did not answer, has no leader, or
	// refuses our token. A write that returned it may or may not have taken
	// effect: read back. When the context ended first, the error wraps the
	// context's error too.
	ErrUnavailable = errors.New("store unavailable")
	// ErrDenied says that the store answers, and refuses our token.
	ErrDenied = fmt.Errorf("%w: access denied", ErrUnavailable)
	// ErrNoLeader says that the store answers, and can neither read nor write for want of a leader.
	ErrNoLeader = fmt.Errorf("%w: no leader", ErrUnavailable)
	// ErrClosed says that Close was called. It comes with ErrUnavailable.
	ErrClosed = errors.New("store closed")
	// ErrInvalid says that the request can never succeed (a bad key, too
	// many operations, a value that is too large, a record of a newer schema).
	ErrInvalid = errors.New("invalid")
)

// MaxOps is the largest number of operations of one Apply (Consul refuses the
// 129th). OpDelete counts twice: Consul's own delete-cas succeeds on a key that
// is gone already, so it needs a check beside it.
const MaxOps = 128

// MaxValue is the largest value in bytes. Consul takes 512 KiB as base64 for a
// whole transaction; this leaves room for its other operations.
const MaxValue = 256 << 10

// Entry is one key with its value.
type Entry struct {
	Key   string
	Value []byte
	// Version changes with each write that changes the value, also when the
	// key was deleted and made again, and is never 0. Writing the value that
	// is there already succeeds, but keeps the version and wakes no Watch:
	// two writers of equal bytes both "win", so a claim carries a nonce.
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
// held to this contract by store/storetest. Keys are checked by ValidKey,
// prefixes by ValidPrefix, transactions by ValidOps.
type KV interface {
	// Get returns one entry, or ErrNotFound.
	Get(ctx context.Context, key string) (Entry, error)
	// List returns the entries whose keys begin with prefix, in the order of
	// the keys' bytes. A prefix need not end at a slash: "a/b" is one of "a/bc".
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Apply carries all operations out, or none. It returns ErrConflict when
	// a precondition does not hold. Each operation sees what those before it
	// did. What it wrote is durable before it returns. Without operations it
	// does nothing.
	Apply(ctx context.Context, ops ...Op) error
	// Watch returns the entries under prefix and their index, which is never
	// 0. With since 0 it answers at once; else it waits until something under
	// prefix has changed after since, or until a few minutes have passed. It
	// may answer early with nothing changed. An index that is lower than
	// before means that the store was restored: everything must be read anew;
	// callers just use what they are given. After an error begin with since 0
	// again: the store may be another one.
	Watch(ctx context.Context, prefix string, since uint64) ([]Entry, uint64, error)
	// Announce keeps the key with the value present while ctx lives and this
	// process does, and lets it vanish within about twice ttl otherwise. It
	// takes the key over from whoever announced it before. It returns ctx's
	// error when ctx ends, having removed the key if the store could be
	// reached, and ErrConflict when the key was lost: announce it again. A
	// ttl below 10 s may count as 10 s.
	Announce(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Close ends all calls, with ErrClosed. Announced keys are removed.
	Close() error
}
