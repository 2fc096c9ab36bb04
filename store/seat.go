package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// ErrSameID says that another machine's agent acts under this host's id.
var ErrSameID = errors.New("another machine has this host's id")

// Question asks the agent that acts for a host whether it lives, in the host's record. Whoever asks has the same host id.
type Question struct {
	// Nonce tells questions apart.
	Nonce string `json:"nonce"`
	// Asker tells agents apart, so that none answers itself.
	Asker string     `json:"asker"`
	Name  string     `json:"name"`
	VTEP  netip.Addr `json:"vtep"`
}

// seatPoll is between two looks for an answer.
const seatPoll = 100 * time.Millisecond

// AskSeat finds out whether another agent that lives acts for this host. mine says which addresses are this machine's: a
// sign of life left by an agent at one of them is that of a predecessor, which has ended. An agent at another address is asked, and
// answers within patience if it lives. The record is that of whoever acted for the host at another address, alive or not; its id is empty if nobody did.
func (c HostRecords) AskSeat(ctx context.Context, q Question, mine func(netip.Addr) bool, patience time.Duration) (other Host, lives bool, err error) {
	alive, err := c.Alive(ctx)
	if err != nil {
		return Host{}, false, err
	}
	if other, _, err = find[Host](ctx, c.kv, HostKey(c.host)); err != nil || !other.VTEP.IsValid() || mine(other.VTEP) {
		return Host{}, false, err
	}
	for end := time.Now().Add(patience); alive && time.Now().Before(end); {
		now, err := c.putQuestion(ctx, c.host, q)
		switch {
		case err != nil:
			return other, false, err
		case now.Answered == q.Nonce:
			return now, true, nil
		}
		select {
		case <-ctx.Done():
			return other, false, fmt.Errorf("%w: asking the other agent: %w", ErrUnavailable, ctx.Err())
		case <-time.After(seatPoll):
		}
		if alive, err = c.Alive(ctx); err != nil {
			return other, false, err
		}
	}
	return other, false, nil
}

// NoteQuestion lets the agent that acts for a host know of another machine with the host's id.
func (c HostRecords) NoteQuestion(ctx context.Context, host string, q Question) error {
	_, err := c.putQuestion(ctx, host, q)
	return err
}

// putQuestion puts the question into a host's record, unless it is there or answered, and returns the record as it was.
func (c *core) putQuestion(ctx context.Context, host string, q Question) (Host, error) {
	var was Host
	err := c.change(ctx, func() ([]Op, error) {
		h, version, err := find[Host](ctx, c.kv, HostKey(host))
		if was = h; err != nil || version == 0 || h.Answered == q.Nonce || h.Asked != nil && h.Asked.Nonce == q.Nonce {
			return nil, err
		}
		h.Asked = &q
		value := Encode(h)
		ops, err := c.hostOps(ctx, host, value)
		return append(ops, Op{Kind: OpSet, Key: HostKey(host), Value: value, Version: version}), err
	})
	return was, err
}
