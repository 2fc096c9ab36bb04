package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/trust"
)

// Errors of what users ask for. They are matched with errors.Is.
var (
	// ErrInCluster says that the host is in a cluster already.
	ErrInCluster = errors.New("already in a cluster")
	// ErrNotInCluster says that it is in none.
	ErrNotInCluster = errors.New("in no cluster")
)

// wish is what a user asks of the loop that does everything else too.
type wish struct {
	kind   wishKind
	locked bool
	force  bool
	join   []string
	token  *trust.Token
	answer chan error
}

type wishKind int

const (
	wishInit wishKind = iota
	wishJoin
	wishLeave
)

// Init founds a cluster without listening for others.
func (c *Cluster) Init(ctx context.Context, locked bool) error {
	return c.want(ctx, &wish{kind: wishInit, locked: locked})
}

// Join joins the cluster of these hosts, each HOST:PORT, or with none the one that is heard. It returns when this host is admitted.
func (c *Cluster) Join(ctx context.Context, addrs []string, token *trust.Token) error {
	return c.want(ctx, &wish{kind: wishJoin, join: addrs, token: token})
}

func (c *Cluster) want(ctx context.Context, w *wish) error {
	w.answer = make(chan error, 1)
	c.mu.Lock()
	c.wishes = append(c.wishes, w)
	c.mu.Unlock()
	c.poke()
	select {
	case err := <-w.answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the agent is busy, and may do it yet: see 'socketplane cluster members': %w", ctx.Err())
	}
}

// wished says whether a user waits.
func (c *Cluster) wished() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.wishes) > 0
}

func (c *Cluster) nextWish() *wish {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wishes) == 0 {
		return nil
	}
	w := c.wishes[0]
	c.wishes = c.wishes[1:]
	return w
}

// fulfil does what a user wants of a host that is in no cluster.
func (c *Cluster) fulfil(ctx context.Context, w *wish) error {
	switch w.kind {
	case wishInit:
		return c.found(ctx, w.locked, true)
	case wishJoin:
		return c.joinAs(ctx, w)
	default:
		return fmt.Errorf("%w: there is nothing to leave", ErrNotInCluster)
	}
}

func (c *Cluster) joinAs(ctx context.Context, w *wish) error {
	m := decide(sight{self: c.opts.Host, peers: c.disco.Peers()})
	if len(w.join) > 0 {
		addrs, err := c.resolve(ctx, w.join)
		if err != nil {
			return err
		}
		m = move{addrs: addrs}
	} else if m.do != ask {
		return fmt.Errorf("%w: none is heard that could be joined: name a host of it", ErrNotInCluster)
	}
	creds, err := c.askAny(ctx, m.addrs, admission.Question{Host: c.host(), Trust: c.trusts(), Token: w.token, Cluster: m.cluster})
	if err != nil {
		return err
	}
	return c.enter(creds)
}
