package store

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Unreadable are the records that a list left out because this agent can't read them: by key, why. A newer agent wrote them, or they
// were changed by hand. One such record stops nothing but what is about it.
type Unreadable map[string]error

// Err joins what is wrong, in the order of the keys; nil if nothing is.
func (u Unreadable) Err() error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(u)) {
		errs = append(errs, u[key])
	}
	return errors.Join(errs...)
}

// Subnets are the pools among the records. A pool's key names its subnet, which nobody else may use while the record can't be read.
func (u Unreadable) Subnets() []netip.Prefix {
	var all []netip.Prefix
	for _, key := range slices.Sorted(maps.Keys(u)) {
		if cidr, ok := poolOfKey(key); ok {
			all = append(all, cidr)
		}
	}
	return all
}

// poolOfKey reads what PoolKey gave.
func poolOfKey(key string) (netip.Prefix, bool) {
	part, ok := strings.CutPrefix(key, PoolsPrefix)
	if !ok {
		return netip.Prefix{}, false
	}
	cidr, err := netip.ParsePrefix(strings.Replace(part, "_", "/", 1))
	return cidr, err == nil && PoolKey(cidr) == key
}

// AllNetworks lists all networks of the cluster, and apart those whose records can't be read.
func (c NetworkRecords) AllNetworks(ctx context.Context) ([]Network, Unreadable, error) {
	records, unread, err := c.networkRecords(ctx)
	networks := make([]Network, len(records))
	for i, r := range records {
		networks[i] = r.Network
	}
	return networks, unread, err
}

// AllPools lists all pools of the cluster, and apart those whose records can't be read.
func (c PoolRecords) AllPools(ctx context.Context) ([]Pool, Unreadable, error) {
	records, unread, err := c.poolRecords(ctx)
	pools := make([]Pool, len(records))
	for i, r := range records {
		pools[i] = r.Pool
	}
	return pools, unread, err
}

// listKnown is list without the records that can't be read, or that each refuses; it returns these apart.
func listKnown[T any](ctx context.Context, kv KV, prefix string, each func(Entry, T) error) (Unreadable, error) {
	entries, err := kv.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	unread := Unreadable{}
	for _, e := range entries {
		record, err := Decode[T](e)
		if err == nil {
			err = each(e, record)
		}
		if err != nil {
			unread[e.Key] = err
		}
	}
	return unread, nil
}
