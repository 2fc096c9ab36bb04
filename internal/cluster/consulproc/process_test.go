package consulproc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/consulproc"
	"github.com/socketplane/socketplane/internal/testenv"
)

// patience is for a start of Consul on a busy machine.
const patience = 90 * time.Second

// world is one host's process with the keys to talk to it.
type world struct {
	t    *testing.T
	dir  string
	proc *consulproc.Process
	spec consulproc.Spec
	ca   *authority
	log  *lockedBuffer
	stop func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	binary, err := testenv.ConsulBinary()
	if err != nil {
		testenv.Missing(t, err.Error())
	}
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "consul"), ca: newAuthority(t), log: &lockedBuffer{}}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	w.spec = consulproc.Spec{
		Host: "0123456789abcdef", Datacenter: "socketplane", Server: true, Bootstrap: true,
		Addr: netip.MustParseAddr("127.0.0.1"), Ports: freePorts(t),
		GossipKeys: []string{base64.StdEncoding.EncodeToString(key)}, CA: w.ca.pem,
		AgentToken: "11111111-2222-3333-4444-555555555555", ManagementToken: "99999999-2222-3333-4444-555555555555",
	}
	w.spec.Cert, w.spec.Key = w.ca.issue(t, "server.socketplane.consul")
	w.run(binary)
	t.Cleanup(func() {
		w.stop()
		w.run(binary)
		w.proc.Set(nil)
		w.await("the end", func() bool { st := w.proc.Status(); return st.Agrees && !st.Running })
		w.stop()
	})
	return w
}

