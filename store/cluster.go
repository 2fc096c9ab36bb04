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
// keeps nothing in memory but which subnets there were at some revisions of the pools; each change is a read, a decision and one
// transaction, repeated when another host was faster. All changes can be
// repeated safely, also when the answer to the first try was lost.
//
// It is made of the owners of each kind of record. What needs one kind only can be given that one. Its own methods are about all kinds: [Cluster.Import] and
// [Cluster.Garbage].
type Cluster struct {
	*core
	NetworkRecords
	PoolRecords
	ClaimRecords
	EndpointRecords
	HostRecords
	LayoutRecord
	MemberRecords
}

// Owners of one kind of record each. They are values of a pointer, may be copied, and are safe for concurrent use.
type (
	// NetworkRecords are the networks with their names, VNIs and declarations, and which hosts have them.
	NetworkRecords struct{ *core }
	// PoolRecords are the subnets, and who holds them.
	PoolRecords struct{ *core }
	// ClaimRecords are whose each address is, and what hosts ask of each other and tell about theirs.
	ClaimRecords struct{ *core }
	// EndpointRecords are what hosts publish of their containers.
	EndpointRecords struct{ *core }
	// HostRecords are the hosts, which of them are alive, and since when others are not.
	HostRecords struct{ *core }
	// LayoutRecord is the layout of all records.
	LayoutRecord struct{ *core }
	// MemberRecords are the members, keys and tokens of a cluster of our own.
	MemberRecords struct{ *core }
)

// core is what all owners share.
type core struct {
	kv    KV
	host  string
	owner Owner // of what is claimed
	sets  *poolSets
	// known are the hosts as their watcher has them, see WithHosts; nil if there is none.
	known KnownHosts
}

func (c *core) networks() NetworkRecords   { return NetworkRecords{c} }
func (c *core) pools() PoolRecords         { return PoolRecords{c} }
func (c *core) claims() ClaimRecords       { return ClaimRecords{c} }
func (c *core) endpoints() EndpointRecords { return EndpointRecords{c} }
func (c *core) hosts() HostRecords         { return HostRecords{c} }
func (c *core) members() MemberRecords     { return MemberRecords{c} }

// NewCluster returns the cluster's state in kv as the host with this id sees and changes it.
func NewCluster(kv KV, host string) *Cluster {
	return newCluster(core{kv: kv, host: host, owner: HostOwner(host), sets: &poolSets{}})
}

func newCluster(c core) *Cluster {
	k := &c
	return &Cluster{
		core: k, NetworkRecords: NetworkRecords{k}, PoolRecords: PoolRecords{k}, ClaimRecords: ClaimRecords{k}, EndpointRecords: EndpointRecords{k},
		HostRecords: HostRecords{k}, LayoutRecord: LayoutRecord{k}, MemberRecords: MemberRecords{k},
	}
}

// ForSwarm is the same cluster as Swarm's manager on this host claims addresses in it: [ClaimRecords.Keep] and [ClaimRecords.ChangeBlocks] claim for Swarm.
func (c *Cluster) ForSwarm() *Cluster {
	swarm := *c.core
	swarm.owner = SwarmOwner()
	return newCluster(swarm)
}

// KnownHosts are the cluster's hosts as a watcher of their records has them, by id, without those that can't be read. current is false while the watcher has not read them or does not
// hear the store. It waits for nothing and is safe for concurrent use; callers do not change the map.
type KnownHosts func() (hosts map[string]Host, current bool)

// WithHosts is the same cluster beside a watcher of the hosts' records: what only has to know what hosts use takes them from there ([HostRecords.Used]), and does not list them.
func (c *Cluster) WithHosts(known KnownHosts) *Cluster {
	with := *c.core
	with.known = known
	return newCluster(with)
}

// KV is the store in which the records are.
func (c *core) KV() KV { return c.kv }

// Host is the id of the host that makes the changes.
func (c *core) Host() string { return c.host }

// Owner is whose the addresses are that are claimed: the host's, or Swarm's.
func (c *core) Owner() Owner { return c.owner }

// change runs decide and applies its operations until they meet no conflict, which
// decide may meet too. No operations mean that there is nothing to do.
func (c *core) change(ctx context.Context, decide func() ([]Op, error)) error {
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
