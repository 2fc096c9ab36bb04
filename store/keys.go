package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Root is the prefix of every key, with the version of the layout.
const Root = "socketplane/v1/"

// Prefixes that are listed or watched.
const (
	NetworksPrefix = Root + "networks/"
	PoolsPrefix    = Root + "pools/"
	HostsPrefix    = Root + "hosts/"
	DeclaredPrefix = Root + "declared/"
)

// PoolsRevisionKey changes with every pool that is made, which makes the check
// for overlaps atomic.
const PoolsRevisionKey = Root + "pools-revision"

// NetworkKey is the key of a Network.
func NetworkKey(id string) string { return NetworksPrefix + id }

// Prefixes of the keys that NameKey gives.
const (
	namesPrefix       = Root + "names/"
	hashedNamesPrefix = Root + "names-hashed/"
)

// NameKey holds the id of the network that has this name. Docker takes nearly any text for a name. A name that can be
// stored as the end of a key is, as it always was; for all others (a//b, 100%, a space at the end, 600 characters) the key
// has the name's SHA-256 instead, under a prefix of its own, so that no two names ever have one key.
func NameKey(name string) string {
	if key := namesPrefix + name; name != "" && ValidKey(key) == nil {
		return key
	}
	sum := sha256.Sum256([]byte(name))
	return hashedNamesPrefix + hex.EncodeToString(sum[:])
}

// DeclaredKey is there while a network is declared and active. It is what mirrors watch.
func DeclaredKey(id string) string { return DeclaredPrefix + id }

// DefaultMadeKey says that the cluster's first network was made once: who removes it wants it gone.
const DefaultMadeKey = Root + "default-made"

// IdentityKey holds what tells this cluster's data from any other's.
const IdentityKey = Root + "identity"

// VNIKey holds the id of the network that has this VNI.
func VNIKey(vni uint32) string { return fmt.Sprintf("%svnis/%d", Root, vni) }

// PoolKey is the key of a Pool.
func PoolKey(cidr netip.Prefix) string { return PoolsPrefix + cidrPart(cidr) }

// BoundPrefix and HoldersPrefix are those of which hosts have which networks, and of who holds which pools, in the second layout.
const (
	BoundPrefix   = Root + "bound/"
	HoldersPrefix = Root + "holders/"
)

// BoundKey says how one host stands to a network.
func BoundKey(network, host string) string { return boundTo(network) + host }

func boundTo(network string) string { return BoundPrefix + network + "/" }

// HolderKey is there while the owner holds the pool.
func HolderKey(pool netip.Prefix, owner Owner) string { return holdersOf(pool) + owner.String() }

func holdersOf(pool netip.Prefix) string { return HoldersPrefix + cidrPart(pool) + "/" }

// BlocksPrefix is the prefix of all blocks of a pool.
func BlocksPrefix(pool netip.Prefix) string { return Root + "blocks/" + cidrPart(pool) + "/" }

// BlockKey is the key of a Block, named by its first address: it sorts and
// reads well for IPv4 and IPv6 alike, whatever the pool's size.
func BlockKey(pool, block netip.Prefix) string {
	return BlocksPrefix(pool) + block.Addr().StringExpanded()
}

// UsePrefix is the prefix of what hosts tell of their claims.
const UsePrefix = Root + "use/"

// UseKey is the key of a HostUse.
func UseKey(host string) string { return UsePrefix + host }

// HostKey is the key of a Host.
func HostKey(id string) string { return HostsPrefix + id }

// Keys of a cluster that SocketPlane runs itself.
const (
	MembersPrefix = Root + "members/"
	// ClusterKeysKey is the key of Keys as every member may know them, ClusterPrivateKey that of all, which only servers may read.
	ClusterKeysKey    = Root + "cluster/keys"
	ClusterPrivateKey = Root + "cluster/private"
	TokensPrefix      = Root + "cluster/tokens/"
)

// MemberKey is the key of a Member.
func MemberKey(id string) string { return MembersPrefix + id }

// TokenKey is the key of a JoinToken.
func TokenKey(id string) string { return TokensPrefix + id }

