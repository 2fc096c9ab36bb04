package store

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
)

// MaxBlocks is the largest number of blocks of one ChangeBlocks: full IPv6 blocks have about 7 KiB each, and
// a transaction must stay within Consul's 512 KiB after base64.
const MaxBlocks = 32

// ClaimDecision says, given a block's claims as they are now, which of its addresses this host takes and which it
// gives back. It may be asked several times, as other hosts may be faster; the last answer counts. An address that is
// taken must be free or this host's own: then its claim is written anew, which fences a late write of before.
type ClaimDecision func(block netip.Prefix, claims map[netip.Addr]Claim) (take, give []netip.Addr)

// ChangeBlocks claims and gives back many addresses of a pool for this host in one transaction, which touches at
// most MaxBlocks blocks. Those of which empty says so are taken for empty without being read: a guess that costs time if it is wrong,
// and saves most of it if not. It may be nil. ChangeBlocks returns the claims of those blocks as they are afterwards, and which addresses were taken.
// Only what it returned without an error is this host's: after ErrUnavailable each part may or may not have
// taken effect, also later.
func (c ClaimRecords) ChangeBlocks(ctx context.Context, pool netip.Prefix, blocks []netip.Prefix, empty func(netip.Prefix) bool, decide ClaimDecision) (
	after map[netip.Prefix]map[netip.Addr]Claim, taken []netip.Addr, err error) {
	if len(blocks) > MaxBlocks {
		return nil, nil, fmt.Errorf("%w: %d blocks in one transaction, more than %d", ErrInvalid, len(blocks), MaxBlocks)
	}
	claim := Claim{Owner: c.owner, Nonce: NewNonce()}
	err = c.change(ctx, func() ([]Op, error) {
		now, poolVersion, err := c.readBlocks(ctx, pool, blocks, empty)
		if err != nil {
			return nil, err
		}
		empty = nil // one guess: the next try comes after a conflict
		var ops []Op
		after, taken = map[netip.Prefix]map[netip.Addr]Claim{}, nil
		for i, block := range blocks {
			record, version := now[i].record, now[i].version
			before := record.Claims
			take, give := decide(block, maps.Clone(before)) // whatever it does to its copy
			record.Claims = make(Claims, len(before)+len(take))
			maps.Copy(record.Claims, before)
			for _, a := range give {
				if record.Claims[a].Owner == c.owner {
					delete(record.Claims, a)
				}
			}
			for _, a := range take {
				if has, is := record.Claims[a]; !is || has.Owner == c.owner {
					record.Claims[a] = claim
				}
			}
			for a, has := range record.Claims {
				if has == claim { // also when an earlier try took effect
					taken = append(taken, a)
				}
			}
			after[block] = record.Claims
			if maps.Equal(before, record.Claims) {
				continue
			}
			key := BlockKey(pool, block)
			if record.Schema = Schema; len(record.Claims) == 0 {
				ops = append(ops, Op{Kind: OpDelete, Key: key, Version: version})
			} else {
				ops = append(ops, Op{Kind: OpSet, Key: key, Value: Encode(record), Version: version})
			}
		}
		slices.SortFunc(taken, netip.Addr.Compare)
		if len(ops) == 0 {
			return nil, nil
		}
		if poolVersion == 0 && len(taken) > 0 { // no claim may outlive its pool
			return nil, fmt.Errorf("%w: subnet %s is not known to the cluster", ErrNotFound, pool)
		}
		return append(ops, Op{Kind: OpCheck, Key: PoolKey(pool), Version: poolVersion}), nil
	})
	if err != nil {
		return nil, nil, err
	}
	return after, taken, nil
}

// blockAt is a block as it was read.
type blockAt struct {
	record  Block
	version uint64
}

// readBlocks reads blocks and the version of their pool, at once: each is a round trip. It leaves those out that are empty, as empty says.
func (c *core) readBlocks(ctx context.Context, pool netip.Prefix, blocks []netip.Prefix, empty func(netip.Prefix) bool) ([]blockAt, uint64, error) {
	const atOnce = 8
	got, errs := make([]blockAt, len(blocks)), make([]error, len(blocks)+1)
	var poolVersion uint64
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, block := range blocks {
		if empty != nil && empty(block) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			got[i].record, got[i].version, errs[i] = find[Block](ctx, c.kv, BlockKey(pool, block))
		})
	}
	_, poolVersion, errs[len(blocks)] = find[Pool](ctx, c.kv, PoolKey(pool))
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, 0, err
		}
	}
	return got, poolVersion, nil
}
