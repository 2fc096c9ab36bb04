package trust_test

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// following is a host that follows its cluster's keys, and the store that they are in.
type following struct {
	t       *testing.T
	ctx     context.Context
	dir     string
	keeper  *trust.Keeper
	cluster *store.Cluster
	kv      store.KV

	mu      sync.Mutex
	subject trust.Subject
	broken  error
	asked   int
	loaded  []trust.Credentials
}

func follow(t *testing.T, life trust.Lifetimes) *following {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
	must(t, err)
	f := &following{t: t, ctx: ctx, dir: t.TempDir(), kv: kv, cluster: store.NewCluster(kv, here.ID), subject: here}
	f.keeper, err = trust.Open(f.dir, life)
	must(t, err)
	creds, err := trust.Found(f.keeper.Identity(), here, true, life, time.Now())
	must(t, err)
	must(t, f.keeper.Set(creds))
	must(t, f.cluster.PutKeys(ctx, creds.Keys))
	must(t, f.cluster.PutMember(ctx, store.Member{ID: here.ID, Key: f.keeper.Identity().Fingerprint()}))
	done := make(chan error)
	go func() {
		done <- f.keeper.NewFollower(f.cluster, f.ways(), slog.New(slog.DiscardHandler)).Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = kv.Close()
	})
	f.until("the host has confirmed what it has", func() bool { return f.epoch() == 1 })
	return f
}

// ways are those of a host that is a server or, as soon as subject says so, a client, which a server with the keys of the store answers.
func (f *following) ways() trust.Ways {
	return trust.Ways{
		Host: f.host, Reload: f.reload,
		Token: func(context.Context, store.Keys) (store.Secret, error) { return store.NewSecret("own"), nil },
		Ask: func(ctx context.Context) (trust.Credentials, error) {
			f.set(func(f *following) { f.asked++ })
			all, err := f.cluster.AllKeys(ctx)
			if err != nil {
				return trust.Credentials{}, err
			}
			cert, err := trust.Issue(all, f.host(), f.keeper.Identity().Public(), trust.Lifetimes{}.Complete().Leaf, time.Now())
			if f.host().Client {
				all = all.Public()
			}
			return trust.Credentials{Keys: all, Cert: cert, Token: store.NewSecret("own")}, err
		},
		Confirm: func(ctx context.Context, epoch uint64) error {
			return f.cluster.UpdateMember(ctx, here.ID, func(m *store.Member) error { m.Epoch = epoch; return nil })
		},
	}
}

func (f *following) host() trust.Subject {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.subject
}

func (f *following) reload(_ context.Context, c trust.Credentials) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken == nil {
		f.loaded = append(f.loaded, c)
	}
	return f.broken
}

func (f *following) set(change func(*following)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// last is what Consul has taken up.
func (f *following) last() *x509.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return parse(f.t, f.loaded[len(f.loaded)-1].Cert)
}

func (f *following) epoch() uint64 {
	members, err := f.cluster.Members(f.ctx)
	must(f.t, err)
	return members[0].Epoch
}

func (f *following) until(what string, ready func() bool) {
	f.t.Helper()
	if err := testenv.Poll(f.ctx, 10*time.Millisecond, ready); err != nil {
		f.t.Fatalf("%s: %v", what, err)
	}
}

func TestFollowKeys(t *testing.T) {
	f := follow(t, trust.Lifetimes{})
	other := store.Member{ID: "other", Name: "o", Addr: netip.MustParseAddr("192.0.2.9"), Port: 4780, Key: "00"}
	must(t, f.cluster.PutMember(f.ctx, other))
	fresh := found(t, f.keeper.Identity(), trust.Lifetimes{}, time.Now()).Keys
	f.set(func(f *following) { f.broken = errors.New("consul is starting") })
	_, err := f.cluster.UpdateKeys(f.ctx, func(k *store.Keys) (bool, error) {
		k.CAs, k.Gossip, k.Epoch = fresh.CAs, fresh.Gossip, 2
		return true, nil
	})
	must(t, err)
	// Saved before Consul is told; confirmed after.
	f.until("the new keys are saved", func() bool {
		k := open(t, f.dir)
		return k.Credentials().Keys.Epoch == 2 && k.Check(k.Credentials()) == nil
	})
	if f.epoch() != 1 {
		t.Error("the epoch was confirmed before Consul took the keys up")
	}
	if p := open(t, f.dir).Credentials().Peers; len(p) != 1 || p[0].ID != "other" || p[0].Key != "00" {
		t.Errorf("peers %+v: who is a member is saved with the keys", p)
	}
	f.set(func(f *following) { f.broken = nil })
	f.until("the new keys are confirmed", func() bool { return f.epoch() == 2 })
	ca := parse(t, []byte(fresh.CAs[0].Cert))
	must(t, f.last().CheckSignatureFrom(ca))
}

