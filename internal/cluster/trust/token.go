package trust

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/socketplane/socketplane/store"
)

// ErrToken says that a text is no join token.
var ErrToken = errors.New("not a join token")

const tokenVersion = "sp1"

// Token is a join token: with it a host is admitted to a locked cluster, and knows the cluster that it has to do with before it
// says anything. Its text is sp1.<id>.<secret>.<sha256 of the authority's public key>.
type Token struct {
	ID     string
	Secret store.Secret
	// CA is the hash of the authority's public key.
	CA string
}

// Text is the token as users carry it. It is a secret.
func (t Token) Text() string {
	return strings.Join([]string{tokenVersion, t.ID, t.Secret.Reveal(), t.CA}, ".")
}

// ParseToken reads a token's text. Its errors wrap ErrToken and don't quote the text.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || parts[0] != tokenVersion {
		return Token{}, fmt.Errorf("%w: it must have the form %s.….….…, as 'socketplane cluster token create' prints it", ErrToken, tokenVersion)
	}
	for i, digits := range []int{16, 32, 64} {
		if !isHex(parts[i+1], digits) {
			return Token{}, fmt.Errorf("%w: its part %d must have %d hexadecimal digits: copy it again, whole", ErrToken, i+2, digits)
		}
	}
	return Token{ID: parts[1], Secret: store.NewSecret(parts[2]), CA: parts[3]}, nil
}

// NewToken makes a token of a cluster, and the record to keep of it: zero expires never, and 0 uses are any number. It names the
// newest authority, the one that lasts.
func NewToken(keys store.Keys, expires time.Time, uses int) (Token, store.JoinToken, error) {
	newest, err := newestCA(keys)
	if err != nil {
		return Token{}, store.JoinToken{}, err
	}
	hash, err := CAHash(newest)
	if err != nil {
		return Token{}, store.JoinToken{}, err
	}
	t := Token{ID: store.NewNonce(), Secret: store.NewSecret(randomHex(16)), CA: hash}
	return t, store.JoinToken{ID: t.ID, Hash: store.HashSecret(t.Secret), CA: hash, Expires: expires.UTC(), Uses: uses}, nil
}

// newestCA is the authority that remains when the rotation under way has ended.
func newestCA(keys store.Keys) (store.Authority, error) {
	if len(keys.CAs) == 0 {
		return store.Authority{}, errors.New("the cluster's keys have no certificate authority")
	}
	if keys.Phase == store.PhaseSpread {
		return keys.CAs[len(keys.CAs)-1], nil
	}
	return keys.CAs[0], nil
}

func isHex(text string, digits int) bool {
	return len(text) == digits && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'f')
	})
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// uuid is a random one, the only form that Consul takes for a token.
func uuid() string { return uuidOf(randomHex(16)) }

// uuidOf makes 32 hexadecimal digits a UUID.
func uuidOf(digits string) string {
	h := []byte(digits)
	h[12], h[16] = '4', '8'
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}
