// Package ipalloc is the arithmetic of addresses: which ones of a pool may be
// handed out, in which block each lies, and in which order a host tries them.
//
// It is pure: no clocks, no I/O, no state. It imports the standard library only and
// knows neither Docker nor the store.
package ipalloc

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"iter"
	"math/big"
	"net/netip"
	"strings"
)

// Pool is a subnet and the part of it from which addresses are chosen.
type Pool struct {
	// CIDR is the subnet.
	CIDR netip.Prefix
	// Range limits what is chosen (not what is asked for by name); it lies within
	// CIDR and is CIDR itself when nothing was asked for.
	Range netip.Prefix
	// Top says that addresses are chosen from the top of the range, as somebody
	// else fills it from the bottom.
	Top bool
}

// topMark ends the text form of a pool whose addresses are chosen from the top.
const topMark = ",top"

// blockBits makes blocks of 64 addresses.
const blockBits = 6

// String gives the form that Parse reads: CIDR or CIDR,RANGE, and ",top" at its end.
func (p Pool) String() string {
	text := p.CIDR.String()
	if p.Range != p.CIDR {
		text += "," + p.Range.String()
	}
	if p.Top {
		text += topMark
	}
	return text
}

// Parse reads what String gave.
func Parse(text string) (Pool, error) {
	rest, top := strings.CutSuffix(text, topMark)
	first, second, ranged := strings.Cut(rest, ",")
	cidr, err := netip.ParsePrefix(first)
	if err != nil {
		return Pool{}, fmt.Errorf("unknown pool %q: %w", text, err)
	}
	var within netip.Prefix
	if ranged {
		if within, err = netip.ParsePrefix(second); err != nil {
			return Pool{}, fmt.Errorf("unknown pool %q: %w", text, err)
		}
	}
	p, err := New(cidr, within)
	p.Top = top
	return p, err
}

// New checks a subnet and its range; an invalid (zero) range is the whole subnet.
func New(cidr, within netip.Prefix) (Pool, error) {
	if !cidr.IsValid() {
		return Pool{}, fmt.Errorf("a subnet is needed")
	}
	if cidr != cidr.Masked() {
		return Pool{}, fmt.Errorf("subnet %s has host bits set: use %s", cidr, cidr.Masked())
	}
	if cidr.Addr().Is4In6() {
		return Pool{}, fmt.Errorf("subnet %s is an IPv4 subnet in IPv6 form: write it as IPv4", cidr)
	}
	if !within.IsValid() {
		return Pool{CIDR: cidr, Range: cidr}, nil
	}
	within = within.Masked()
	if !cidr.Contains(within.Addr()) || within.Bits() < cidr.Bits() {
		return Pool{}, fmt.Errorf("range %s is not within subnet %s", within, cidr)
	}
	return Pool{CIDR: cidr, Range: within}, nil
}

// Assignable says whether addr can be a container's or gateway's address
// at all: it is in the subnet and neither its network, broadcast (IPv4) nor
// subnet-router anycast address (IPv6, RFC 4291 2.6.1). Subnets of one or two
// addresses have no reserved ones (RFC 3021, RFC 6164).
func (p Pool) Assignable(addr netip.Addr) bool {
	if !p.CIDR.Contains(addr) {
		return false
	}
	if addr.BitLen()-p.CIDR.Bits() <= 1 {
		return true
	}
	if addr == p.CIDR.Addr() {
		return false
	}
	return addr.Is6() || addr != Last(p.CIDR)
}

// Pair says whether a subnet has at most two addresses that can be containers': /30 and longer, IPv6 /127 and longer. No address
// is reserved for a gateway there.
func Pair(cidr netip.Prefix) bool {
	if cidr.Addr().Is4() {
		return cidr.Bits() >= 30
	}
	return cidr.Bits() >= 127
}

// Last is the highest address of a prefix.
func Last(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		b := p.Addr().As4()
		fillFrom(b[:], p.Bits())
		return netip.AddrFrom4(b)
	}
	b := p.Addr().As16()
	fillFrom(b[:], p.Bits())
	return netip.AddrFrom16(b)
}

// fillFrom sets all bits from the nth.
func fillFrom(b []byte, n int) {
	for i := n / 8; i < len(b); i++ {
		b[i] |= 0xff >> max(n-i*8, 0)
	}
}

// Blocks gives the blocks of the range, each once, beginning at a place
// that depends on the host, so that hosts seldom want the same block; those of a pool
// that is filled from the top come in falling order, whatever the host.
func (p Pool) Blocks(host string) iter.Seq[netip.Prefix] {
	bits := max(p.Range.Bits(), p.Range.Addr().BitLen()-blockBits)
	// Beyond 2^32 blocks (an IPv6 /90 has that many) the first 2^32 are plenty.
	n := uint64(1) << min(bits-p.Range.Bits(), 32)
	h := fnv.New64a()
	_, _ = h.Write([]byte(host + " " + p.CIDR.String())) // never fails
	start := h.Sum64() % n
	return func(yield func(netip.Prefix) bool) {
		for i := range n {
			which := (start + i) % n
			if p.Top {
				which = n - 1 - i
			}
			addr := add(p.Range.Addr(), which, p.Range.Addr().BitLen()-bits)
			if !yield(netip.PrefixFrom(addr, bits)) {
				return
			}
		}
	}
}

// Free returns the lowest address of block that may be chosen and is not taken; the highest if p is filled from the top.
func (p Pool) Free(block netip.Prefix, taken func(netip.Addr) bool) (netip.Addr, bool) {
	first, next := block.Addr(), netip.Addr.Next
	if p.Top {
		first, next = Last(block), netip.Addr.Prev
	}
	for a := first; a.IsValid() && block.Contains(a); a = next(a) {
		if p.Range.Contains(a) && p.Assignable(a) && !taken(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Size is the number of addresses that may be chosen, at most 2^62.
func (p Pool) Size() uint64 {
	hostBits := p.Range.Addr().BitLen() - p.Range.Bits()
	if hostBits > 62 {
		return 1 << 62
	}
	n := uint64(1) << hostBits
	for _, reserved := range []netip.Addr{p.CIDR.Addr(), Last(p.CIDR)} {
		if p.Range.Contains(reserved) && !p.Assignable(reserved) {
			n--
		}
	}
	return n
}

// Slices gives the subnets of the given length within a prefix, in order.
func Slices(within netip.Prefix, bits int) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		if bits < within.Bits() || bits > within.Addr().BitLen() {
			return
		}
		for i := range uint64(1) << min(bits-within.Bits(), 32) {
			if !yield(netip.PrefixFrom(add(within.Addr(), i, within.Addr().BitLen()-bits), bits)) {
				return
			}
		}
	}
}

// add returns base + (n << shift).
func add(base netip.Addr, n uint64, shift int) netip.Addr {
	if base.Is4() {
		b := base.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n<<shift))
		return netip.AddrFrom4(b)
	}
	b := base.As16()
	sum := new(big.Int).Lsh(new(big.Int).SetUint64(n), uint(shift))
	sum.Add(sum, new(big.Int).SetBytes(b[:]))
	var out [16]byte
	raw := sum.Bytes()
	if len(raw) > 16 {
		raw = raw[len(raw)-16:]
	}
	copy(out[16-len(raw):], raw)
	return netip.AddrFrom16(out)
}
