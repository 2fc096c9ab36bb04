package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"

	"go.etcd.io/bbolt"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/store"
)

// maxBatch bounds the transactions that share one commit, so that the first of
// them doesn't wait for many others to be evaluated.
const maxBatch = 128

// errNothing rolls a transaction back that has nothing to write, which saves
// its fsync.
var errNothing = errors.New("nothing to write")

// request is one transaction on its way to the writing goroutine.
type request struct {
	ops      []store.Op
	announce string // the key, among ops, that is to vanish with the process
	done     chan result

	res     result
	changes map[string]change
}

type result struct {
	version uint64 // of the keys that were written
	err     error
}

// change is a key's new state within a request.
type change struct {
	value   []byte
	version uint64 // 0: absent
	dirty   bool   // differs from what the file has
}

// Apply implements store.KV. Callers that arrive while a commit is under way
// share the next one: no caller waits for company, as with bbolt's Batch.
func (s *Store) Apply(ctx context.Context, ops ...store.Op) error {
	if err := store.ValidOps(ops); err != nil {
		return err
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	if len(ops) == 0 {
		return nil
	}
	return s.submit(ctx, &request{ops: ops}).err
}

func (s *Store) submit(ctx context.Context, r *request) result {
	r.done = make(chan result, 1)
	select {
	case s.requests <- r:
	case <-s.ctx.Done():
		return result{err: s.usable(ctx)}
	case <-ctx.Done():
		return result{err: s.usable(ctx)}
	}
	// The writer answers what it took, also while the store is being closed.
	select {
	case res := <-r.done:
		return res
	case <-ctx.Done():
		return result{err: s.usable(ctx)}
	}
}

// write is the only goroutine that writes to the file.
func (s *Store) write() {
	defer close(s.writer)
	for {
		select {
		case <-s.ctx.Done():
			return
		case r := <-s.requests:
			s.commit(s.gather(r))
		}
	}
}

// gather adds the requests that are waiting already.
func (s *Store) gather(first *request) []*request {
	batch := []*request{first}
	// Callers that the last commit has just woken get to run first.
	runtime.Gosched()
	for len(batch) < maxBatch {
		select {
		case r := <-s.requests:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// commit carries out each request of the batch by itself, but with one commit.
func (s *Store) commit(batch []*request) {
	var changed []event
	crashpoint.Hit("bolt: commit")
	err := s.db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte(bucketMeta))
		counter := readUint(meta, keyCounter)
		for _, r := range batch {
			dirty := r.evaluate(tx.Bucket([]byte(bucketKV)), counter+1)
			if !dirty {
				continue
			}
			counter++
			if err := r.flush(tx); err != nil {
				return err
			}
			for key, c := range r.changes {
				if c.dirty {
					changed = append(changed, event{key: key, version: counter})
				}
			}
		}
		if len(changed) == 0 {
			return errNothing
		}
		return writeUint(meta, keyCounter, counter)
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	crashpoint.Hit("bolt: committed")
	if err == nil {
		s.hub.publish(changed)
	}
	for _, r := range batch {
		if err != nil && r.res.err == nil {
			r.res.err = fmt.Errorf("%w: write %s: %w", store.ErrUnavailable, s.path, err)
		}
		r.done <- r.res
	}
}

// evaluate works out what the request changes, without writing, so that a
// precondition that fails leaves the batch as it was. It reports whether
// there is anything to write; the outcome is in r.res.
func (r *request) evaluate(kv *bbolt.Bucket, next uint64) (dirty bool) {
	r.changes = map[string]change{}
	r.res.version = next
	for _, op := range r.ops {
		now, seen := r.changes[op.Key]
		if !seen {
			now.version, now.value = decode(kv.Get([]byte(op.Key)))
		}
		switch op.Kind {
		case store.OpSet, store.OpDelete, store.OpCheck:
			if now.version != op.Version {
				r.res.err = fmt.Errorf("%s: %w: it has version %d, not %d", op.Key, store.ErrConflict, now.version, op.Version)
				return false
			}
		}
		switch op.Kind {
		case store.OpSet, store.OpPut:
			// As in Consul, an identical value is no write.
			if now.version != 0 && bytes.Equal(now.value, op.Value) && r.announce != op.Key {
				continue
			}
			r.changes[op.Key] = change{value: op.Value, version: next, dirty: true}
			dirty = true
		case store.OpDelete, store.OpRemove:
			if now.version == 0 {
				continue
			}
			r.changes[op.Key] = change{dirty: true}
			dirty = true
		}
	}
	return dirty
}

// flush writes what evaluate found. Whoever writes a key takes it from the one
// who announced it.
func (r *request) flush(tx *bbolt.Tx) error {
	kv, announced := tx.Bucket([]byte(bucketKV)), tx.Bucket([]byte(bucketAnnounced))
	for key, c := range r.changes {
		k := []byte(key)
		var err error
		if c.version == 0 {
			err = kv.Delete(k)
		} else {
			err = kv.Put(k, encode(c.version, c.value))
		}
		if key == r.announce {
			err = errors.Join(err, announced.Put(k, nil))
		} else {
			err = errors.Join(err, announced.Delete(k))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
