// Package journal owns a file of small records that must survive the death of the process, but need not survive that of the
// machine: what was handed out to containers, which die with the machine too. A write is one system call without
// fsync (about 3 µs), whatever the number of records; bbolt needs 40 µs and grows.
//
// It may import store for the form of its records and its errors. It knows not what they mean.
package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/store"
)

// Schema is the version of the file's form. It is in the file's first batch, whose form stays the same in every schema, so that
// each agent can tell whether it knows the rest.
const Schema = 1

// Sizes of the file.
const (
	headerSize = 8       // length and checksum of a batch, 4 bytes each
	maxBatch   = 1 << 24 // a longer length is damage
	compactAt  = 4       // rewritten when that many times what is live
)

// Journal is an append-only file of records by key. A batch of changes is written whole or not at all: what a killed
// process had written in part is cut off when the file is opened again. It is safe for concurrent use.
type Journal struct {
	path string

	mu    sync.Mutex
	file  *os.File // nil when closed
	size  int64    // of what is valid in the file
	live  int64    // of the records that are still there
	all   map[string][]byte
	batch []byte // memory for the next one

	damage int64 // bytes that were given up by Open, but for a batch that a killed process had written in part
}

// Damage is how many bytes Open could not read and gave up, because they were changed on the disk; all records behind the first of them are lost.
func (j *Journal) Damage() int64 { return j.damage }

// Open reads the journal at path or makes it (mode 0600). boot names the machine's present life: a journal of an
// earlier one is discarded, as whatever was not synced may be damaged or missing. lost says that it was, or that there was
// none. One process has the file at a time; the caller sees to that.
func Open(path, boot string) (j *Journal, lost bool, err error) {
	j = &Journal{path: path, all: map[string][]byte{}}
	crashpoint.Hit("journal: make the file")
	if j.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, false, fmt.Errorf("open the journal: %w", err)
	}
	data, err := io.ReadAll(j.file)
	if err == nil {
		valid := j.replay(data)
		if rest := data[valid:]; !cut(rest) {
			j.damage = int64(len(rest))
		}
		if err := j.readable(); err != nil {
			return nil, false, errors.Join(err, j.file.Close())
		}
		if lost = string(j.all[bootKey]) != boot; lost {
			clear(j.all)
			valid, j.live, j.damage = 0, 0, 0
		}
		j.size = int64(valid)
		crashpoint.Hit("journal: open")
		err = j.file.Truncate(j.size)
	}
	switch {
	case err != nil:
	case lost:
		err = j.write(record{schemaKey, []byte(strconv.Itoa(Schema))}, record{bootKey, []byte(boot)})
	case j.all[schemaKey] == nil: // from before there were schemas of journals: all else is the same
		err = j.write(record{schemaKey, []byte(strconv.Itoa(Schema))})
	}
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("read the journal %s: %w", path, err), j.file.Close())
	}
	return j, lost, nil
}

// Keys of the journal's own: ValidKey refuses them from callers.
const (
	own       = "/"
	bootKey   = own + "boot"
	schemaKey = own + "schema"
)

// Check returns an error that wraps store.ErrNewer if the journal at path is of a newer schema. It changes nothing; one that is not
// there is no error.
func Check(path string) error {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the journal: %w", err)
	}
	j := &Journal{path: path, all: map[string][]byte{}}
	j.replay(data)
	return j.readable()
}

