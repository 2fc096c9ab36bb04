package store

import (
	"context"
	"net/netip"
)

// HostUse is what one host does with its claims, as far as claims and endpoints don't tell. Nobody watches it; it is as of a few
// seconds ago.
type HostUse struct {
	Schema int                      `json:"schema"`
	Host   string                   `json:"host"`
	Pools  map[netip.Prefix]PoolUse `json:"pools"`
}

// PoolUse counts some of a host's claims on one pool: addresses that were asked for by name, and released ones that rest.
type PoolUse struct {
	Static  int `json:"static,omitempty"`
	Resting int `json:"resting,omitempty"`
}

// PutUse tells what this host does with its claims; nothing to tell removes the record.
func (c ClaimRecords) PutUse(ctx context.Context, pools map[netip.Prefix]PoolUse) error {
	if len(pools) == 0 {
		return c.kv.Apply(ctx, Op{Kind: OpRemove, Key: UseKey(c.host)})
	}
	return c.kv.Apply(ctx, Op{Kind: OpPut, Key: UseKey(c.host), Value: Encode(HostUse{Schema: Schema, Host: c.host, Pools: pools})})
}

// Uses reads what all hosts tell of one pool, by host.
func (c ClaimRecords) Uses(ctx context.Context, pool netip.Prefix) (map[string]PoolUse, error) {
	all := map[string]PoolUse{}
	_, err := listKnown(ctx, c.kv, UsePrefix, func(_ Entry, u HostUse) error {
		if use, ok := u.Pools[pool]; ok {
			all[u.Host] = use
		}
		return nil
	})
	return all, err
}
