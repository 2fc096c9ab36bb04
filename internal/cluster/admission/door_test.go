package admission_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

const patience = 2 * time.Minute

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
			Token: func(_ context.Context, host string) (store.Secret, error) {
				return store.NewSecret("token of " + host), nil
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
	q.Trust = store.TrustLeaf
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

// rotate replaces the cluster's keys, as all phases of a rotation together do.
func (d *door) rotate() {
	d.Helper()
	fresh, err := trust.Found(d.keeper.Identity(), trust.Subject{ID: "founder1"}, true, trust.Lifetimes{}, time.Now())
	d.must(err)
	keys, err := d.cluster.UpdateKeys(d.ctx, func(k *store.Keys) (bool, error) {
		k.CAs, k.Gossip, k.Epoch = fresh.Keys.CAs, fresh.Keys.Gossip, k.Epoch+3
		return true, nil
	})
	d.must(err)
	mine := d.keeper.Credentials()
	mine.Keys = keys
	mine.Cert, err = trust.Issue(keys, trust.Subject{ID: "founder1"}, d.keeper.Identity().Public(), time.Hour, time.Now())
	d.must(err)
	d.must(d.keeper.Set(mine))
}

func (d *door) until(what string, ready func() bool) {
	d.Helper()
	if err := testenv.Poll(d.ctx, 10*time.Millisecond, ready); err != nil {
		d.Fatalf("%s: %v", what, err)
	}
}

// dialedFrom forwards connections to target, which sees them come from another address.
func dialedFrom(t *testing.T, from string, target netip.AddrPort) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
			out, err := dialer.Dial("tcp", target.String())
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				all.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}
