package openflow

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/socketplane/socketplane/internal/crashpoint"
)

// bundle is the state of one bundle under way: its messages, and what the switch
// said so far.
type bundle struct {
	mods      []mod
	closed    chan struct{} // closed when the switch has answered the close request
	committed chan struct{} // likewise the commit request

	mu      sync.Mutex
	refused error  // the first
	flows   []Flow // that were refused
	stage   uint16 // the last control that was answered
}

// change applies mods in this order in one bundle, all or nothing, and waits
// until the switch forwards by them.
func (c *Conn) change(ctx context.Context, mods []mod) error {
	if len(mods) == 0 {
		return nil
	}
	b := &bundle{mods: mods, closed: make(chan struct{}), committed: make(chan struct{})}
	// The ids are those of open, the mods, close and commit; the first also names
	// the bundle within the connection.
	n := uint32(len(mods)) + 3
	k, err := c.begin(n, b.handle)
	if err != nil {
		return err
	}
	defer c.end(k)
	id := k.first
	crashpoint.Hit("openflow: bundle")
	c.count(func(n *counters) *atomic.Uint64 { return &n.bundles }, 1)
	c.count(func(n *counters) *atomic.Uint64 { return &n.flowMods }, len(mods))
	if err := c.sendBundle(ctx, id, mods); err != nil {
		// The switch would keep the bundle for ten seconds.
		c.postpone(bundleControl(0, id, bundleDiscard))
		return err
	}
	if err := c.await(ctx, b.closed); err != nil {
		c.postpone(bundleControl(0, id, bundleDiscard))
		return err
	}
	if err := b.result(); err != nil {
		// What the switch can't parse is not part of the bundle: a commit would
		// apply the rest.
		c.postpone(bundleControl(0, id, bundleDiscard))
		return err
	}
	crashpoint.Hit("openflow: commit")
	if err := c.send(ctx, bundleControl(k.last, id, bundleCommit)); err != nil {
		c.postpone(bundleControl(0, id, bundleDiscard))
		return err
	}
	if err := c.await(ctx, b.committed); err != nil {
		return fmt.Errorf("%w (the switch may or may not have applied %d changes)", err, len(mods))
	}
	crashpoint.Hit("openflow: committed")
	return b.result()
}

// sendBundle writes a bundle up to its close, in large pieces.
func (c *Conn) sendBundle(ctx context.Context, id uint32, mods []mod) error {
	buf := append(newBuffer(len(mods)), bundleControl(id, id, bundleOpen)...)
	xid := id
	for i := range mods {
		xid++
		var err error
		if buf, err = appendBundleAdd(buf, xid, id, mods[i]); err != nil {
			return &FlowError{Flow: mods[i].flow, Err: fmt.Errorf("%s: %w", mods[i], err)}
		}
		if len(buf) >= bufferSize {
			if err := c.send(ctx, buf); err != nil {
				return err
			}
			buf = newBuffer(len(mods) - i)
		}
	}
	return c.send(ctx, append(buf, bundleControl(xid+1, id, bundleClose)...))
}

// newBuffer makes a buffer for a piece of a bundle that has n more messages.
func newBuffer(n int) []byte { return make([]byte, 0, min(n*256+64, bufferSize+4<<10)) }

// handle takes the answer to the index-th message of the bundle.
func (b *bundle) handle(m message, index uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := uint32(len(b.mods))
	switch {
	case m.kind == typeError:
		b.refuse(m.body, index)
		if index == n+1 {
			b.reach(bundleClose)
		} else if index == n+2 {
			b.reach(bundleCommit)
		}
	case m.kind == typeBundleControl && len(m.body) >= 8:
		switch be16(m.body[4:]) {
		case bundleCloseReply:
			b.reach(bundleClose)
		case bundleCommitReply:
			b.reach(bundleCommit)
		}
	}
}

// refuse notes an error. The control messages' own errors only repeat that there
// was one.
func (b *bundle) refuse(body []byte, index uint32) {
	if n := uint32(len(b.mods)); index >= 1 && index <= n {
		if b.flows = append(b.flows, b.mods[index-1].flow); len(b.flows) == 1 {
			b.refused = decodeError(body, b.mods[index-1].String())
		}
	} else if b.refused == nil {
		b.refused = decodeError(body, fmt.Sprintf("a bundle of %d changes", n))
	}
}

func (b *bundle) reach(stage uint16) {
	if b.stage < bundleClose {
		b.stage = bundleClose
		close(b.closed)
	}
	if stage == bundleCommit && b.stage < bundleCommit {
		b.stage = bundleCommit
		close(b.committed)
	}
}

func (b *bundle) result() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.refused.(*Error); ok && len(b.flows) > 0 {
		e.More, e.Flows = len(b.flows)-1, b.flows
	}
	return b.refused
}
