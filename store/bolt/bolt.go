// Package bolt owns the bbolt file in which a lone host keeps the cluster's
// records, and every host its own state. It implements store.KV and is held to
// that contract by store/storetest.
//
// It may import store and bbolt. It knows neither Consul nor what the records
// mean.
package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/store"
)

// lockWait is how long Open waits for a file that another process holds: long
// enough for a predecessor that is just ending, short for an operator.
const lockWait = time.Second

// format is the layout of the file; a file of a later one is refused.
const format = 1

// The buckets and the keys of the bucket meta. An entry of the bucket kv is its
// version (8 bytes, big endian) followed by its value.
const (
	bucketKV        = "kv"
	bucketMeta      = "meta"
	bucketAnnounced = "announced"
	keyFormat       = "format"
	keyCounter      = "counter"
)

// Options of Open.
type Options struct {
	// NoSync leaves writing back to the kernel: Apply is then durable against
	// the death of the process, but not of the machine, after which the file
	// may even be damaged (Open says so). A write costs about a hundredth.
	NoSync bool
	// Damage remembers damaged files for those who open them again; nil for those who do not.
	Damage *Damage
}

// Store is a store.KV in one file, which one process owns at a time. Versions
// are a counter of the whole file that counts every transaction and survives
// in it. All methods may be called concurrently.
type Store struct {
	db   *bbolt.DB
	path string

	requests chan *request
	hub      *hub

	// ctx ends when Close is called, with store.ErrClosed as its cause.
	ctx    context.Context
	cancel context.CancelCauseFunc
	writer chan struct{} // closed when the writing goroutine has ended
	once   sync.Once
	closed error // the result of closing, for those who call Close again
}

var _ store.KV = (*Store)(nil)

// Open opens the file at path or makes it (mode 0600; its directory must be
// there), and removes the keys that a former process had announced. When
// another process holds the file it fails after a second with an error that
// wraps store.ErrUnavailable; when the file is damaged or of a later format,
// with one that wraps store.ErrInvalid.
func Open(path string, opts Options) (*Store, error) {
	db, err := openFile(path, opts)
	if err != nil {
		return nil, err
	}
	counter, err := prepare(db)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &Store{
		db:       db,
		path:     path,
		requests: make(chan *request),
		hub:      newHub(counter),
		ctx:      ctx,
		cancel:   cancel,
		writer:   make(chan struct{}),
	}
	go s.write()
	return s, nil
}

// openFile opens and reads the whole file once. bbolt trusts what it maps: it
// panics, or faults on a file that was cut off, so both are caught here, where
// an operator can still be told what to do. A file that can't be opened is not
// kept open, as its lock would also keep the next Open from it.
func openFile(path string, opts Options) (*bbolt.DB, error) {
	if err := opts.Damage.known(path); err != nil {
		return nil, damaged(path, err)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	db, err := mapFile(path, opts)
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s is in use by another process: is another agent running with this state directory? Stop it, or give this one a directory of its own", store.ErrUnavailable, path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, errDamaged):
		return nil, damaged(path, err)
	case err != nil:
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if err := readAll(db); err != nil {
		_ = db.Close() // nothing was written
		return nil, damaged(path, err)
	}
	return db, nil
}

// errDamaged wraps what bbolt panics with.
var errDamaged = errors.New("its pages make no sense")

func damaged(path string, cause error) error {
	return fmt.Errorf("%w: %s is damaged (%w): move it away and start again; what it held is lost", store.ErrInvalid, path, cause)
}

// mapFile lets bbolt open the file. If bbolt panics, the file is closed, but stays mapped.
func mapFile(path string, opts Options) (db *bbolt.DB, err error) {
	var f *os.File
	var info os.FileInfo
	fresh := false
	defer func() {
		if r := recover(); r != nil {
			// The mapping keeps the lock, which the end of the file descriptor alone would not free.
			cause := fmt.Errorf("%w: %v", errDamaged, r)
			opts.Damage.note(path, info, cause)
			db, err = nil, errors.Join(cause, syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
		}
		if err != nil && fresh {
			giveUp(path)
		}
	}()
	return bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      lockWait,
		NoSync:       opts.NoSync,
		FreelistType: bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			var err error
			if f, err = os.OpenFile(name, flag, mode); err != nil {
				return nil, err
			}
			info, err = f.Stat()
			fresh = err == nil && info.Size() == 0
			return f, nil
		},
	})
}

