package admission_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// door is a founded cluster with its admission server.
type door struct {
	*testing.T
	ctx     context.Context
	kv      *flaky
	cluster *store.Cluster
	keeper  *trust.Keeper
	addr    netip.AddrPort
	log     *safeBuffer
}

// flaky is a store that can be away.
type flaky struct {
	store.KV
	mu   sync.Mutex
	away bool
}

func (f *flaky) set(away bool) { f.mu.Lock(); defer f.mu.Unlock(); f.away = away }

func (f *flaky) gone() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.away }

func (f *flaky) Get(ctx context.Context, key string) (store.Entry, error) {
	if f.gone() {
		return store.Entry{}, store.ErrUnavailable
	}
	return f.KV.Get(ctx, key)
}

type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newDoor(t *testing.T, locked bool) *door {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	d := &door{T: t, ctx: ctx, kv: &flaky{KV: kv}, log: &safeBuffer{}}
	d.cluster = store.NewCluster(d.kv, "founder1")
	d.keeper = newKeeper(t)
	creds, err := trust.Found(d.keeper.Identity(), trust.Subject{ID: "founder1", Addr: netip.MustParseAddr("127.0.0.1")}, locked, trust.Lifetimes{}, time.Now())
	d.must(err)
	d.must(d.keeper.Set(creds))
	d.must(d.cluster.PutKeys(ctx, creds.Keys))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	d.must(err)
	d.addr = l.Addr().(*net.TCPAddr).AddrPort()
	d.must(d.cluster.PutMember(ctx, store.Member{
		ID: "founder1", Name: "founder", Addr: d.addr.Addr(), Port: d.addr.Port(), Key: d.keeper.Identity().Fingerprint(),
		Joined: time.Now(), Role: store.RoleServer, Epoch: creds.Keys.Epoch,
	}))
	serve, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- admission.Serve(serve, l, d.keeper, d.cluster, admission.Options{
			Self: func() trust.Peer {
				return trust.Peer{ID: "founder1", Name: "founder", Addr: d.addr, Key: d.keeper.Identity().Fingerprint()}
			},
			Logger: slog.New(slog.NewTextHandler(d.log, nil)),
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if t.Failed() {
			t.Log(d.log.String())
		}
	})
	return d
}

func newKeeper(t *testing.T) *trust.Keeper {
	t.Helper()
	k, err := trust.Open(t.TempDir(), trust.Lifetimes{})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (d *door) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// host is what a joining host says of itself.
func host(n int) admission.Host {
	return admission.Host{ID: fmt.Sprintf("host%04d", n), Name: fmt.Sprintf("h%d", n), Addr: netip.MustParseAddr("127.0.0.9"), Port: 4780}
}

func (d *door) ask(k *trust.Keeper, q admission.Question) (trust.Credentials, error) {
	return admission.Ask(d.ctx, k, d.addr, q)
}

// token makes a token of the cluster as it is now.
func (d *door) token(life time.Duration, uses int) *trust.Token {
	d.Helper()
	keys, err := d.cluster.Keys(d.ctx)
	d.must(err)
	t, record, err := trust.NewToken(keys, time.Now().Add(life), uses)
	d.must(err)
	d.must(d.cluster.CreateToken(d.ctx, record))
	return &t
}

// refused demands a refusal for this reason, its line in the log, and no record of the host.
func (d *door) refused(err error, code admission.Code, id string) {
	d.Helper()
	var r *admission.Refused
	if !errors.As(err, &r) || r.Code != code {
		d.Fatalf("error is %v, want a refusal with code %s", err, code)
	}
	if log := d.log.String(); !strings.Contains(log, "code="+string(code)) || !strings.Contains(log, "peer=127.0.0.1") || !strings.Contains(log, id) {
		d.Errorf("the log does not tell of the refusal of %s: %s", id, log)
	}
}

func (d *door) members() []string {
	d.Helper()
	all, err := d.cluster.Members(d.ctx)
	d.must(err)
	var ids []string
	for _, m := range all {
		ids = append(ids, m.ID)
	}
	return ids
}

func TestOpen(t *testing.T) {
	d := newDoor(t, false)
	k := newKeeper(t)
	creds, err := d.ask(k, admission.Question{Host: host(1)})
	d.must(err)
	d.must(k.Set(creds))
	if got := d.members(); len(got) != 2 || got[1] != "host0001" {
		t.Fatalf("members %v", got)
	}
	if p := creds.Peers; len(p) != 1 || p[0].ID != "founder1" || p[0].Addr != d.addr {
		t.Fatalf("peers %+v", p)
	}
	d.must(d.cluster.Lock(d.ctx))
	_, err = d.ask(newKeeper(t), admission.Question{Host: host(2)})
	d.refused(err, admission.CodeLocked, "host0002")
	// Who is inside is admitted again, also when it lost what it had.
	_, err = d.ask(k, admission.Question{Host: host(1), Again: true, Cluster: creds.Cluster()})
	d.must(err)
	// Another host can't take its id.
	_, err = d.ask(newKeeper(t), admission.Question{Host: host(1)})
	d.refused(err, admission.CodeOtherKey, "host0001")
	d.must(d.cluster.Unlock(d.ctx))
	_, err = d.ask(newKeeper(t), admission.Question{Host: host(2)})
	d.must(err)
}
