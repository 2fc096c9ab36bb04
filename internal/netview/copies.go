package netview

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/socketplane/socketplane/store"
)

// errNotKept says that this host's own store did not take what it is to keep of other hosts.
var errNotKept = errors.New("what is known of other hosts can't be written to this host's disk, and is lost if the agent restarts")

// copies are other hosts' records as the host's own store has them, or is to have them. What could not be written stays wanted until a later write.
type copies struct {
	local store.KV

	mu sync.Mutex // held while the host's own store is written
	// written has the mark of each record by key; "" says that a write has failed and what is there is not known.
	written map[string]string
	// want has what is to be written; a record that is nil is to go.
	want map[string]copied
}

// copied is a record that is to be kept, or its stored form. Its mark differs when the record does.
type copied struct {
	mark   string
	record any
}

func (c copied) value() []byte {
	if value, is := c.record.([]byte); is {
		return value
	}
	return store.Encode(c.record)
}

func newCopies(local store.KV) *copies {
	return &copies{local: local, written: map[string]string{}, want: map[string]copied{}}
}

// restored notes that the host's own store has a record.
func (c *copies) restored(key, mark string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written[key] = mark
}

// any says whether the host's own store may have records, or is to get some.
func (c *copies) any() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.written)+len(c.want) > 0
}

// update wants records changed, if still says that they are to be, and writes all that is wanted.
func (c *copies) update(ctx context.Context, set map[string]copied, gone []string, still func() bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !still() {
		return nil
	}
	for _, key := range gone {
		c.want[key] = copied{}
	}
	for key, r := range set {
		c.want[key] = r
	}
	return c.write(ctx)
}

// clear wants all records gone, and writes that.
func (c *copies) clear(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.want)
	for key := range c.written {
		c.want[key] = copied{}
	}
	return c.write(ctx)
}

// keys are those that the host's own store may have, or is to get.
func (c *copies) keys(is func(key string) bool) (keys []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.written {
		if is(key) {
			keys = append(keys, key)
		}
	}
	for key := range c.want {
		if _, there := c.written[key]; !there && is(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// below are the keys that begin with a prefix.
func (c *copies) below(prefix string) []string {
	return c.keys(func(key string) bool { return strings.HasPrefix(key, prefix) })
}

// has says whether the host's own store may have a record, or is to get it.
func (c *copies) has(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, written := c.written[key]
	return written || c.want[key].record != nil
}

// write writes what is wanted; mu is held.
func (c *copies) write(ctx context.Context) error {
	var ops []store.Op
	for key, r := range c.want {
		switch mark, is := c.written[key]; {
		case r.record == nil && is:
			ops = append(ops, store.Op{Kind: store.OpRemove, Key: key})
		case r.record != nil && (!is || mark != r.mark):
			ops = append(ops, store.Op{Kind: store.OpPut, Key: key, Value: r.value()})
		default:
			delete(c.want, key)
		}
	}
	for _, batch := range store.Chunks(ops) {
		for _, op := range batch {
			c.written[op.Key] = "" // it may take effect though it fails
		}
		if err := c.local.Apply(ctx, batch...); err != nil {
			return fmt.Errorf("%w: %w", errNotKept, err)
		}
		for _, op := range batch {
			if op.Kind == store.OpRemove {
				delete(c.written, op.Key)
			} else {
				c.written[op.Key] = c.want[op.Key].mark
			}
			delete(c.want, op.Key)
		}
	}
	return nil
}

// copyOfHost is what the host's own store keeps of another host: only where its tunnels end and what they carry matters.
func copyOfHost(h store.Host) copied { return copied{fmt.Sprint(h.VTEP, " ", h.MTU), h} }
