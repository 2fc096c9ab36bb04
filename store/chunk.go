package store

import (
	"context"
	"encoding/base64"
)

// Chunks splits operations, in their order, into transactions that ValidOps takes: by count and by bytes. Each transaction
// begins with the operations of every, such as a check that must hold for each; they must leave room for others. An operation that is too large by itself is
// a transaction of its own, which Apply refuses.
func Chunks(ops []Op, every ...Op) [][]Op {
	guards, guardBytes := cost(every)
	var all [][]Op
	for len(ops) > 0 {
		count, size, n := guards, guardBytes, 0
		for n < len(ops) {
			c, s := cost(ops[n : n+1])
			if n > 0 && (count+c > MaxOps || size+s > maxBody) {
				break
			}
			count, size, n = count+c, size+s, n+1
		}
		all = append(all, append(append(make([]Op, 0, len(every)+n), every...), ops[:n]...))
		ops = ops[n:]
	}
	return all
}

// Applier takes transactions: a KV, or another journal.
type Applier interface {
	Apply(ctx context.Context, ops ...Op) error
}

// ApplyAll applies operations that need not take effect together, in as few transactions as they fit into. It ends at the first error: what came before has
// taken effect.
func ApplyAll(ctx context.Context, to Applier, ops ...Op) error {
	for _, chunk := range Chunks(ops) {
		if err := to.Apply(ctx, chunk...); err != nil {
			return err
		}
	}
	return nil
}

// cost is what operations take of a transaction: of MaxOps, and of its body's bytes at most. ValidOps judges whether they are valid.
func cost(ops []Op) (count, size int) {
	for _, op := range ops {
		n := 1
		if op.Kind == OpDelete {
			n = 2
		}
		count += n
		// A character of a key grows to six when JSON escapes it.
		size += n*(opOverhead+6*len(op.Key)) + base64.StdEncoding.EncodedLen(len(op.Value))
	}
	return count, size
}
