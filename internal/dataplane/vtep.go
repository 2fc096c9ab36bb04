package dataplane

import "net/netip"

// TunnelBetween says whether this host can send to another host's VTEP from its own one. Not to its own address, which another host's
// record may have by mistake, and not to the other IP family: a VXLAN device has one. While own is not known, every valid one counts.
func TunnelBetween(own, other netip.Addr) bool {
	own, other = own.Unmap(), other.Unmap()
	return other.IsValid() && !other.IsUnspecified() && other != own && (!own.IsValid() || own.Is4() == other.Is4())
}
