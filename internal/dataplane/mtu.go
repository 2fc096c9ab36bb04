package dataplane

import "net/netip"

// What VXLAN adds to a container's packet within the underlay's MTU, in bytes (RFC 7348): IPv4 20 or IPv6 40, UDP 8, VXLAN 8 and
// the inner Ethernet header 14.
const (
	vxlanOverIPv4 = 50
	vxlanOverIPv6 = 70
)

// ContainerMTU is the largest MTU of containers whose packets fit whole into an underlay of that MTU, both in bytes.
func ContainerMTU(underlay int, vtep netip.Addr) int {
	if vtep.Unmap().Is6() {
		return underlay - vxlanOverIPv6
	}
	return underlay - vxlanOverIPv4
}