// giveUp empties a file that bbolt could not make, on a full disk say: half a
// file would count as damaged when there is space again. One that another
// process holds is left alone.
func giveUp(path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return
	}
	if info, err := f.Stat(); err == nil && info.Size() < int64(leastPages*os.Getpagesize()) {
		_ = f.Truncate(0) // else it counts as damaged
	}
}

// leastPages is how many pages each file of bbolt has: two of meta data, free list, root.
const leastPages = 4

// readAll reads every page that is in use.
func readAll(db *bbolt.DB) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, _ []byte) error { return nil })
		})
	})
}

// prepare makes the buckets, removes stale announcements and returns the counter. A file in which there is nothing to
// do is not written to, so that it can be opened on a full disk too.
func prepare(db *bbolt.DB) (counter uint64, err error) {
	if counter, ok := prepared(db); ok {
		return counter, nil
	}
	crashpoint.Hit("bolt: open")
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{bucketKV, bucketMeta, bucketAnnounced} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		meta := tx.Bucket([]byte(bucketMeta))
		if f := readUint(meta, keyFormat); f > format {
			return fmt.Errorf("%w: format %d is newer than this program's %d: install the newer version again", store.ErrInvalid, f, format)
		}
		if err := writeUint(meta, keyFormat, format); err != nil {
			return err
		}
		// Versions and indexes are never 0, so the counter begins with 1.
		counter = max(readUint(meta, keyCounter), 1)
		n, err := removeAnnounced(tx)
		if err != nil {
			return err
		}
		if n > 0 {
			counter++
		}
		return writeUint(meta, keyCounter, counter)
	})
	return counter, err
}

// prepared gives the counter of a file that needs no preparation.
func prepared(db *bbolt.DB) (counter uint64, ok bool) {
	err := db.View(func(tx *bbolt.Tx) error {
		kv, meta, announced := tx.Bucket([]byte(bucketKV)), tx.Bucket([]byte(bucketMeta)), tx.Bucket([]byte(bucketAnnounced))
		if kv == nil || meta == nil || announced == nil {
			return nil
		}
		counter = readUint(meta, keyCounter)
		first, _ := announced.Cursor().First()
		ok = readUint(meta, keyFormat) == format && counter > 0 && first == nil
		return nil
	})
	return counter, ok && err == nil
}

// removeAnnounced removes all announced keys and returns how many there were.
func removeAnnounced(tx *bbolt.Tx) (int, error) {
	kv, announced := tx.Bucket([]byte(bucketKV)), tx.Bucket([]byte(bucketAnnounced))
	var keys [][]byte
	err := announced.ForEach(func(k, _ []byte) error {
		keys = append(keys, bytes.Clone(k))
		return nil
	})
	for _, k := range keys {
		err = errors.Join(err, kv.Delete(k), announced.Delete(k))
	}
	return len(keys), err
}

// Close implements store.KV. It waits for the write that is under way.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.cancel(store.ErrClosed)
		<-s.writer
		crashpoint.Hit("bolt: close")
		err := s.db.Update(func(tx *bbolt.Tx) error {
			n, err := removeAnnounced(tx)
			if n == 0 && err == nil {
				return errNothing
			}
			meta := tx.Bucket([]byte(bucketMeta))
			return errors.Join(err, writeUint(meta, keyCounter, readUint(meta, keyCounter)+1))
		})
		if errors.Is(err, errNothing) {
			err = nil
		}
		if s.db.NoSync {
			err = errors.Join(err, s.db.Sync())
		}
		if err = errors.Join(err, s.db.Close()); err != nil {
			s.closed = fmt.Errorf("close %s: %w", s.path, err)
		}
	})
	return s.closed
}

// usable returns an error when the store was closed or ctx has ended.
func (s *Store) usable(ctx context.Context) error {
	switch {
	case s.ctx.Err() != nil:
		return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, s.path, store.ErrClosed)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, s.path, ctx.Err())
	}
	return nil
}

func readUint(b *bbolt.Bucket, key string) uint64 {
	v := b.Get([]byte(key))
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

func writeUint(b *bbolt.Bucket, key string, n uint64) error {
	return b.Put([]byte(key), binary.BigEndian.AppendUint64(nil, n))
}
