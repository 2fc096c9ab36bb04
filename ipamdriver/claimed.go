package ipamdriver

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// claimed is what the journal has of a pool's blocks: the addresses that this host has claimed there. One that has no record of
// its own is spare. So a claim of 2,048 addresses costs the journal 32 records. It is safe for concurrent use.
type claimed struct {
	mu     sync.Mutex // held while the journal is written, so that it says what is here
	blocks map[netip.Prefix]addrSet
}

// addrSet are addresses of one block: the first one's bit is the lowest. In records it is hexadecimal, as JSON's numbers end at 2^53.
type addrSet uint64

func (a addrSet) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(a), 16), nil }

func (a *addrSet) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 64)
	*a = addrSet(n)
	return err
}

// bit is the set of one address of the block.
func bit(block netip.Prefix, a netip.Addr) addrSet {
	all, first := a.AsSlice(), block.Addr().AsSlice()
	return 1 << (all[len(all)-1] - first[len(first)-1])
}

// claimedBlock is the journal's record of one block.
type claimedBlock struct {
	Schema int          `json:"schema"`
	Pool   netip.Prefix `json:"pool"`
	Block  netip.Prefix `json:"block"`
	Addrs  addrSet      `json:"addrs"`
}

// ops bring the journal's records to what some blocks shall have.
func (c *claimed) ops(pool netip.Prefix, blocks map[netip.Prefix]addrSet) []store.Op {
	ops := make([]store.Op, 0, len(blocks))
	for block, set := range blocks {
		op := store.Op{Kind: store.OpRemove, Key: store.LocalBlockKey(pool, block)}
		if set != 0 {
			op.Kind, op.Value = store.OpPut, store.Encode(claimedBlock{Schema: store.Schema, Pool: pool, Block: block, Addrs: set})
		}
		ops = append(ops, op)
	}
	return ops
}

// took notes what the journal has now.
func (c *claimed) took(blocks map[netip.Prefix]addrSet) {
	if c.blocks == nil {
		c.blocks = map[netip.Prefix]addrSet{}
	}
	for block, set := range blocks {
		if c.blocks[block] = set; set == 0 {
			delete(c.blocks, block)
		}
	}
}

// noteClaimed journals addresses that were claimed: they are spare.
func (d *Driver) noteClaimed(ctx context.Context, s *stock, addrs []netip.Addr) error {
	c := &s.claimed
	c.mu.Lock()
	defer c.mu.Unlock()
	blocks := map[netip.Prefix]addrSet{}
	for _, a := range addrs {
		block := store.BlockOf(s.pool, a)
		if _, is := blocks[block]; !is {
			blocks[block] = c.blocks[block]
		}
		blocks[block] |= bit(block, a)
	}
	if err := d.note(ctx, c.ops(s.pool, blocks)...); err != nil {
		return err
	}
	c.took(blocks)
	return nil
}

// forget removes addresses from the journal.
func (d *Driver) forget(ctx context.Context, s *stock, addrs ...netip.Addr) error {
	c := &s.claimed
	c.mu.Lock()
	defer c.mu.Unlock()
	blocks := map[netip.Prefix]addrSet{}
	ops := make([]store.Op, 0, len(addrs))
	for _, a := range addrs {
		block := store.BlockOf(s.pool, a)
		set, is := blocks[block]
		if !is {
			set = c.blocks[block]
		}
		if set&bit(block, a) != 0 {
			blocks[block] = set &^ bit(block, a)
		}
		ops = append(ops, store.Op{Kind: store.OpRemove, Key: store.LocalAddressKey(s.pool, a)})
	}
	if err := d.note(ctx, append(c.ops(s.pool, blocks), ops...)...); err != nil {
		return err
	}
	c.took(blocks)
	return nil
}

// loadClaimed reads the journal's blocks: all of their addresses are spare, unless a record of their own says something else.
func (d *Driver) loadClaimed(ctx context.Context) error {
	entries, err := d.journal.List(ctx, store.LocalBlocks)
	if err != nil {
		return err
	}
	for _, e := range entries {
		b, err := store.Decode[claimedBlock](e)
		if err != nil {
			return err
		}
		if !b.Block.IsValid() || !b.Pool.Contains(b.Block.Addr()) || b.Block != store.BlockOf(b.Pool, b.Block.Addr()) {
			return fmt.Errorf("%w: record %s is of no block: %s of %s", store.ErrInvalid, e.Key, b.Block, b.Pool)
		}
		s := d.stockOf(b.Pool)
		s.claimed.took(map[netip.Prefix]addrSet{b.Block: b.Addrs})
		s.dynamic = true
		for a := b.Block.Addr(); b.Block.Contains(a); a = a.Next() {
			if b.Addrs&bit(b.Block, a) != 0 {
				s.ledger.Put(a, ipalloc.Spare, s.now())
			}
		}
	}
	return nil
}
