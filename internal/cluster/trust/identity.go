package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

const identityFile = "identity.pem"

// Identity is a host's key, which never leaves it. It survives the cluster that the host is in.
type Identity struct {
	key *ecdsa.PrivateKey
	pem []byte
	// self is a certificate that says nothing but the key.
	self tls.Certificate
}

// LoadIdentity reads the key from identity.pem in dir, and makes it at first use.
func LoadIdentity(dir string) (*Identity, error) {
	path := filepath.Join(dir, identityFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = newKey(); err == nil {
			err = writeFile(path, text)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("this host's key: %w", err)
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, fmt.Errorf("this host's key: %s: %w: remove the file, and the host gets a new key and joins as a new host", path, err)
	}
	self, err := selfSigned(key)
	if err != nil {
		return nil, fmt.Errorf("this host's key: %w", err)
	}
	return &Identity{key: key, pem: text, self: self}, nil
}

// Fingerprint is the SHA-256 of the public key, in hex: what a member's record says.
func (i *Identity) Fingerprint() string { return Fingerprint(&i.key.PublicKey) }

// Public is the public key.
func (i *Identity) Public() *ecdsa.PublicKey { return &i.key.PublicKey }

// KeyPEM is the private key, for Consul's key_file.
func (i *Identity) KeyPEM() []byte { return i.pem }

// Certificate is signed by the key itself, to prove that one has it.
func (i *Identity) Certificate() tls.Certificate { return i.self }

// String shows no key.
func (i *Identity) String() string { return "identity " + i.Fingerprint() }

// GoString shows no key.
func (i *Identity) GoString() string { return i.String() }

// Fingerprint is the SHA-256 of a public key (SPKI), in hex; "" for what is no public key.
func Fingerprint(public crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func newKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// errNoKey says that a text is no key of ours.
var errNoKey = errors.New("not an EC private key (P-256) in PEM")

func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "EC PRIVATE KEY" {
		return nil, errNoKey
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil || key.Curve != elliptic.P256() {
		return nil, errNoKey
	}
	return key, nil
}

// selfSigned makes the certificate with which a host that is in no cluster proves its key. Nobody looks at its dates.
func selfSigned(key *ecdsa.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "socketplane"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
