package config

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Range is a prefix from which subnets of a certain length are cut.
type Range struct {
	Prefix netip.Prefix
	Bits   int
}

var errPools = errors.New("subnets to cut from and the length of what is cut, such as 10.32.0.0/12:20,fd00:1::/48:64")

// Ranges are the address pools. It returns none for a Config that is not valid.
func (c Config) Ranges() []Range {
	ranges, err := parsePools(c.AddressPools)
	if err != nil {
		return nil
	}
	return ranges
}

func parsePools(text string) ([]Range, error) {
	var ranges []Range
	for part := range strings.SplitSeq(text, ",") {
		i := strings.LastIndexByte(part, ':')
		if i < strings.IndexByte(part, '/') {
			return nil, errPools
		}
		p, err := netip.ParsePrefix(strings.TrimSpace(part[:max(i, 0)]))
		if err != nil || p != p.Masked() || p.Bits() == 0 || p.Addr().Is4In6() || p.Addr().IsMulticast() || p.Addr().IsLoopback() {
			return nil, errPools
		}
		bits, err := strconv.Atoi(part[i+1:])
		// A subnet has room for a gateway and a container at least.
		if err != nil || bits < p.Bits() || bits > p.Addr().BitLen()-2 {
			return nil, errPools
		}
		if slices.ContainsFunc(ranges, func(r Range) bool { return r.Prefix.Overlaps(p) }) {
			return nil, errors.New("subnets that do not overlap")
		}
		ranges = append(ranges, Range{p, bits})
	}
	return ranges, nil
}
