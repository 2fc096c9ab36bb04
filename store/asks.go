package store

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

// AsksPrefix is the prefix of all Asks; mostly there is none, so that it is cheap to watch.
const AsksPrefix = Root + "asks/"

// asksOf is the prefix of a pool's Asks.
func asksOf(pool netip.Prefix) string { return AsksPrefix + cidrPart(pool) + "/" }

// Ask is a host's request that others give back addresses of a pool that they do not use. Each of Hosts
// strikes itself out when it has done what it could; the last one removes the key.
type Ask struct {
	Schema int          `json:"schema"`
	ID     string       `json:"id"`
	Pool   netip.Prefix `json:"pool"`
	// From is the host that asks.
	From string `json:"from"`
	// Addr is the one that is wanted; invalid means any.
	Addr  netip.Addr `json:"addr,omitzero"`
	Hosts []string   `json:"hosts"`
}

func (a Ask) key() string { return asksOf(a.Pool) + a.ID }

// Ask asks other hosts for addresses of a pool.
func (c ClaimRecords) Ask(ctx context.Context, pool netip.Prefix, addr netip.Addr, hosts []string) (Ask, error) {
	a := Ask{Schema: Schema, ID: NewNonce(), Pool: pool, From: c.host, Addr: addr, Hosts: hosts}
	return a, c.change(ctx, func() ([]Op, error) {
		_, version, err := find[Pool](ctx, c.kv, PoolKey(pool))
		if err != nil {
			return nil, err
		}
		if version == 0 {
			return nil, fmt.Errorf("%w: subnet %s is not known to the cluster", ErrNotFound, pool)
		}
		return []Op{{Kind: OpCheck, Key: PoolKey(pool), Version: version}, {Kind: OpPut, Key: a.key(), Value: Encode(a)}}, nil
	})
}

// Asked says whether hosts have still to answer.
func (c ClaimRecords) Asked(ctx context.Context, a Ask) (bool, error) {
	_, version, err := find[Ask](ctx, c.kv, a.key())
	return version != 0, err
}

// Answer strikes this host out of an Ask.
func (c ClaimRecords) Answer(ctx context.Context, a Ask) error {
	return c.change(ctx, func() ([]Op, error) {
		now, version, err := find[Ask](ctx, c.kv, a.key())
		if err != nil || version == 0 || !slices.Contains(now.Hosts, c.host) {
			return nil, err
		}
		if now.Hosts = without(now.Hosts, c.host); len(now.Hosts) == 0 {
			return []Op{{Kind: OpDelete, Key: a.key(), Version: version}}, nil
		}
		return []Op{{Kind: OpSet, Key: a.key(), Value: Encode(now), Version: version}}, nil
	})
}

// EndAsk removes an Ask whose answers are not waited for any more.
func (c ClaimRecords) EndAsk(ctx context.Context, a Ask) error {
	return c.kv.Apply(ctx, Op{Kind: OpRemove, Key: a.key()})
}

// Asks lists all Asks.
func (c ClaimRecords) Asks(ctx context.Context) ([]Ask, error) {
	var asks []Ask
	_, err := listKnown(ctx, c.kv, AsksPrefix, func(e Entry, a Ask) error {
		if !isPermanent(e.Key) {
			asks = append(asks, a)
		}
		return nil
	})
	return asks, err
}

// WatchAsks is KV.Watch for all Asks. One that can't be read is left out: who asks waits for a moment only, and others' must be answered.
func (c ClaimRecords) WatchAsks(ctx context.Context, since uint64) ([]Ask, uint64, error) {
	entries, index, err := c.kv.Watch(ctx, AsksPrefix, since)
	if err != nil {
		return nil, 0, err
	}
	var asks []Ask
	for _, e := range dropPermanent(entries) {
		if a, err := Decode[Ask](e); err == nil {
			asks = append(asks, a)
		}
	}
	return asks, index, nil
}
