package ipamdriver

import (
	"iter"
	"net/netip"
	"sync"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// swarmCursor is where Swarm's manager found an address of a pool last. It is a guess that saves reading blocks which are full: any block may have a free
// address, and all are tried before there is none. It is safe for concurrent use.
type swarmCursor struct {
	mu sync.Mutex
	at int // the place of the block in the pool's order
	// freed are blocks that an address was given back in since they were found full.
	freed map[netip.Prefix]bool
}

// cursorOf is the cursor of a pool, made if there is none.
func (d *Driver) cursorOf(pool ipalloc.Pool) *swarmCursor {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := [2]netip.Prefix{pool.CIDR, pool.Range}
	if d.cursors == nil {
		d.cursors = map[[2]netip.Prefix]*swarmCursor{}
	}
	if d.cursors[key] == nil {
		d.cursors[key] = &swarmCursor{freed: map[netip.Prefix]bool{}}
	}
	return d.cursors[key]
}

// blocks gives all blocks of the pool with their places: that of the cursor and the one behind it, then those in which an address was given back, then the
// others. A block that was given back in may come twice.
func (c *swarmCursor) blocks(pool ipalloc.Pool) iter.Seq2[int, netip.Prefix] {
	c.mu.Lock()
	start := c.at
	c.mu.Unlock()
	in := func(from, to int, yield func(int, netip.Prefix) bool) bool {
		i := -1
		for block := range pool.Blocks(store.SwarmOwner().String()) {
			if i++; i < from {
				continue
			}
			if to >= 0 && i >= to {
				return true
			}
			if !yield(i, block) {
				return false
			}
		}
		return true
	}
	return func(yield func(int, netip.Prefix) bool) {
		if !in(start, start+2, yield) {
			return
		}
		for block := range c.hints() {
			if !yield(start, block) {
				return
			}
		}
		_ = in(start+2, -1, yield) && in(0, start, yield)
	}
}

// hints are the blocks in which an address was given back.
func (c *swarmCursor) hints() map[netip.Prefix]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	hints := make(map[netip.Prefix]bool, len(c.freed))
	for block := range c.freed {
		hints[block] = true
	}
	return hints
}

// found notes that the block at this place had a free address.
func (c *swarmCursor) found(at int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

// full notes that a block has none.
func (c *swarmCursor) full(block netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.freed, block)
}

// released notes that an address of a block is given back.
func (c *swarmCursor) released(block netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.freed[block] = true
}
