package driver

import (
	"context"
	"errors"
	"fmt"

	"github.com/socketplane/socketplane/store"
)

// errNotKept says that this host's own store did not take what it is to keep of other hosts.
var errNotKept = errors.New("what is known of other hosts can't be written to this host's disk, and is lost if the agent restarts")

// copies are other hosts' records as the host's own store has them. A write that failed is repeated by the next one, as what is written is
// always the difference between what is wanted and what was written.
type copies struct {
	local store.KV
	// written has the mark of each record by key; "" says that a write has failed and what is there is not known.
	written map[string]string
}

// copied is a record that is to be kept. Its mark differs when the record does.
type copied struct {
	mark   string
	record any
}

func newCopies(local store.KV) copies { return copies{local, map[string]string{}} }

// write makes the copies equal to want.
func (c copies) write(ctx context.Context, want map[string]copied) error {
	var ops []store.Op
	for key := range c.written {
		if _, is := want[key]; !is {
			ops = append(ops, store.Op{Kind: store.OpRemove, Key: key})
		}
	}
	for key, r := range want {
		if mark, is := c.written[key]; !is || mark != r.mark {
			ops = append(ops, store.Op{Kind: store.OpPut, Key: key, Value: store.Encode(r.record)})
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
				c.written[op.Key] = want[op.Key].mark
			}
		}
	}
	return nil
}

// copies are what the host's own store keeps of a network's peers.
func (n *segment) copies() map[string]copied {
	want := map[string]copied{}
	for host, r := range n.peers {
		want[store.LocalPeerKey(n.rec.Network, host)] = copied{r.Revision, r}
	}
	return want
}

// idle says that copies of peers are left though no endpoint here needs them; the network's lock is held.
func (n *segment) idle() bool { return len(n.endpoints) == 0 && len(n.stored.written) > 0 }

// copyOfHost is what the host's own store keeps of another host: only where its tunnels end and what they carry matters.
func copyOfHost(h store.Host) copied { return copied{fmt.Sprint(h.VTEP, " ", h.MTU), h} }
