package trust_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/store"
)

func TestMain(m *testing.M) { leaks.Main(m) }

// patience bounds a whole test of Follow, in which certificates of 15 s are renewed twice.
const patience = 2 * time.Minute

var here = trust.Subject{ID: "0123456789abcdef", Addr: netip.MustParseAddr("192.0.2.7")}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *trust.Keeper {
	t.Helper()
	k, err := trust.Open(dir, trust.Lifetimes{})
	must(t, err)
	return k
}

func found(t *testing.T, id *trust.Identity, life trust.Lifetimes, now time.Time) trust.Credentials {
	t.Helper()
	c, err := trust.Found(id, here, false, life, now)
	must(t, err)
	return c
}

func TestIdentityIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	a, err := trust.LoadIdentity(dir)
	must(t, err)
	b, err := trust.LoadIdentity(dir)
	must(t, err)
	if a.Fingerprint() != b.Fingerprint() || len(a.Fingerprint()) != 64 {
		t.Errorf("fingerprints %q and %q", a.Fingerprint(), b.Fingerprint())
	}
	private(t, dir, "identity.pem")
	if text := fmt.Sprintf("%v %+v %#v %s", a, a, a, a); strings.Contains(text, "PRIVATE") {
		t.Errorf("the key is printed: %s", text)
	}
	for _, broken := range []string{"", "no key", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"} {
		must(t, os.WriteFile(filepath.Join(dir, "identity.pem"), []byte(broken), 0o600))
		if _, err := trust.LoadIdentity(dir); err == nil || !strings.Contains(err.Error(), "identity.pem") {
			t.Errorf("%q: error %v, want one that names the file: no new key is made over an old one", broken, err)
		}
	}
}

// private demands that dir has these files only, which nobody else can read.
func private(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var found []string
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		found = append(found, e.Name())
	}
	if strings.Join(found, " ") != strings.Join(names, " ") {
		t.Errorf("files %v, want %v", found, names)
	}
}

func TestCredentialsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	k := open(t, dir)
	if c := k.Credentials(); c.Cluster() != "" {
		t.Fatalf("cluster %q before there is one", c.Cluster())
	}
	c := found(t, k.Identity(), trust.Lifetimes{}, time.Now())
	must(t, k.Check(c))
	must(t, k.Set(c))
	peers := []trust.Peer{{ID: "p", Name: "peer", Addr: netip.MustParseAddrPort("192.0.2.8:4780"), Key: "00"}}
	must(t, k.SetPeers(peers))
	private(t, dir, "credentials.json", "identity.pem")
	again := open(t, dir)
	if got, want := string(again.Credentials().Reveal()), string(k.Credentials().Reveal()); got != want || !strings.Contains(got, `"peer"`) {
		t.Errorf("after a restart %s, want %s", got, want)
	}
	must(t, again.Forget())
	must(t, again.Forget())
	private(t, dir, "identity.pem")
	if k := open(t, dir); k.Credentials().Cluster() != "" {
		t.Error("the cluster was not forgotten")
	}
}

func TestCredentialsOfAnotherHostAreRefused(t *testing.T) {
	dir := t.TempDir()
	k, other := open(t, dir), open(t, t.TempDir())
	c := found(t, other.Identity(), trust.Lifetimes{}, time.Now())
	if err := k.Set(c); err == nil || k.Credentials().Cluster() != "" {
		t.Errorf("Set: %v", err)
	}
	if err := k.Check(c); err == nil {
		t.Error("Check lets it pass")
	}
	private(t, dir, "identity.pem")
	// A certificate of another authority than those that came along.
	mine := found(t, k.Identity(), trust.Lifetimes{}, time.Now())
	mine.Keys.CAs = c.Keys.CAs
	if err := k.Check(mine); err == nil {
		t.Error("Check lets a certificate of another authority pass")
	}
}

func TestCredentialsShowNoSecret(t *testing.T) {
	id, err := trust.LoadIdentity(t.TempDir())
	must(t, err)
	c := found(t, id, trust.Lifetimes{}, time.Now())
	secrets := []string{c.Keys.Gossip[0].Reveal(), c.Keys.ManagementToken().Reveal(), c.Token.Reveal(), "PRIVATE"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, s := range secrets {
			if strings.Contains(fmt.Sprintf(verb, c), s) || strings.Contains(fmt.Sprintf(verb, &c), s) {
				t.Errorf("%s shows a secret", verb)
			}
		}
	}
	for _, s := range secrets {
		if !strings.Contains(string(c.Reveal()), s) {
			t.Error("the stored form lacks a secret")
		}
	}
}