// run is one life of the agent.
func (w *world) run(binary string) {
	ctx, cancel := context.WithCancel(context.Background())
	w.proc = consulproc.New(consulproc.Options{
		Binary: binary, Dir: w.dir, Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	done := make(chan struct{})
	proc := w.proc
	go func() { defer close(done); _ = proc.Run(ctx) }()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
}

func (w *world) binary() string {
	path, err := testenv.ConsulBinary()
	if err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) set() {
	spec := w.spec
	w.proc.Set(&spec)
}

func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := testenv.Poll(ctx, 50*time.Millisecond, ok); err != nil {
		w.t.Fatalf("%s: %v; %+v\n%s", what, err, w.proc.Status(), w.log)
	}
}

// ask sends a request over mutual TLS and returns the status; 0 with an error.
func (w *world) ask(method, path, body string) (int, error) {
	cert, key := w.ca.issue(w.t, "client")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return 0, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.spec.CA)
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, ServerName: "127.0.0.1"}}}
	req, err := http.NewRequest(method, fmt.Sprintf("https://127.0.0.1:%d%s", w.spec.Ports.HTTPS, path), strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-Consul-Token", w.spec.ManagementToken)
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func (w *world) writes() bool {
	code, err := w.ask(http.MethodPut, "/v1/kv/socketplane/x", "1")
	return err == nil && code == http.StatusOK
}

// TestLife: a server is started, killed and started again, outlives the agent, is adopted, takes up certificates
// without a restart, becomes a client and loses its Raft.
func TestLife(t *testing.T) {
	w := newWorld(t)
	w.set()
	w.await("the first write", w.writes)
	first := w.proc.Status()
	if !first.Agrees || !first.Running || first.Err != nil {
		t.Fatalf("status is %+v", first)
	}

	t.Run("killed", func(t *testing.T) {
		if err := syscall.Kill(first.Pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w.await("another process", func() bool { st := w.proc.Status(); return st.Running && st.Pid != first.Pid })
		w.await("the data of before", func() bool { code, _ := w.ask(http.MethodGet, "/v1/kv/socketplane/x", ""); return code == 200 })
	})
	kept := w.proc.Status().Pid
	t.Run("adopted", func(t *testing.T) {
		w.stop()
		w.run(w.binary())
		w.spec.Bootstrap, w.spec.Join = false, []string{"127.0.0.1:1"} // neither needs a restart
		w.set()
		w.await("the process is as wanted", func() bool { return w.proc.Status().Agrees })
		if st := w.proc.Status(); st.Pid != kept || st.Starts != 0 {
			t.Fatalf("status is %+v, want pid %d and no start", st, kept)
		}
	})
	t.Run("reloaded", func(t *testing.T) {
		w.spec.CA = append(w.spec.CA, newAuthority(t).pem...)
		w.spec.Cert, w.spec.Key = w.ca.issue(t, "server.socketplane.consul", "renewed.example")
		w.set()
		w.await("the new certificate", func() bool { return strings.Contains(w.names(), "renewed.example") })
		if st := w.proc.Status(); st.Pid != kept {
			t.Fatalf("status is %+v, want pid %d", st, kept)
		}
	})
	t.Run("strangers", func(t *testing.T) {
		mine := w.ca
		w.ca = newAuthority(t)
		defer func() { w.ca = mine }()
		if _, err := w.ask(http.MethodGet, "/v1/status/leader", ""); err == nil {
			t.Error("a certificate of another authority was taken")
		}
	})
	t.Run("client", func(t *testing.T) {
		w.spec.Server = false
		w.set()
		w.await("a client", func() bool { st := w.proc.Status(); return st.Agrees && st.Running && st.Pid != kept })
		if _, err := os.Stat(filepath.Join(w.dir, "data", "raft")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the Raft of a client: %v", err)
		}
	})
	t.Run("none", func(t *testing.T) {
		pid := w.proc.Status().Pid
		w.proc.Set(nil)
		w.await("the end", func() bool { st := w.proc.Status(); return st.Agrees && !st.Running })
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("pid %d is there: %v", pid, err)
		}
	})
	for _, secret := range []string{w.spec.AgentToken, w.spec.ManagementToken, w.spec.GossipKeys[0]} {
		if strings.Contains(w.log.String(), secret) || strings.Contains(fmt.Sprintf("%v %+v %#v", w.spec, w.spec, w.spec), secret) {
			t.Error("a secret shows")
		}
	}
	if !strings.Contains(w.log.String(), "module=agent") {
		t.Errorf("the log has no line of Consul's:\n%s", w.log)
	}
	err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Dir(path) != w.dir {
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// names are the names of the certificate that the process shows.
func (w *world) names() string {
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.spec.Ports.HTTPS), &tls.Config{InsecureSkipVerify: true})
	if conn == nil {
		return ""
	}
	defer conn.Close()
	_ = err // it wants our certificate in the end, when it has shown its own
	return strings.Join(conn.ConnectionState().PeerCertificates[0].DNSNames, " ")
}

// TestBadProgram: what can't be started is said and tried again.
func TestBadProgram(t *testing.T) {
	w := newWorld(t)
	w.stop()
	broken := filepath.Join(t.TempDir(), "consul")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho error: no such luck\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.run(broken)
	w.set()
	w.await("a second start", func() bool { return w.proc.Status().Starts > 1 })
	w.await("the reason in the log", func() bool { return strings.Contains(w.log.String(), "no such luck") })
	w.await("the reason in the status", func() bool { return w.proc.Status().Err != nil }) // none while it is started once more
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "consul")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, given, want string }{
		{"on-the-path", dir, "", path},
		{"given", "/nowhere", path, path},
		{"given-by-name", dir, "consul", path},
		{"none", "/nowhere", "", ""},
		{"given-but-gone", dir, "/nowhere/consul", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("PATH", c.path)
			got, err := consulproc.Find(c.given)
			if got != c.want || (c.want == "") != errors.Is(err, consulproc.ErrNoBinary) {
				t.Errorf("Find = %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// freePorts are three that differ.
func freePorts(t *testing.T) consulproc.Ports {
	t.Helper()
	var ports [3]uint16
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).AddrPort().Port()
	}
	return consulproc.Ports{RPC: ports[0], Gossip: ports[1], HTTPS: ports[2]}
}

// authority is a certificate authority of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a *authority) issue(t *testing.T, names ...string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, k.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})
}
