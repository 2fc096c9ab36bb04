package testenv

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// SecureServer is a Consul server as a careful operator runs it: HTTPS only, with certificates of both ends, and ACLs that deny
// what no policy allows.
type SecureServer struct {
	// Addr is the HTTPS address as "IP:PORT".
	Addr string
	// CA, Cert and Key are files for a client; OtherCA is one that has signed nothing.
	CA, Cert, Key, OtherCA string
	// ServerName is in the server's certificate; Addr's IP is not.
	ServerName string
	// Management is the token that may do everything.
	Management string
}

// SecureConsul starts such a server, ready for writes; it ends with the test.
func SecureConsul(t testing.TB) *SecureServer {
	t.Helper()
	Real(t)
	binary, err := ConsulBinary()
	if err != nil {
		Missing(t, err.Error())
	}
	dir, ip := t.TempDir(), loopback()
	s := &SecureServer{
		Addr: net.JoinHostPort(ip, strconv.Itoa(consulHTTP)), ServerName: "consul.test.example",
		Management: "5e2f6e39-4a6a-4a0e-9f0f-0b6c9a3f1d11",
	}
	ca := newAuthority(t, dir, "ca")
	s.CA, s.OtherCA = ca.file, newAuthority(t, dir, "other").file
	s.Cert, s.Key = ca.issue(t, dir, "client", "client.test.example")
	cert, key := ca.issue(t, dir, "server", s.ServerName)
	config := ConsulConfig{Dir: dir, IP: ip, HTTP: -1, Server: consulServer, Serf: consulSerf, Extra: map[string]any{
		"ports": map[string]int{"http": -1, "https": consulHTTP, "server": consulServer, "serf_lan": consulSerf,
			"serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1},
		"addresses": map[string]string{"https": ip},
		"tls":       map[string]any{"https": map[string]any{"verify_incoming": true, "ca_file": s.CA, "cert_file": cert, "key_file": key}},
		"acl": map[string]any{"enabled": true, "default_policy": "deny", "down_policy": "extend-cache",
			"tokens": map[string]string{"initial_management": s.Management}},
	}}
	if err := config.Write(); err != nil {
		t.Fatal(err)
	}
	proc := NewProcess(filepath.Join(dir, "consul.log"), binary, "agent", "-config-file="+filepath.Join(dir, "consul.json"))
	t.Cleanup(func() { proc.Stop(5 * time.Second) })
	if err := proc.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), consulReady)
	defer cancel()
	client := s.client(t)
	defer client.CloseIdleConnections()
	if err := WaitConsul(ctx, client, s.Addr, proc); err != nil {
		t.Fatal(err)
	}
	return s
}

// client is one that may do everything, whatever the scheme in the URL.
func (s *SecureServer) client(t testing.TB) *http.Client {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	text, err := os.ReadFile(s.CA)
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("no certificate in %s: %v", s.CA, err)
	}
	return &http.Client{Transport: &secured{token: s.Management, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ServerName: s.ServerName},
	}}}
}

// secured sends requests by HTTPS, with a token.
type secured struct {
	*http.Transport
	token string
}

func (s *secured) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme = "https"
	r.Header.Set("X-Consul-Token", s.token)
	return s.Transport.RoundTrip(r)
}

// authority is a certificate authority of a test.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, dir, name string) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{file: filepath.Join(dir, name+".pem"), cert: template}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue writes a certificate for a name and its key.
func (a *authority) issue(t testing.TB, dir, name, dns string) (cert, key string) {
	t.Helper()
	own := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{dns},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, own.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	writePEM(t, cert, "CERTIFICATE", der)
	writePEM(t, key, "EC PRIVATE KEY", keyDER)
	return cert, key
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
