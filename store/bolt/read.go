package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/socketplane/socketplane/store"
)

// Get implements store.KV.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	entry := store.Entry{Key: key}
	if err := store.ValidKey(key); err != nil {
		return store.Entry{}, err
	}
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		version, value := decode(tx.Bucket([]byte(bucketKV)).Get([]byte(key)))
		if version == 0 {
			return fmt.Errorf("%s: %w", key, store.ErrNotFound)
		}
		entry.Version, entry.Value = version, bytes.Clone(value)
		return nil
	})
	if err != nil {
		return store.Entry{}, err
	}
	return entry, nil
}

// List implements store.KV.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	if err := store.ValidPrefix(prefix); err != nil {
		return nil, err
	}
	entries, _, err := s.list(ctx, prefix)
	return entries, err
}

// list returns the entries and the counter of one and the same moment.
func (s *Store) list(ctx context.Context, prefix string) (entries []store.Entry, counter uint64, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		counter = readUint(tx.Bucket([]byte(bucketMeta)), keyCounter)
		c := tx.Bucket([]byte(bucketKV)).Cursor()
		p := []byte(prefix)
		for k, v := c.Seek(p); k != nil && bytes.HasPrefix(k, p); k, v = c.Next() {
			version, value := decode(v)
			entries = append(entries, store.Entry{Key: string(k), Value: bytes.Clone(value), Version: version})
		}
		return nil
	})
	return entries, counter, err
}

// view runs fn in a reading transaction, during which the store can't be closed.
func (s *Store) view(ctx context.Context, fn func(*bbolt.Tx) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	err := s.db.View(fn)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, s.path, store.ErrClosed)
	}
	return err
}

// decode splits what the bucket kv holds; the version is 0 when it holds nothing.
// The value is valid during the transaction only.
func decode(raw []byte) (version uint64, value []byte) {
	if len(raw) < 8 {
		return 0, nil
	}
	return binary.BigEndian.Uint64(raw), raw[8:]
}

func encode(version uint64, value []byte) []byte {
	raw := make([]byte, 8, 8+len(value))
	binary.BigEndian.PutUint64(raw, version)
	return append(raw, value...)
}
