package trust

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"time"

	"github.com/socketplane/socketplane/store"
)

// Datacenter is the name of the datacenter in the Consul clusters that we run.
const Datacenter = "socketplane"

// ServerName is what Consul demands of a server's certificate, for its RPC and for Raft. With it alone a host can neither
// serve nor pretend to. In a Split cluster only servers have it, in one that is not every member.
const ServerName = "server." + Datacenter + ".consul"

// memberName is in the certificate of every member.
const memberName = "localhost"

// skew is how much a host's clock may be behind that of the host which signs its certificate.
const skew = 24 * time.Hour

// Lifetimes say how long certificates last. They are renewed when two thirds of that are over.
type Lifetimes struct {
	// CA is 10 years, if 0.
	CA time.Duration
	// Leaf is 90 days, if 0.
	Leaf time.Duration
}

// Complete gives the lifetimes with their defaults.
func (l Lifetimes) Complete() Lifetimes {
	if l.CA <= 0 {
		l.CA = 10 * 365 * 24 * time.Hour
	}
	if l.Leaf <= 0 {
		l.Leaf = 90 * 24 * time.Hour
	}
	return l
}

// due says whether a certificate that lasts life from its issue on has to be renewed.
func due(cert *x509.Certificate, life time.Duration, now time.Time) bool {
	return now.After(cert.NotAfter.Add(-life / 3))
}

// newAuthority makes a certificate authority.
func newAuthority(cluster string, life time.Duration, now time.Time) (store.Authority, error) {
	text, err := newKey()
	if err != nil {
		return store.Authority{}, err
	}
	key, err := parseKey(text)
	if err != nil {
		return store.Authority{}, err
	}
	id := Fingerprint(&key.PublicKey)
	template := &x509.Certificate{
		SerialNumber: serial(),
		// Authorities of one cluster differ in name, or who checks a certificate tries the wrong one.
		Subject:               pkix.Name{Organization: []string{"SocketPlane"}, CommonName: cluster + " " + id[:16]},
		SubjectKeyId:          keyID(&key.PublicKey),
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return store.Authority{}, err
	}
	return store.Authority{Cert: string(certPEM(der)), Key: store.NewSecret(string(text))}, nil
}

// Subject is a host for which a certificate is made.
type Subject struct {
	// ID is the host's id.
	ID string
	// Addr is the address that it advertises.
	Addr netip.Addr
	// Client says that the host's Consul is no server, and must not pass for one.
	Client bool
}

// Issue makes the certificate of a host, signed by the authority that is used now.
func Issue(keys store.Keys, host Subject, public *ecdsa.PublicKey, life time.Duration, now time.Time) ([]byte, error) {
	if len(keys.CAs) == 0 {
		return nil, errors.New("issue a certificate: the cluster's keys have no certificate authority")
	}
	return issue(keys.CAs[0], host, public, life, now)
}

func issue(ca store.Authority, host Subject, public *ecdsa.PublicKey, life time.Duration, now time.Time) ([]byte, error) {
	parent, err := parseCert([]byte(ca.Cert))
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: the authority's: %w", err)
	}
	signer, err := parseKey([]byte(ca.Key.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: the authority's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{Organization: []string{"SocketPlane"}, CommonName: host.ID},
		NotBefore:    now.Add(-skew),
		NotAfter:     now.Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:     []string{memberName, host.ID},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1).To4()},

		BasicConstraintsValid: true,
	}
	if !host.Client {
		template.DNSNames = append(template.DNSNames, ServerName)
	}
	if host.Addr.IsValid() && host.Addr != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		template.IPAddresses = append(template.IPAddresses, host.Addr.Unmap().AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return certPEM(der), nil
}

// CAHash is the SHA-256 of an authority's public key, in hex: what a join token says of the cluster.
func CAHash(ca store.Authority) (string, error) {
	cert, err := parseCert([]byte(ca.Cert))
	if err != nil {
		return "", err
	}
	return Fingerprint(cert.PublicKey), nil
}

// bundle is the certificates of all authorities.
func bundle(keys store.Keys) []byte {
	var all []byte
	for _, ca := range keys.CAs {
		all = append(all, ca.Cert...)
	}
	return all
}

func pool(keys store.Keys) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(bundle(keys))
	return p
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func parseCert(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not a certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// pair joins a certificate in PEM and the key that it is for.
func pair(cert []byte, id *Identity) (tls.Certificate, error) {
	c, err := parseCert(cert)
	if err != nil {
		return tls.Certificate{}, err
	}
	if Fingerprint(c.PublicKey) != id.Fingerprint() {
		return tls.Certificate{}, errors.New("the certificate is for another key")
	}
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: id.key, Leaf: c}, nil
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[0] = b[0]&0x7f | 0x01
	return new(big.Int).SetBytes(b[:])
}

func keyID(public *ecdsa.PublicKey) []byte {
	sum, _ := hex.DecodeString(Fingerprint(public))
	return sum[:min(len(sum), sha256.Size-12)]
}