func TestIssue(t *testing.T) {
	id, err := trust.LoadIdentity(t.TempDir())
	must(t, err)
	now := time.Now()
	c := found(t, id, trust.Lifetimes{}, now)
	cert := parse(t, c.Cert)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.Bundle())
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, name := range []string{"server.socketplane.consul", "localhost", "127.0.0.1", here.ID, "192.0.2.7"} {
		for _, at := range []time.Time{now.Add(-23 * time.Hour), now, now.Add(89 * 24 * time.Hour)} {
			for _, use := range [][]x509.ExtKeyUsage{nil, usages} {
				if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: at, KeyUsages: use}); err != nil {
					t.Errorf("%s at %s: %v", name, at, err)
				}
			}
		}
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now.Add(91 * 24 * time.Hour)}); err == nil {
		t.Error("the certificate does not expire")
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: "192.0.2.8"}); err == nil {
		t.Error("the certificate is good for another address")
	}
	if cert.IsCA || trust.Fingerprint(cert.PublicKey) != id.Fingerprint() {
		t.Error("the certificate is not one of the host's key only")
	}
	// A host's certificate signs nothing.
	other := found(t, id, trust.Lifetimes{}, now)
	if _, err := parse(t, other.Cert).Verify(x509.VerifyOptions{Roots: roots}); err == nil {
		t.Error("the authority of another cluster is trusted")
	}
	if _, err := trust.Issue(store.Keys{}, here, id.Public(), time.Hour, now); err == nil {
		t.Error("keys without an authority sign")
	}
}

func parse(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no PEM: %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return cert
}

func TestTokens(t *testing.T) {
	id, err := trust.LoadIdentity(t.TempDir())
	must(t, err)
	c := found(t, id, trust.Lifetimes{}, time.Now())
	token, record, err := trust.NewToken(c.Keys, time.Time{}, 3)
	must(t, err)
	hash, err := trust.CAHash(c.Keys.CAs[0])
	must(t, err)
	if record.Uses != 3 || record.ID != token.ID || record.CA != hash || token.CA != hash || record.Hash != store.HashSecret(token.Secret) {
		t.Errorf("record %+v", record)
	}
	text := token.Text()
	back, err := trust.ParseToken(" " + text + "\n")
	must(t, err)
	if back.Text() != text {
		t.Errorf("%q reads as %q", text, back.Text())
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", back, back, back), token.Secret.Reveal()) || strings.Contains(string(store.Encode(record)), token.Secret.Reveal()) {
		t.Error("the secret is shown")
	}
	parts := strings.Split(text, ".")
	for name, bad := range map[string]string{
		"empty": "", "half": text[:40], "one-short": text[:len(text)-1], "one-long": text + "0", "no-version": strings.Join(parts[1:], "."),
		"other-version": "sp2." + strings.Join(parts[1:], "."), "upper": strings.ToUpper(text), "space-inside": text[:30] + " " + text[31:],
		"dots": strings.ReplaceAll(text, "0", "."), "slash": "sp1.../.." + text[9:],
	} {
		_, err := trust.ParseToken(bad)
		if !errors.Is(err, trust.ErrToken) || strings.Contains(err.Error(), parts[2]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	for _, s := range []string{"", "sp1.a.b.c", "sp1.0123456789abcdef.0123456789abcdef0123456789abcdef." + strings.Repeat("0123456789abcdef", 4), "sp1....", "....", "sp1.é.\x00.\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := trust.ParseToken(text)
		if err != nil {
			if !errors.Is(err, trust.ErrToken) || len(err.Error()) > 200 {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if token.Text() != strings.TrimSpace(text) || store.ValidKey(store.TokenKey(token.ID)) != nil || len(trust.AskFor(token)) > 255 {
			t.Errorf("%q reads as %q", text, token.Text())
		}
	})
}

func FuzzParseCredentials(f *testing.F) {
	id, err := trust.LoadIdentity(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	c, err := trust.Found(id, here, true, trust.Lifetimes{}, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	c.Peers = []trust.Peer{{ID: "p", Addr: netip.MustParseAddrPort("[fe80::1%eth0]:1")}}
	f.Add(c.Reveal())
	f.Add([]byte(`{"schema":1,"keys":null,"certificate":"","peers":null}`))
	f.Add(trust.Share(c).Reveal())
	f.Add([]byte(`{"schema":3}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := trust.ParseCredentials(text)
		if err != nil {
			return
		}
		again, err := trust.ParseCredentials(c.Reveal())
		if err != nil {
			t.Fatalf("written as %q, they are refused: %v", c.Reveal(), err)
		}
		if string(again.Reveal()) != string(c.Reveal()) {
			t.Errorf("%q is written as %q", c.Reveal(), again.Reveal())
		}
	})
}
