package hostlink

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

const (
	// namePrefixMax and nameHash fill the 15 characters that the kernel has (IFNAMSIZ less its zero).
	namePrefixMax = 3
	nameHash      = 12
)

// LinkName makes an interface name of at most 15 characters from the whole identity: the prefix (cut to three
// characters) and 48 bits of SHA-256, in hex. Names cut from ids or addresses collide; with these, a host
// with a thousand links has a chance of 2 in 10^9. ("a","bc") and ("ab","c") are different identities.
func LinkName(prefix string, identity ...string) string {
	prefix = prefix[:min(len(prefix), namePrefixMax)]
	sum := sha256.Sum256([]byte(strings.Join(identity, "\x00")))
	return prefix + hex.EncodeToString(sum[:])[:nameHash]
}

// looksLikeOurs says whether a name is like those of our links and their other ends, of which nothing else tells. It only decides which messages
// of the kernel need no look: a link is ours by its mark. USB NICs are called enx and twelve hexadecimal digits.
func looksLikeOurs(name string) bool { return ownNames.MatchString(name) }

var ownNames = regexp.MustCompile(`^sp[a-z][0-9a-f]{12}$`)
