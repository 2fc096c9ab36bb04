package ipalloc_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/ipalloc"
)

func pool(t testing.TB, cidr, within string) ipalloc.Pool {
	t.Helper()
	var r netip.Prefix
	if within != "" {
		r = netip.MustParsePrefix(within)
	}
	p, err := ipalloc.New(netip.MustParsePrefix(cidr), r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNew(t *testing.T) {
	for _, c := range []struct{ name, cidr, within, text, err string }{
		{"whole", "10.1.0.0/24", "", "10.1.0.0/24", ""},
		{"range", "10.1.0.0/24", "10.1.0.128/25", "10.1.0.0/24,10.1.0.128/25", ""},
		{"range-unmasked", "10.1.0.0/24", "10.1.0.130/25", "10.1.0.0/24,10.1.0.128/25", ""},
		{"range-is-subnet", "10.1.0.0/24", "10.1.0.0/24", "10.1.0.0/24", ""},
		{"everything", "0.0.0.0/0", "", "0.0.0.0/0", ""},
		{"ipv6", "fd00::/64", "fd00::100/120", "fd00::/64,fd00::100/120", ""},
		{"host-bits", "10.1.0.1/24", "", "", "use 10.1.0.0/24"},
		{"range-larger", "10.1.0.0/24", "10.1.0.0/23", "", "not within"},
		{"range-outside", "10.1.0.0/24", "10.2.0.0/25", "", "not within"},
		{"range-other-family", "10.1.0.0/24", "fd00::/120", "", "not within"},
		{"mapped", "::ffff:10.1.0.0/120", "", "", "write it as IPv4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var within netip.Prefix
			if c.within != "" {
				within = netip.MustParsePrefix(c.within)
			}
			p, err := ipalloc.New(netip.MustParsePrefix(c.cidr), within)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error is %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil || p.String() != c.text {
				t.Fatalf("pool is %s (%v), want %s", p, err, c.text)
			}
		})
	}
	if _, err := ipalloc.New(netip.Prefix{}, netip.Prefix{}); err == nil {
		t.Error("no subnet at all is accepted")
	}
}

func TestSizeAndAssignable(t *testing.T) {
	for _, c := range []struct {
		cidr, within string
		size         uint64
		yes, no      string
	}{
		{"10.1.0.0/24", "", 254, "10.1.0.1 10.1.0.254", "10.1.0.0 10.1.0.255 10.1.1.1 10.0.255.255 fd00::1 ::ffff:10.1.0.1"},
		{"10.1.0.0/30", "", 2, "10.1.0.1 10.1.0.2", "10.1.0.0 10.1.0.3"},
		{"10.1.0.0/31", "", 2, "10.1.0.0 10.1.0.1", "10.1.0.2"},
		{"10.1.0.0/32", "", 1, "10.1.0.0", "10.1.0.1"},
		{"0.0.0.0/0", "", 1<<32 - 2, "0.0.0.1 255.255.255.254", "0.0.0.0 255.255.255.255"},
		{"10.0.0.0/8", "", 1<<24 - 2, "10.0.0.255 10.1.0.0", "10.0.0.0 10.255.255.255"},
		{"10.1.0.0/24", "10.1.0.0/25", 127, "10.1.0.200", "10.1.0.0"},
		{"10.1.0.0/24", "10.1.0.64/26", 64, "10.1.0.64 10.1.0.1", "10.1.0.255"},
		{"10.1.0.0/24", "10.1.0.255/32", 0, "10.1.0.254", "10.1.0.255"},
		{"fd00::/64", "", 1 << 62, "fd00::1 fd00::ffff:ffff:ffff:ffff", "fd00:: fd00:0:0:1::1 10.1.0.1 fd00::1%eth0"},
		{"fd00::/120", "", 255, "fd00::ff", "fd00::"},
		{"fd00::/127", "", 2, "fd00:: fd00::1", "fd00::2"},
		{"fd00::/128", "", 1, "fd00::", "fd00::1"},
		{"::/0", "", 1 << 62, "::1", "::"},
	} {
		t.Run(c.cidr+"-"+c.within, func(t *testing.T) {
			p := pool(t, c.cidr, c.within)
			if got := p.Size(); got != c.size {
				t.Errorf("size is %d, want %d", got, c.size)
			}
			for _, a := range strings.Fields(c.yes) {
				if !p.Assignable(netip.MustParseAddr(a)) {
					t.Errorf("%s is not assignable", a)
				}
			}
			for _, a := range strings.Fields(c.no) {
				if p.Assignable(netip.MustParseAddr(a)) {
					t.Errorf("%s is assignable", a)
				}
			}
		})
	}
}

// all walks a pool as the IPAM driver does, block after block, and gives what may be chosen.
func all(p ipalloc.Pool, host string) (blocks []netip.Prefix, addrs []netip.Addr) {
	for block := range p.Blocks(host) {
		blocks = append(blocks, block)
		taken := map[netip.Addr]bool{}
		for {
			a, ok := p.Free(block, func(a netip.Addr) bool { return taken[a] })
			if !ok {
				break
			}
			taken[a] = true
			addrs = append(addrs, a)
		}
	}
	return blocks, addrs
}

// checkCover demands that the walk meets each address that may be chosen exactly once.
func checkCover(t *testing.T, p ipalloc.Pool, host string) {
	t.Helper()
	blocks, addrs := all(p, host)
	for i, b := range blocks {
		if slices.ContainsFunc(blocks[:i], b.Overlaps) || b != b.Masked() || !p.Range.Overlaps(b) {
			t.Fatalf("%s: block %s overlaps another one, is misaligned or outside: %v", p, b, blocks)
		}
	}
	if uint64(len(addrs)) != p.Size() {
		t.Fatalf("%s: %d addresses can be chosen, its size is %d", p, len(addrs), p.Size())
	}
	for _, a := range addrs {
		if !p.Range.Contains(a) || !p.Assignable(a) {
			t.Fatalf("%s: %s is chosen", p, a)
		}
	}
}

func TestBlocksCoverTheRange(t *testing.T) {
	for _, c := range [][2]string{
		{"10.1.0.0/24", ""}, {"10.1.0.0/20", ""}, {"10.1.0.0/30", ""}, {"10.1.0.0/31", ""}, {"10.1.0.0/32", ""},
		{"10.1.0.0/26", ""}, {"10.1.0.0/27", ""}, {"10.1.0.0/16", "10.1.4.0/22"}, {"10.1.0.0/16", "10.1.4.32/28"},
		{"fd00::/112", ""}, {"fd00::/127", ""}, {"fd00::/128", ""}, {"fd00::/64", "fd00::1:0/118"},
		{"255.255.255.0/24", ""}, {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00/120", ""},
	} {
		p := pool(t, c[0], c[1])
		checkCover(t, p, "host-a")
		checkCover(t, p, "host-b")
	}
}

// TestHostsBeginApart: hosts seldom want the same block.
func TestHostsBeginApart(t *testing.T) {
	p, starts := pool(t, "10.1.0.0/16", ""), map[netip.Prefix]int{}
	for i := range 64 {
		for block := range p.Blocks(fmt.Sprint("host", i)) {
			starts[block]++
			break
		}
	}
	if len(starts) < 32 {
		t.Errorf("64 hosts begin in only %d of 1024 blocks", len(starts))
	}
}

// TestLargePoolCostsNoMore: a walk only pays for what it visits.
func TestLargePoolCostsNoMore(t *testing.T) {
	cost := func(p ipalloc.Pool) float64 {
		return testing.AllocsPerRun(10, func() {
			for block := range p.Blocks("host") {
				if _, ok := p.Free(block, func(netip.Addr) bool { return false }); ok {
					break
				}
			}
		})
	}
	small, large := cost(pool(t, "fd00::/120", "")), cost(pool(t, "fd00::/64", ""))
	if large > small+2 {
		t.Errorf("the first address of a /64 costs %.0f allocations, of a /120 %.0f", large, small)
	}
	n := 0
	for range pool(t, "::/0", "").Blocks("host") {
		if n++; n == 1000 {
			break
		}
	}
}

func TestSlices(t *testing.T) {
	for _, c := range []struct {
		within string
		bits   int
		want   string
	}{
		{"10.32.0.0/14", 16, "10.32.0.0/16 10.33.0.0/16 10.34.0.0/16 10.35.0.0/16"},
		{"10.1.0.0/24", 24, "10.1.0.0/24"},
		{"10.1.0.0/24", 23, ""},
		{"10.1.0.0/24", 33, ""},
		{"255.255.255.252/30", 32, "255.255.255.252/32 255.255.255.253/32 255.255.255.254/32 255.255.255.255/32"},
		{"fd00::/63", 64, "fd00::/64 fd00:0:0:1::/64"},
		{"0.0.0.0/0", 1, "0.0.0.0/1 128.0.0.0/1"},
		{"::/0", 1, "::/1 8000::/1"},
	} {
		var got []string
		for p := range ipalloc.Slices(netip.MustParsePrefix(c.within), c.bits) {
			got = append(got, p.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("slices of %s of length %d are %q, want %q", c.within, c.bits, got, c.want)
		}
	}
	for range ipalloc.Slices(netip.MustParsePrefix("::/0"), 128) {
		break // lazy
	}
}

// FuzzPool: whatever text is read, nothing panics, a pool's text reads back, and small pools are covered exactly.
func FuzzPool(f *testing.F) {
	for _, s := range []string{"10.1.0.0/24,10.1.0.128/25", "10.1.0.0/30,", "fd00::/127,fd00::1/128", "0.0.0.0/0,", "::/0,::/120",
		"10.1.0.1/24,", "::ffff:10.0.0.0/120,", "fe80::%eth0/64,", "10.1.0.0/24,fd00::/64"} {
		cidr, within, _ := strings.Cut(s, ",")
		f.Add(cidr, within, "host")
	}
	f.Fuzz(func(t *testing.T, cidr, within, host string) {
		c, err := netip.ParsePrefix(cidr)
		if err != nil {
			return
		}
		w, _ := netip.ParsePrefix(within) // none when it can't be read
		p, err := ipalloc.New(c, w)
		if err != nil {
			return
		}
		if !p.CIDR.Contains(p.Range.Addr()) || p.Range.Bits() < p.CIDR.Bits() {
			t.Fatalf("range of %s is outside", p)
		}
		for block := range p.Blocks(host) { // the first is there, whatever the size
			if a, ok := p.Free(block, func(netip.Addr) bool { return false }); ok && (!p.Assignable(a) || !p.Range.Contains(a)) {
				t.Fatalf("%s: %s is chosen", p, a)
			}
			break
		}
		if p.Range.Addr().BitLen()-p.Range.Bits() <= 12 {
			checkCover(t, p, host)
		}
	})
}

func TestFilledFromTheTop(t *testing.T) {
	p, err := ipalloc.Parse("10.1.0.0/24,10.1.0.128/25,top")
	if err != nil || p.String() != "10.1.0.0/24,10.1.0.128/25,top" {
		t.Fatalf("%v, %v", p, err)
	}
	var got []string
	taken := map[netip.Addr]bool{}
	for range 3 {
		for block := range p.Blocks("any host") {
			a, ok := p.Free(block, func(a netip.Addr) bool { return taken[a] })
			if !ok {
				continue
			}
			taken[a] = true
			got = append(got, a.String())
			break
		}
	}
	if want := "10.1.0.254 10.1.0.253 10.1.0.252"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
