package ipalloc

import (
	"net/netip"
	"slices"
)

// BlockSize is the number of addresses of a block; smaller pools are one block.
const BlockSize = 1 << blockBits

// BlockOf returns the block of the pool in which addr lies.
func (p Pool) BlockOf(addr netip.Addr) netip.Prefix {
	block, err := addr.Prefix(max(p.CIDR.Bits(), addr.BitLen()-blockBits))
	if err != nil { // the length is within the address's by construction
		panic(err)
	}
	return block
}

// Use is how much of a block is claimed.
type Use struct {
	// Claims counts all of them, Own those of this host, Shared those of the network itself.
	Claims, Own, Shared int
}

// rank orders blocks: where only this host has claims, where nobody has, where others have.
func (u Use) rank() int {
	switch {
	case u.Claims > u.Own+u.Shared:
		return 2
	case u.Own > 0:
		return 0
	}
	return 1
}

// View is what a host has seen of a pool's blocks: hints for where to claim, which may be stale. It is not
// safe for concurrent use.
type View struct {
	use    map[netip.Prefix]Use
	roomy  [3]map[netip.Prefix]bool // by rank, those with claims and room for more
	claims int
}

// NewView returns a view in which all blocks are empty.
func NewView() *View {
	v := &View{use: map[netip.Prefix]Use{}}
	for i := range v.roomy {
		v.roomy[i] = map[netip.Prefix]bool{}
	}
	return v
}

// See notes a block as it is now.
func (v *View) See(block netip.Prefix, u Use) {
	if was, known := v.use[block]; known {
		v.claims -= was.Claims
		delete(v.roomy[was.rank()], block)
		delete(v.use, block)
	}
	if u.Claims == 0 {
		return
	}
	v.use[block] = u
	v.claims += u.Claims
	if u.Claims < 1<<min(block.Addr().BitLen()-block.Bits(), blockBits) {
		v.roomy[u.rank()][block] = true
	}
}

// Empty says that no claims of a block were seen.
func (v *View) Empty(block netip.Prefix) bool {
	_, known := v.use[block]
	return !known
}

// Claims is how many claims all blocks have.
func (v *View) Claims() int { return v.claims }

// Choose names up to limit blocks of the pool's range in which n addresses may be found, the best first, but none that were
// tried: a block's last addresses may be reserved or outside the range.
func (v *View) Choose(p Pool, host string, n, limit int, tried map[netip.Prefix]bool) []netip.Prefix {
	var out []netip.Prefix
	add := func(block netip.Prefix) bool {
		if tried[block] {
			return true
		}
		size := 1 << min(block.Addr().BitLen()-block.Bits(), blockBits)
		out = append(out, block)
		n -= size - v.use[block].Claims
		return n > 0 && len(out) < limit
	}
	known := func(rank int) bool {
		for _, block := range sorted(v.roomy[rank]) {
			if p.Range.Overlaps(block) && !add(block) {
				return false
			}
		}
		return true
	}
	if n <= 0 || !known(0) {
		return out
	}
	for part := range p.Blocks(host) {
		block := p.BlockOf(part.Addr())
		if u, seen := v.use[block]; seen && (u.Claims > u.Shared || !v.roomy[1][block]) {
			continue
		}
		if !add(block) {
			return out
		}
	}
	known(2)
	return out
}

func sorted(set map[netip.Prefix]bool) []netip.Prefix {
	all := make([]netip.Prefix, 0, len(set))
	for p := range set {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return all
}
