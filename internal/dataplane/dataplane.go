// Package dataplane is the seam between those who know what a network is (driver, internal/netview) and those who forward its packets
// (internal/dataplane/ovs): plain values, and the interface Plane. It imports the standard library only and does nothing. It must not
// know stores, Docker, Open vSwitch or the kernel.
package dataplane

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

// MAC is an Ethernet address; a value that can be compared and be a map's key.
type MAC [6]byte

// String gives the usual form, 02:42:ac:11:00:02.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// Network is everything that this host must know to forward one network.
type Network struct {
	// ID is the cluster-wide identity of the network.
	ID string
	// VNI is its VXLAN network identifier, 1 to 2^24-1 (RFC 7348).
	VNI uint32
	// MTU is what the interfaces of containers that join now get, in bytes.
	MTU int
	// Local are the endpoints on this host, sorted by ID, whether attached or not.
	Local []Endpoint
	// Remote are the other hosts that have endpoints on this network, sorted by VTEP.
	Remote []Peer
}

// Endpoint is one container's attachment on this host.
type Endpoint struct {
	ID    string
	MAC   MAC
	Addrs []netip.Addr
	// Port is the OpenFlow port number that was chosen for it, 1 to MaxPort.
	Port uint32
	// Attached says that a container has joined: only then is there a port and are there
	// flows. The links of an endpoint that is not attached are left as they are.
	Attached bool
	// MTU is that of its links, in bytes; 0 is the network's.
	MTU int
	// HostLink and PeerLink name the ends of its veth pair: HostLink stays and
	// becomes an OVS port, PeerLink is handed to Docker. Names are never reused.
	HostLink, PeerLink string
}

// Peer is another host with endpoints on a network.
type Peer struct {
	// Host is that host's id.
	Host string
	// VTEP is the underlay address at which it ends its tunnels.
	VTEP      netip.Addr
	Endpoints []PeerEndpoint
}

// PeerEndpoint is an endpoint on another host.
type PeerEndpoint struct {
	// ID is the endpoint's, unique in its network.
	ID    string
	MAC   MAC
	Addrs []netip.Addr
}

// OpenFlow port numbers of the bridge. Endpoints get 1 to MaxPort; the rest
// below 0xff00 (OpenFlow's first reserved number, in 16 bits) is ours for tunnels.
const (
	MaxPort = 59999
	// PortTunnel is the flow-based VXLAN port of tunnel kind "ovs".
	PortTunnel = 65000
	// PortDeviceFirst is the first of the ports of kernel VXLAN devices
	// (tunnel kind "kernel"), one a network, up to PortDeviceLast.
	PortDeviceFirst = 60000
	PortDeviceLast  = 64999
)

// TunnelKind says how packets reach other hosts.
type TunnelKind string

const (
	// TunnelOVS is one flow-based VXLAN port of Open vSwitch.
	TunnelOVS TunnelKind = "ovs"
	// TunnelKernel is a kernel VXLAN device per network, attached to the bridge.
	TunnelKernel TunnelKind = "kernel"
)

// LinkName makes the name of a network interface, which the kernel limits to 15
// characters (IFNAMSIZ), of a prefix of up to three characters and a hash of
// the whole identity: ids that are cut short have collided in other plugins.
func LinkName(prefix string, identity ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(identity, "\x00")))
	return prefix + hex.EncodeToString(sum[:6])
}
