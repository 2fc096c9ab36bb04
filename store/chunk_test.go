package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// TestChunks: whatever operations there are, each transaction is one that Apply takes, and together they are all operations in their order.
func TestChunks(t *testing.T) {
	guard := store.Op{Kind: store.OpCheck, Key: "g/guard", Version: 7}
	for _, c := range []struct{ count, size, chunks int }{
		{0, 10, 0}, {1, 10, 1}, {127, 10, 1}, {128, 10, 2}, {1280, 10, 11}, {1280, 4000, 14}, {40, 100 << 10, 14}, {3, store.MaxValue, 3},
	} {
		var ops []store.Op
		for i := range c.count {
			ops = append(ops, store.Op{Kind: store.OpPut, Key: fmt.Sprint("k/", i), Value: make([]byte, c.size)})
		}
		var got []store.Op
		chunks := store.Chunks(ops, guard)
		for _, chunk := range chunks {
			if err := store.ValidOps(chunk); err != nil {
				t.Errorf("%d of %d bytes: %v", c.count, c.size, err)
			}
			if chunk[0].Key != guard.Key {
				t.Errorf("%d of %d bytes: a transaction without the check", c.count, c.size)
			}
			got = append(got, chunk[1:]...)
		}
		if !slices.EqualFunc(got, ops, func(a, b store.Op) bool { return a.Key == b.Key && len(a.Value) == len(b.Value) }) {
			t.Errorf("%d of %d bytes: the operations are not the same", c.count, c.size)
		}
		if len(chunks) != c.chunks {
			t.Errorf("%d of %d bytes: %d transactions, want %d", c.count, c.size, len(chunks), c.chunks)
		}
	}
	dels := slices.Repeat([]store.Op{{Kind: store.OpDelete, Key: "k", Version: 1}}, 100)
	for _, chunk := range store.Chunks(dels) { // each counts twice
		if err := store.ValidOps(chunk); err != nil {
			t.Error(err)
		}
	}
}