func TestFollowAge(t *testing.T) {
	const life = 15 * time.Second // it is due for renewal in the last third, half of which is for a busy machine
	f := follow(t, trust.Lifetimes{Leaf: life})
	first := f.last()
	f.until("the certificate is renewed before it expires", func() bool { return f.last().SerialNumber.Cmp(first.SerialNumber) != 0 })
	if now := time.Now(); now.After(first.NotAfter) || now.Before(first.NotAfter.Add(-life/2)) {
		t.Errorf("renewed at %s, it expires at %s", now, first.NotAfter)
	}
	// Also while the store is away, and with an address that has changed meanwhile.
	must(t, f.kv.Close())
	f.set(func(f *following) { f.subject.Addr = netip.MustParseAddr("192.0.2.77") })
	f.until("the certificate is for the new address", func() bool { return f.last().VerifyHostname("192.0.2.77") == nil })
	second := f.last()
	f.until("the certificate is renewed without a store", func() bool { return f.last().NotAfter.After(second.NotAfter) })
}

// TestFollowClock: a certificate that was made while the clock was ahead, which other hosts refuse as not valid yet, is replaced when the clock is right.
func TestFollowClock(t *testing.T) {
	const life = 15 * time.Second // it is looked at every sixth of that
	f := follow(t, trust.Lifetimes{Leaf: life})
	creds := f.keeper.Credentials()
	var err error
	creds.Cert, err = trust.Issue(creds.Keys, here, f.keeper.Identity().Public(), life, time.Now().Add(100*24*time.Hour))
	must(t, err)
	must(t, f.keeper.Set(creds))
	f.until("the certificate is valid now", func() bool { return !parse(t, f.keeper.Credentials().Cert).NotBefore.After(time.Now()) })
	if got := f.last(); got.NotBefore.After(time.Now()) {
		t.Errorf("consul has a certificate that begins at %s", got.NotBefore)
	}
}

// TestFollowRole: a host that is no server any more loses what only servers hold, from memory and from its file, and gets a
// certificate that does not pass for a server's; when it is one again, it gets all back.
func TestFollowRole(t *testing.T) {
	f := follow(t, trust.Lifetimes{})
	follower := f.keeper.NewFollower(f.cluster, f.ways(), slog.New(slog.DiscardHandler))
	secrets := func() (found []string) {
		text, err := os.ReadFile(filepath.Join(f.dir, "credentials.json"))
		must(t, err)
		all, err := f.cluster.AllKeys(f.ctx)
		must(t, err)
		for what, secret := range map[string]string{"authority": "EC PRIVATE KEY", "management": all.ManagementToken().Reveal()} {
			if strings.Contains(string(text), secret) || strings.Contains(string(f.keeper.Credentials().Reveal()), secret) {
				found = append(found, what)
			}
		}
		slices.Sort(found)
		return found
	}
	if got := secrets(); len(got) != 2 || !follower.Fits() {
		t.Fatalf("a server holds %v", got)
	}
	f.set(func(f *following) { f.subject.Client = true })
	if follower.Fits() {
		t.Error("a client may hold what servers hold")
	}
	must(t, follower.Release(f.ctx))
	if got := secrets(); len(got) != 0 {
		t.Errorf("a client holds %v", got)
	}
	must(t, follower.Renew(f.ctx))
	if cert := f.last(); !follower.Fits() || cert.VerifyHostname(trust.ServerName) == nil || cert.VerifyHostname("localhost") != nil {
		t.Errorf("a client's certificate is for %v", cert.DNSNames)
	}
	// A rotation reaches it: its certificate comes from a server.
	fresh := found(t, f.keeper.Identity(), trust.Lifetimes{}, time.Now()).Keys
	_, err := f.cluster.UpdateKeys(f.ctx, func(k *store.Keys) (bool, error) {
		k.CAs, k.Epoch = fresh.CAs, k.Epoch+1
		return true, nil
	})
	must(t, err)
	f.until("the new keys are confirmed", func() bool { return f.epoch() == 2 })
	must(t, f.last().CheckSignatureFrom(parse(t, []byte(fresh.CAs[0].Cert))))
	if got := secrets(); len(got) != 0 || !follower.Fits() {
		t.Errorf("a client holds %v after a rotation", got)
	}
	f.set(func(f *following) { f.subject.Client = false })
	must(t, follower.Renew(f.ctx))
	if got := secrets(); len(got) != 2 || !follower.Fits() || f.last().VerifyHostname(trust.ServerName) != nil {
		t.Errorf("a host that is a server again holds %v", got)
	}
}
