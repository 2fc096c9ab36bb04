package openflow

import (
	"context"
	"slices"
)

// call is a request whose answers are awaited: all messages with the transaction
// ids from first to last.
type call struct {
	first, last uint32
	// passing says that handle keeps nothing of an answer: its memory is that of the next one, too.
	passing bool
	// handle takes an answer. It runs in the connection's reader, one message at
	// a time, so it must not wait; what it writes may be read once a channel that
	// it closes is seen closed.
	handle func(message)
}

// begin registers a call with n transaction ids. end must follow.
func (c *Conn) begin(n uint32, handle func(m message, index uint32)) (*call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	if c.xid+n < c.xid { // 0 is for messages without an answer.
		c.xid = 1
	}
	first := c.xid
	c.xid += n
	k := &call{first: first, last: first + n - 1, handle: func(m message) { handle(m, m.xid-first) }}
	c.calls = append(c.calls, k)
	return k, nil
}

func (c *Conn) end(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = slices.DeleteFunc(c.calls, func(x *call) bool { return x == k })
}

// find finds the call that a transaction id belongs to; c.mu is held.
func (c *Conn) find(xid uint32) *call {
	for _, k := range c.calls {
		if k.first <= xid && xid <= k.last {
			return k
		}
	}
	return nil
}

// keepsNothing is for a roundTrip whose handle keeps nothing of an answer.
func keepsNothing(k *call) { k.passing = true }

// passing says whether the call of a transaction id keeps nothing of its answers.
func (c *Conn) passing(xid uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.find(xid)
	return k != nil && k.passing
}

// await waits for a call's answer.
func (c *Conn) await(ctx context.Context, answered <-chan struct{}) error {
	select {
	case <-answered:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return c.Err()
	}
}

// roundTrip sends one message and gives its answers to handle until that says
// that there are no more. An error message ends it.
func (c *Conn) roundTrip(ctx context.Context, subject string, request func(xid uint32) []byte,
	handle func(message) (more bool, err error), of ...func(*call),
) error {
	answered := make(chan struct{})
	var result error
	over := false
	k, err := c.begin(1, func(m message, _ uint32) {
		if over {
			return
		}
		var more bool
		if m.kind == typeError {
			result = decodeError(m.body, subject)
		} else {
			more, result = handle(m)
		}
		if result != nil || !more {
			over = true
			close(answered)
		}
	})
	if err != nil {
		return err
	}
	defer c.end(k)
	c.mu.Lock()
	for _, set := range of { // before there is an answer
		set(k)
	}
	c.mu.Unlock()
	if err := c.send(ctx, request(k.first)); err != nil {
		return err
	}
	if err := c.await(ctx, answered); err != nil {
		return err
	}
	return result
}
