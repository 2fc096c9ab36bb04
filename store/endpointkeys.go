package store

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// Keys of endpoints in the form of the first layout: one record for each host and network, and a
// small one beside it that is watched.

// EndpointsPrefix is the prefix of all hosts' endpoints on a network.
func EndpointsPrefix(network string) string { return Root + "endpoints/" + network + "/" }

// EndpointsKey is the key of one host's Endpoints on a network.
func EndpointsKey(network, host string) string { return EndpointsPrefix(network) + host }

// IndexesPrefix is the prefix of all networks' indexes.
const IndexesPrefix = Root + "index/"

// IndexPrefix is the prefix of a network's index: a small key for each host
// that changes with the host's Endpoints. This is what is watched.
func IndexPrefix(network string) string { return IndexesPrefix + network + "/" }

// IndexKey is one host's key in a network's index.
func IndexKey(network, host string) string { return IndexPrefix(network) + host }

// Keys of endpoints in the form of the second layout. They do not lie below endpoints/ and index/,
// where agents of before take keys that they do not know for garbage. A host's endpoints on a
// network are in parts of at most PartSize, their labels apart. The host's head has the hash of
// each part. Heads are in shards; a shard's key changes with each head in it. Who watches a network
// watches its shards, lists the heads of those that changed, and reads the parts whose hashes
// changed.
const (
	// ShardsPrefix is the prefix of all networks' shards.
	ShardsPrefix = Root + "shards/"
	// HeadsPrefix is the prefix of all heads.
	HeadsPrefix  = Root + "heads/"
	partsPrefix  = Root + "parts/"
	labelsPrefix = Root + "labels/"
)

// Shards is how many shards a network's heads are in. With 1,000 hosts a watcher of one change
// lists 32 shards and about 31 heads.
const Shards = 32

// PartSize is how many endpoints a part has at most: a change of one endpoint is read with up to 15
// others, about 5 KiB of Consul's JSON.
const PartSize = 16

// ShardOf is the shard in which a host's heads are: two hexadecimal digits. It depends on the id
// only and never changes.
func ShardOf(host string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(host)) // never fails
	return shardNames[h.Sum32()%Shards]
}

// shardNames are the last parts of the shards' keys.
var shardNames = func() (names [Shards]string) {
	for i := range names {
		names[i] = fmt.Sprintf("%02x", i)
	}
	return names
}()

// ShardsOf is the prefix of a network's shards. This is what is watched.
func ShardsOf(network string) string { return ShardsPrefix + network + "/" }

// ShardKey changes with each head of the shard.
func ShardKey(network, shard string) string { return ShardsOf(network) + shard }

// HeadsOf is the prefix of a network's heads.
func HeadsOf(network string) string { return HeadsPrefix + network + "/" }

// HeadKey is the key of a host's Head on a network.
func HeadKey(network, host string) string { return HeadsOf(network) + ShardOf(host) + "/" + host }

// PartsOf is the prefix of a host's parts on a network.
func PartsOf(network, host string) string { return partsPrefix + network + "/" + host + "/" }

// PartKey is the key of a Part.
func PartKey(network, host string, part int) string {
	return PartsOf(network, host) + strconv.Itoa(part)
}

// labelsOf is the prefix of the labels of a host's containers on a network.
func labelsOf(network, host string) string { return labelsPrefix + network + "/" + host + "/" }

// LabelsKey is the key of the labels of a part's containers. It is there if one has labels.
func LabelsKey(network, host string, part int) string {
	return labelsOf(network, host) + strconv.Itoa(part)
}

// partOfKey reads host and number of what PartKey, LabelsKey or LocalPartKey gave.
func partOfKey(key string) (host string, number int, err error) {
	rest, last, _ := cutLast(key)
	number, err = strconv.Atoi(last)
	_, host, _ = cutLast(rest)
	if err != nil || number < 0 || number >= maxParts || strconv.Itoa(number) != last || host == "" {
		return "", 0, fmt.Errorf("%w: %q is not the key of a part", ErrInvalid, key)
	}
	return host, number, nil
}

// ParseLocalPart reads what LocalPartKey gave.
func ParseLocalPart(key string) (network, host string, part int, is bool) {
	network, rest, _ := strings.Cut(strings.TrimPrefix(key, LocalParts), "/")
	host, _, _ = strings.Cut(rest, "/")
	_, part, err := partOfKey(key)
	return network, host, part, err == nil && LocalPartKey(network, host, part) == key
}

// cutLast cuts a text at its last slash.
func cutLast(key string) (before, after string, found bool) {
	i := strings.LastIndexByte(key, '/')
	if i < 0 {
		return "", key, false
	}
	return key[:i], key[i+1:], true
}
