package store

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
)

// keptSets is how many sets of subnets are kept: that of the present revision, and those of transactions that are under way or whose answers were lost.
const keptSets = 8

// poolSets are the cluster's subnets at some of the pools' revisions. Each transaction that makes or removes a pool gives the revision a value that it never had, under
// the condition that it is as it was read; so a revision's value stands for one set of subnets for ever. It is safe for concurrent use.
type poolSets struct {
	mu   sync.Mutex
	sets []poolSet // the latest last
}

type poolSet struct {
	revision string
	subnets  []netip.Prefix // never changed
}

func (p *poolSets) at(revision string) ([]netip.Prefix, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.sets, func(s poolSet) bool { return s.revision == revision })
	if i < 0 {
		return nil, false
	}
	found := p.sets[i]
	p.sets = append(slices.Delete(p.sets, i, i+1), found)
	return found.subnets, true
}

func (p *poolSets) note(revision string, subnets []netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sets = append(p.sets, poolSet{revision, subnets})
	if len(p.sets) > keptSets {
		p.sets = slices.Delete(p.sets, 0, 1)
	}
}

// Subnets are the subnets of the cluster's pools, also of those whose records can't be read, in no order. It reads one key as long as only this process makes and removes pools,
// and lists all pools once after others did.
func (c PoolRecords) Subnets(ctx context.Context) ([]netip.Prefix, error) {
	subnets, _, _, err := c.poolSet(ctx)
	return subnets, err
}

// poolSet reads the subnets of all pools with the revision that they belong to, and says whether that was known without listing them. The subnets are shared.
func (c *core) poolSet(ctx context.Context) (subnets []netip.Prefix, revision Entry, known bool, err error) {
	revision, err = c.kv.Get(ctx, PoolsRevisionKey)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, revision, false, err
	}
	if revision.Version != 0 {
		if subnets, known = c.sets.at(string(revision.Value)); known {
			return subnets, revision, true, nil
		}
	}
	subnets, err = c.listPools(ctx, revision)
	return subnets, revision, false, err
}

// listPools lists the subnets of all pools, and keeps them if the revision has not changed meanwhile. Lists are never old.
func (c *core) listPools(ctx context.Context, revision Entry) ([]netip.Prefix, error) {
	pools, unread, err := c.pools().AllPools(ctx)
	if err != nil {
		return nil, err
	}
	subnets := unread.Subnets()
	for _, p := range pools {
		subnets = append(subnets, p.CIDR)
	}
	if revision.Version == 0 {
		return subnets, nil
	}
	now, err := c.kv.List(ctx, PoolsRevisionKey)
	if err != nil {
		return nil, err
	}
	for _, e := range now {
		if e.Key == PoolsRevisionKey && e.Version == revision.Version {
			c.sets.note(string(revision.Value), subnets)
		}
	}
	return subnets, nil
}

// nextSet is the operation by which a transaction changes the set of subnets from that of a revision to another.
func (c *core) nextSet(revision Entry, subnets []netip.Prefix) Op {
	nonce := NewNonce()
	c.sets.note(nonce, subnets)
	return Op{Kind: OpSet, Key: PoolsRevisionKey, Value: []byte(nonce), Version: revision.Version}
}