// readable says whether this agent knows the journal's schema.
func (j *Journal) readable() error {
	text, said := j.all[schemaKey]
	if !said {
		return nil
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n > Schema {
		return fmt.Errorf("%w: the journal %s has schema %.20q, this agent knows %d and changes nothing: upgrade socketplane on this host",
			store.ErrNewer, j.path, text, Schema)
	}
	return nil
}

type record struct {
	key   string
	value []byte // nil removes
}

// replay takes over all whole batches and returns where they end.
func (j *Journal) replay(data []byte) int {
	at := 0
	for {
		rest := data[at:]
		if len(rest) < headerSize {
			return at
		}
		n := int(binary.BigEndian.Uint32(rest))
		if n > maxBatch || len(rest) < headerSize+n {
			return at
		}
		body := rest[headerSize : headerSize+n]
		if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(rest[4:]) {
			return at
		}
		records, ok := split(body)
		if !ok {
			return at
		}
		j.apply(records)
		at += headerSize + n
	}
}

// cut says whether there is no more than the beginning of a batch.
func cut(rest []byte) bool {
	if len(rest) < headerSize {
		return true
	}
	n := int(binary.BigEndian.Uint32(rest))
	return n <= maxBatch && len(rest) < headerSize+n
}

func split(body []byte) (records []record, ok bool) {
	next := func() ([]byte, bool) {
		n, used := binary.Uvarint(body)
		if used <= 0 || n > uint64(len(body)-used) {
			return nil, false
		}
		part := body[used : used+int(n)]
		body = body[used+int(n):]
		return part, true
	}
	for len(body) > 0 {
		key, ok1 := next()
		value, ok2 := next()
		if !ok1 || !ok2 {
			return nil, false
		}
		r := record{key: string(key)}
		if len(value) > 0 {
			r.value = bytes.Clone(value)
		}
		records = append(records, r)
	}
	return records, true
}

func (j *Journal) apply(records []record) {
	for _, r := range records {
		if had, is := j.all[r.key]; is {
			j.live -= int64(len(r.key) + len(had))
		}
		if r.value == nil {
			delete(j.all, r.key)
			continue
		}
		j.all[r.key] = r.value
		j.live += int64(len(r.key) + len(r.value))
	}
}

// encode makes a batch in the memory of out.
func encode(out []byte, records []record) []byte {
	out = append(out[:0], make([]byte, headerSize)...)
	for _, r := range records {
		out = binary.AppendUvarint(out, uint64(len(r.key)))
		out = append(out, r.key...)
		out = binary.AppendUvarint(out, uint64(len(r.value)))
		out = append(out, r.value...)
	}
	binary.BigEndian.PutUint32(out, uint32(len(out)-headerSize))
	binary.BigEndian.PutUint32(out[4:], crc32.ChecksumIEEE(out[headerSize:]))
	return out
}

// write appends one batch; j.mu is held, or nobody else has j.
func (j *Journal) write(records ...record) error {
	j.batch = encode(j.batch, records)
	out := j.batch
	crashpoint.Hit("journal: write")
	if _, err := j.file.WriteAt(out, j.size); err != nil {
		// What was written in part is overwritten by the next batch, or cut off.
		return fmt.Errorf("%w: write the journal %s: %w: free space on its file system", store.ErrUnavailable, j.path, err)
	}
	crashpoint.Hit("journal: written")
	j.size += int64(len(out))
	j.apply(records)
	return nil
}

// Apply carries out puts and removals (store.OpPut, store.OpRemove), all or none. They survive the process when it returns.
func (j *Journal) Apply(ctx context.Context, ops ...store.Op) error {
	records := make([]record, len(ops))
	for i, op := range ops {
		if err := store.ValidKey(op.Key); err != nil {
			return err
		}
		switch {
		case op.Kind == store.OpPut && len(op.Value) > 0:
			records[i] = record{op.Key, op.Value}
		case op.Kind == store.OpRemove:
			records[i] = record{key: op.Key}
		default:
			return fmt.Errorf("%w: the journal knows no operation %d on %s", store.ErrInvalid, op.Kind, op.Key)
		}
	}
	if len(records) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(ctx); err != nil {
		return err
	}
	if err := j.write(records...); err != nil {
		return err
	}
	if j.size > minCompact && j.size > compactAt*j.live {
		return j.compact()
	}
	return nil
}

func (j *Journal) usable(ctx context.Context) error {
	if j.file == nil {
		return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, j.path, store.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, j.path, err)
	}
	return nil
}

// compact writes what is live into a new file, which takes the old one's place.
func (j *Journal) compact() error {
	crashpoint.Hit("journal: make a new file")
	temp, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600) // a killed process may have left one
	if err != nil {
		return nil // the old file goes on; it is tried again
	}
	keys := make([]string, 0, len(j.all))
	for k := range j.all {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	const perBatch = 1000
	size := int64(0)
	for part := range slices.Chunk(keys, perBatch) {
		records := make([]record, len(part))
		for i, k := range part {
			records[i] = record{k, j.all[k]}
		}
		var n int
		crashpoint.Hit("journal: write a new file")
		if n, err = temp.Write(encode(nil, records)); err != nil {
			break
		}
		size += int64(n)
	}
	if err == nil {
		crashpoint.Hit("journal: rename")
		err = os.Rename(temp.Name(), j.path)
	}
	if err != nil {
		_ = temp.Close()
		crashpoint.Hit("journal: give a new file up")
		_ = os.Remove(temp.Name())
		return nil // the old file goes on
	}
	crashpoint.Hit("journal: renamed")
	_ = j.file.Close() // nobody can reach it any more
	j.file, j.size = temp, size
	return nil
}

// List returns the records whose keys begin with prefix, in the order of their keys.
func (j *Journal) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(ctx); err != nil {
		return nil, err
	}
	var entries []store.Entry
	for k, v := range j.all {
		if !strings.HasPrefix(k, own) && strings.HasPrefix(k, prefix) {
			entries = append(entries, store.Entry{Key: k, Value: bytes.Clone(v)})
		}
	}
	slices.SortFunc(entries, func(a, b store.Entry) int { return strings.Compare(a.Key, b.Key) })
	return entries, nil
}

// Close closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}
