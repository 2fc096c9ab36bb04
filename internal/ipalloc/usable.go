package ipalloc

import (
	"fmt"
	"net/netip"
)

// special are the ranges whose addresses the kernel gives a meaning of its own, so that no container could use them on a network: RFC 6890
// for "this network", loopback and IPv4 in IPv6 form; multicast; and IPv6 link-local, which each interface of a container has already.
func special() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4"),
		netip.MustParsePrefix("::/96"), netip.MustParsePrefix("::ffff:0:0/96"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
	}
}

// Usable says why no network can have the subnet, with Docker's IPAM or ours; nil if one can.
func Usable(cidr netip.Prefix) error {
	cure := "use a private one such as 10.1.0.0/16"
	if cidr.Addr().Is6() {
		cure = "use a private one such as fd00:1::/64"
	}
	if cidr.Bits() == 0 {
		return fmt.Errorf("subnet %s is everything: choose a smaller --subnet", cidr)
	}
	for _, s := range special() {
		if s.Overlaps(cidr) {
			return fmt.Errorf("subnet %s has no addresses that a container could have, as %s is for other purposes: %s", cidr, s, cure)
		}
	}
	if cidr.IsSingleIP() {
		return fmt.Errorf("subnet %s has one address, and a network needs two: use /31 (IPv6: /127) or larger", cidr)
	}
	return nil
}
