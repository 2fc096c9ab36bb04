package subnets

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/store"
)

// unreadNetwork stands for the network of a pool whose record can't be read.
const unreadNetwork = "of a record that can't be read"

// readPools reads the cluster's pools if they may have changed. Of pools that had a network when they were read last, only the subnets are read, unless a
// network was removed: what one network more costs does not grow with those that there are.
func (t *Tracker) readPools(ctx context.Context) error {
	if !t.poolsChanged.Swap(false) {
		return nil
	}
	unsure := t.poolsUnsure.Swap(false)
	pools, err := t.nowPools(ctx, unsure)
	var asked map[netip.Prefix]bool
	if err == nil {
		asked, err = t.askedFor(ctx, pools)
	}
	if err != nil {
		t.poolsUnsure.Store(unsure || t.poolsUnsure.Load())
		t.poolsChanged.Store(true)
		return err
	}
	t.known, t.askedPools = pools, asked
	return nil
}

// nowPools are the pools as they are: all as they are read, or those that had a network as they were.
func (t *Tracker) nowPools(ctx context.Context, all bool) ([]store.Pool, error) {
	if all {
		pools, unread, err := t.cluster.AllPools(ctx)
		for _, cidr := range unread.Subnets() {
			pools = append(pools, store.Pool{CIDR: cidr, Network: unreadNetwork})
		}
		return pools, err
	}
	subnets, err := t.cluster.Subnets(ctx)
	if err != nil {
		return nil, err
	}
	used := make(map[netip.Prefix]store.Pool, len(t.known))
	for _, p := range t.known {
		if p.Network != "" {
			used[p.CIDR] = p
		}
	}
	var pools []store.Pool
	for _, cidr := range subnets {
		p, is := used[cidr]
		if !is {
			p, err = t.cluster.Pool(ctx, cidr)
		}
		switch {
		case err == nil:
			pools = append(pools, p)
		case errors.Is(err, store.ErrInvalid):
			pools = append(pools, store.Pool{CIDR: cidr, Network: unreadNetwork})
		case !errors.Is(err, store.ErrNotFound): // else it was removed just now
			return nil, err
		}
		err = nil
	}
	slices.SortFunc(pools, func(a, b store.Pool) int { return a.CIDR.Compare(b.CIDR) })
	return pools, nil
}

// askedFor are the pools that no network uses and this host's Docker has asked for.
func (t *Tracker) askedFor(ctx context.Context, pools []store.Pool) (map[netip.Prefix]bool, error) {
	asked := map[netip.Prefix]bool{}
	for _, p := range pools {
		if p.Network != "" {
			continue
		}
		held, err := t.cluster.Holds(ctx, p.CIDR)
		if err != nil {
			return nil, err
		}
		asked[p.CIDR] = held
	}
	return asked, nil
}