// Keys of a host's own state, in a store of its own.
const (
	LocalHostKey      = Root + "local/host"
	LocalIdentityKey  = Root + "local/identity" // of the cluster that this host's networks are in
	LocalBindings     = Root + "local/bindings/"
	LocalEndpoints    = Root + "local/endpoints/"
	LocalRemovals     = Root + "local/removals/"
	LocalAddresses    = Root + "local/addresses/"
	LocalBlocks       = Root + "local/blocks/"
	LocalPools        = Root + "local/pools/"
	LocalSwarm        = Root + "local/swarm/"
	LocalPeers        = Root + "local/peers/"
	LocalParts        = Root + "local/parts/" // not below LocalPeers: an agent of before that finds one there does not start
	LocalHosts        = Root + "local/hosts/"
	LocalStoreKindKey = Root + "local/store-kind"
	// LocalCopyKey says that another machine was found to act under this host's id.
	LocalCopyKey = Root + "local/copy"
	// LocalReservedKey has the subnets that Docker's allocator was kept off last.
	LocalReservedKey = Root + "local/reserved"
)

// LocalAddressKey is the journal's key of one address of a pool.
func LocalAddressKey(pool netip.Prefix, addr netip.Addr) string {
	key := append(make([]byte, 0, 96), LocalAddresses...)
	key = append(appendCIDR(key, pool), '/')
	return string(addr.AppendTo(key))
}

// ParseLocalAddressKey reads what LocalAddressKey gave.
func ParseLocalAddressKey(key string) (pool netip.Prefix, addr netip.Addr, err error) {
	cidr, last, ok := strings.Cut(strings.TrimPrefix(key, LocalAddresses), "/")
	if ok {
		pool, err = netip.ParsePrefix(strings.Replace(cidr, "_", "/", 1))
	}
	if ok && err == nil {
		addr, err = netip.ParseAddr(last)
	}
	if !ok || err != nil || LocalAddressKey(pool, addr) != key || !pool.Contains(addr) {
		return pool, addr, fmt.Errorf("%w: %q is not the key of an address", ErrInvalid, key)
	}
	return pool, addr, nil
}

// LocalBlockKey is the journal's key of what this host has claimed of a block.
func LocalBlockKey(pool, block netip.Prefix) string {
	return LocalBlocks + cidrPart(pool) + "/" + block.Addr().StringExpanded()
}

// LocalPoolKey is the key of a pool that this host holds by IPAM.
func LocalPoolKey(pool netip.Prefix) string { return LocalPools + cidrPart(pool) }

// LocalBindingKey is the key of a Binding.
func LocalBindingKey(dockerID string) string { return LocalBindings + dockerID }

// LocalRemovalKey is the key of what Docker has removed here and the cluster has not decided on.
func LocalRemovalKey(dockerID string) string { return LocalRemovals + dockerID }

// LocalEndpointKey is the key of a LocalEndpoint.
func LocalEndpointKey(dockerID, endpointID string) string {
	return LocalEndpoints + dockerID + "/" + endpointID
}

// LocalPeerKey is the key of the last known Endpoints of another host.
func LocalPeerKey(network, host string) string { return LocalPeers + network + "/" + host }

// LocalPartKey is the key of the last known Part of another host's endpoints.
func LocalPartKey(network, host string, part int) string {
	return LocalPartsOf(network, host) + strconv.Itoa(part)
}

// LocalPartsOf is the prefix of what LocalPartKey gives for a host's parts.
func LocalPartsOf(network, host string) string { return LocalParts + network + "/" + host + "/" }

// LocalHostsKey is the key of the last known Host record of another host.
func LocalHostsKey(host string) string { return LocalHosts + host }

// Last gives the part of a key behind its last slash.
func Last(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }

// cidrPart writes a prefix so that it is one part of a key.
func cidrPart(p netip.Prefix) string { return string(appendCIDR(nil, p)) }

func appendCIDR(to []byte, p netip.Prefix) []byte {
	return strconv.AppendInt(append(p.Addr().AppendTo(to), '_'), int64(p.Bits()), 10)
}
