package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Errors of the cluster's state. They are matched with errors.Is.
var (
	// ErrTaken says that an address belongs to somebody else.
	ErrTaken = errors.New("address in use")
	// ErrOverlap says that a pool overlaps another one of the cluster, or a subnet that a host uses by itself.
	ErrOverlap = errors.New("subnet overlaps")
	// ErrMismatch says that a network exists in another form.
	ErrMismatch = errors.New("network differs")
	// ErrInUse says that this host uses the network or pool already.
	ErrInUse = errors.New("already in use on this host")
	// ErrNameTaken says that another network has the name.
	ErrNameTaken = errors.New("name in use")
	// ErrHasEndpoints says that containers use the network.
	ErrHasEndpoints = errors.New("network has containers")
)

// Cluster reads and changes the cluster's records on behalf of one host. It
// keeps nothing in memory; each change is a read, a decision and one
// transaction, repeated when another host was faster. All changes can be
// repeated safely, also when the answer to the first try was lost.
type Cluster struct {
	kv    KV
	host  string
	owner Owner // of what is claimed
}

// NewCluster returns the cluster's state in kv as the host with this id sees and changes it.
func NewCluster(kv KV, host string) *Cluster {
	return &Cluster{kv: kv, host: host, owner: HostOwner(host)}
}

// ForSwarm is the same cluster as Swarm's manager on this host claims addresses in it: [Cluster.Keep] and [Cluster.ChangeBlocks] claim for Swarm.
func (c *Cluster) ForSwarm() *Cluster { return &Cluster{kv: c.kv, host: c.host, owner: SwarmOwner()} }

// KV is the store in which the records are.
func (c *Cluster) KV() KV { return c.kv }

// Host is the id of the host that makes the changes.
func (c *Cluster) Host() string { return c.host }

// Owner is whose the addresses are that are claimed: the host's, or Swarm's.
func (c *Cluster) Owner() Owner { return c.owner }

// change runs decide and applies its operations until they meet no conflict, which
// decide may meet too. No operations mean that there is nothing to do.
func (c *Cluster) change(ctx context.Context, decide func() ([]Op, error)) error {
	for try := 0; ; try++ {
		ops, err := decide()
		if err == nil && len(ops) > 0 {
			err = c.kv.Apply(ctx, ops...)
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
		// Contenders spread out; the range doubles up to a quarter of a second.
		limit := time.Millisecond << min(try, 8)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: other hosts kept changing the same record: %w", ErrConflict, context.Cause(ctx))
		case <-time.After(rand.N(limit)):
		}
	}
}

// find reads one record; the version is 0 and the record empty when there is none.
func find[T any](ctx context.Context, kv KV, key string) (T, uint64, error) {
	var none T
	e, err := kv.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return none, 0, nil
	}
	if err != nil {
		return none, 0, err
	}
	record, err := Decode[T](e)
	return record, e.Version, err
}

// list reads all records under a prefix; it calls each for every one.
func list[T any](ctx context.Context, kv KV, prefix string, each func(Entry, T)) error {
	entries, err := kv.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, e := range entries {
		record, err := Decode[T](e)
		if err != nil {
			return err
		}
		each(e, record)
	}
	return nil
}
