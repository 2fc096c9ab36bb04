package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// errNoCluster says that the host has no certificate.
var errNoCluster = errors.New("this host is in no cluster")

// ConsulTLS is for clients of this host's own Consul. It follows the credentials.
func (k *Keeper) ConsulTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: memberName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			now := k.now()
			if now.creds.Cluster() == "" {
				return nil, errNoCluster
			}
			return &now.cert, nil
		},
		// VerifyConnection does what RootCAs would, with the authorities of that moment.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return verify(cs, k.now().pool, memberName)
		},
	}
}

// caServerName is what a host that has a token asks for: the certificate by the authority that the token names.
const caServerName = ".ca.socketplane.invalid"

// AskFor is the TLS server name with which a host that has a token asks for a certificate that it can verify.
func AskFor(t Token) string { return t.CA[:48] + caServerName }

// AdmissionServerTLS is for the server that admits hosts. Its clients show a certificate of any issuer, or of
// none: what counts is the key.
func (k *Keeper) AdmissionServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true, // a resumed session proves no key
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return k.certificateFor(hello.ServerName)
		},
	}
}

// certificateFor gives this host's certificate, signed by the authority that the name asks for: during a rotation a token
// may name another one than that in use.
func (k *Keeper) certificateFor(name string) (*tls.Certificate, error) {
	now := k.now()
	if now.creds.Cluster() == "" {
		return nil, errNoCluster
	}
	cert := now.cert
	signer := now.creds.Keys.CAs[0]
	if prefix, ok := strings.CutSuffix(name, caServerName); ok {
		for _, ca := range now.creds.Keys.CAs {
			if hash, err := CAHash(ca); err == nil && strings.HasPrefix(hash, prefix) && len(prefix) >= 32 {
				signer = ca
			}
		}
	}
	issuer, err := parseCert([]byte(signer.Cert))
	if err != nil {
		return nil, fmt.Errorf("admission: the authority's certificate: %w", err)
	}
	if now.cert.Leaf.CheckSignatureFrom(issuer) != nil {
		id := now.cert.Leaf.Subject.CommonName
		text, err := issue(signer, Subject{ID: id}, k.id.Public(), skew, time.Now())
		if err != nil {
			return nil, err
		}
		if cert, err = pair(text, k.id); err != nil {
			return nil, err
		}
	}
	// The authority's own certificate goes along: who has a token knows its hash only.
	cert.Certificate = append(slices.Clone(cert.Certificate), issuer.Raw)
	return &cert, nil
}

// ErrStranger says that the host which answered is not of the cluster that was asked for.
var ErrStranger = errors.New("answered by a host that is not of this cluster")

// TokenTLS is for a host that has a token: it speaks to members of the token's cluster only.
func (k *Keeper) TokenTLS(t Token) *tls.Config {
	c := k.askTLS(AskFor(t))
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		roots := x509.NewCertPool()
		for _, cert := range cs.PeerCertificates {
			if Fingerprint(cert.PublicKey) == t.CA {
				roots.AddCert(cert)
			}
		}
		return verify(cs, roots, ServerName)
	}
	return c
}

// MemberTLS is for a member that may have missed a rotation: it speaks to servers only, since what they say of the keys is believed.
// A server has a certificate for one, of an authority that this host knows, or the key of a member that was a server when this
// host last heard of it.
func (k *Keeper) MemberTLS() *tls.Config {
	c := k.askTLS("")
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		now := k.now()
		if len(cs.PeerCertificates) > 0 {
			key := Fingerprint(cs.PeerCertificates[0].PublicKey)
			if slices.ContainsFunc(now.creds.Peers, func(p Peer) bool { return p.Key == key && (p.Server || !now.creds.Keys.Split) }) {
				return nil
			}
		}
		return verify(cs, now.pool, ServerName)
	}
	return c
}

// OpenTLS is for a host that joins an open cluster: it believes who answers first.
func (k *Keeper) OpenTLS() *tls.Config { return k.askTLS("") }

// askTLS proves this host's key and verifies nothing yet.
func (k *Keeper) askTLS(name string) *tls.Config {
	self := k.id.Certificate()
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         name,
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &self, nil
		},
	}
}

// verify checks the peer's certificate as crypto/tls would, with these roots.
func verify(cs tls.ConnectionState, roots *x509.CertPool, name string) error {
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("%w: it showed no certificate", ErrStranger)
	}
	between := x509.NewCertPool()
	for _, cert := range cs.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStranger, err)
	}
	return nil
}
