package admission_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

func TestMain(m *testing.M) { leaks.Main(m) }

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

// TestCaseOfID: Consul ignores case in the names of nodes and policies, so no host gets an id that differs from another one in that only.
func TestCaseOfID(t *testing.T) {
	d := newDoor(t, false)
	ask := func(id string) error {
		h := host(1)
		h.ID = id
		_, err := d.ask(newKeeper(t), admission.Question{Host: h})
		return err
	}
	d.must(ask("aaaaaaaa"))
	d.refused(ask("AAAAAAAA"), admission.CodeBadRequest, "AAAAAAAA")
	d.refused(ask("aaaaaaaA"), admission.CodeBadRequest, "aaaaaaaA")
	if got := d.members(); !slices.Equal(got, []string{"founder1", "aaaaaaaa"}) {
		t.Errorf("members %v", got)
	}
}

func TestTokens(t *testing.T) {
	d := newDoor(t, true)
	other := newDoor(t, true)
	ask := func(n int, token *trust.Token) error {
		_, err := d.ask(newKeeper(t), admission.Question{Host: host(n), Token: token})
		return err
	}
	good := d.token(time.Hour, 1)
	d.must(ask(1, good))
	d.refused(ask(2, good), admission.CodeTokenSpent, "host0002")
	d.refused(ask(3, d.token(-time.Second, 1)), admission.CodeTokenExpired, "host0003")
	removed := d.token(time.Hour, 1)
	d.must(d.cluster.RemoveToken(d.ctx, removed.ID))
	d.refused(ask(4, removed), admission.CodeToken, "host0004")
	forged := *d.token(time.Hour, 1)
	forged.Secret = store.NewSecret(strings.Repeat("0", 32))
	d.refused(ask(5, &forged), admission.CodeToken, "host0005")
	if got := d.members(); len(got) != 2 {
		t.Errorf("members %v", got)
	}
	// A host with the token of another cluster tells this one nothing.
	foreign := other.token(time.Hour, 1)
	before := len(d.log.String())
	if err := ask(6, foreign); !errors.Is(err, trust.ErrStranger) {
		t.Errorf("a token of another cluster: %v", err)
	}
	d.until("the log tells of the broken handshake", func() bool { return len(d.log.String()) > before })
	if log := d.log.String()[before:]; strings.Contains(log, "host0006") {
		t.Errorf("it has told its name: %s", log)
	}
	for _, secret := range []string{good.Secret.Reveal(), forged.Secret.Reveal(), foreign.Secret.Reveal(), "PRIVATE"} {
		if strings.Contains(d.log.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

// TestReplay: of two hosts that show a token with one use in the same moment, one is admitted.
func TestReplay(t *testing.T) {
	d := newDoor(t, true)
	for round := range 5 {
		token := d.token(time.Hour, 1)
		errs := make(chan error, 2)
		for i := range 2 {
			k := newKeeper(t)
			go func() {
				_, err := d.ask(k, admission.Question{Host: host(10*round + i), Token: token})
				errs <- err
			}()
		}
		var refusals []error
		for range 2 {
			if err := <-errs; err != nil {
				refusals = append(refusals, err)
			}
		}
		if len(refusals) != 1 {
			t.Fatalf("round %d: refusals %v", round, refusals)
		}
		d.refused(refusals[0], admission.CodeTokenSpent, "host")
	}
	if got := d.members(); len(got) != 6 {
		t.Errorf("members %v", got)
	}
}

// TestImpostor: who has a token, or was a member, does not speak to somebody else at the address.
func TestImpostor(t *testing.T) {
	d, impostor := newDoor(t, false), newDoor(t, false)
	k := newKeeper(t)
	creds, err := d.ask(k, admission.Question{Host: host(1)})
	d.must(err)
	d.must(k.Set(creds))
	before := impostor.members()
	for name, q := range map[string]admission.Question{
		"token":  {Host: host(2), Token: d.token(time.Hour, 1)},
		"member": {Host: host(1), Again: true, Cluster: creds.Cluster()},
	} {
		if _, err := impostor.ask(k, q); !errors.Is(err, trust.ErrStranger) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Without either, it says at least which cluster it means.
	_, err = impostor.ask(k, admission.Question{Host: host(3), Cluster: creds.Cluster()})
	impostor.refused(err, admission.CodeOtherCluster, "host0003")
	if got := impostor.members(); len(got) != len(before) {
		t.Errorf("the impostor's members are %v", got)
	}
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

// TestBackAfterRotation: a member that was off while the keys were rotated is admitted again by its key, and knows whom it
// speaks to by the other's key; a removed one is not admitted, and hears so from a host that it knew.
func TestBackAfterRotation(t *testing.T) {
	d := newDoor(t, false)
	k, gone := newKeeper(t), newKeeper(t)
	for i, keeper := range []*trust.Keeper{k, gone} {
		creds, err := d.ask(keeper, admission.Question{Host: host(i)})
		d.must(err)
		d.must(keeper.Set(creds))
	}
	cluster := k.Credentials().Cluster()
	d.must(d.cluster.Lock(d.ctx))
	d.must(d.cluster.RemoveMember(d.ctx, host(1).ID))
	d.rotate()
	d.rotate()
	creds, err := d.ask(k, admission.Question{Host: host(0), Again: true, Cluster: cluster})
	d.must(err)
	if creds.Keys.Epoch != 7 || string(creds.Bundle()) == string(k.Credentials().Bundle()) {
		t.Errorf("epoch %d", creds.Keys.Epoch)
	}
	d.must(k.Set(creds))
	_, err = d.ask(gone, admission.Question{Host: host(1), Again: true, Cluster: cluster})
	d.refused(err, admission.CodeNotMember, "host0001")
	_, err = d.ask(gone, admission.Question{Host: host(1)})
	d.refused(err, admission.CodeLocked, "host0001")
	// Its key is worth nothing under another member's id, either.
	_, err = d.ask(gone, admission.Question{Host: host(0), Again: true, Cluster: cluster})
	d.refused(err, admission.CodeOtherKey, "host0000")
}

// TestWithoutMajority: while the store is away nobody new is admitted, but a known member gets what it missed.
func TestWithoutMajority(t *testing.T) {
	d := newDoor(t, false)
	k := newKeeper(t)
	creds, err := d.ask(k, admission.Question{Host: host(1)})
	d.must(err)
	d.must(k.Set(creds))
	members, err := d.cluster.Members(d.ctx)
	d.must(err)
	d.must(d.keeper.SetPeers(trust.Peers(members, "founder1")))
	d.kv.set(true)
	creds, err = d.ask(k, admission.Question{Host: host(1), Again: true, Cluster: creds.Cluster()})
	d.must(err)
	if p := creds.Peers; len(p) != 1 || p[0].ID != "founder1" {
		t.Errorf("peers %+v", p)
	}
	_, err = d.ask(newKeeper(t), admission.Question{Host: host(2)})
	d.refused(err, admission.CodeNotNow, "host0002")
	_, err = d.ask(newKeeper(t), admission.Question{Host: host(1)})
	d.refused(err, admission.CodeNotNow, "host0001")
}

// TestTokenDuringRotation: a token names the authority that lasts, which does not sign yet when it is made.
func TestTokenDuringRotation(t *testing.T) {
	d := newDoor(t, true)
	before := d.token(time.Hour, 0)
	fresh, err := trust.Found(d.keeper.Identity(), trust.Subject{ID: "founder1"}, true, trust.Lifetimes{}, time.Now())
	d.must(err)
	phase := func(phase store.Phase, cas func([]store.Authority) []store.Authority) {
		keys, err := d.cluster.UpdateKeys(d.ctx, func(k *store.Keys) (bool, error) {
			k.Phase, k.CAs, k.Epoch = phase, cas(k.CAs), k.Epoch+1
			return true, nil
		})
		d.must(err)
		mine := d.keeper.Credentials()
		mine.Keys = keys
		mine.Cert, err = trust.Issue(keys, trust.Subject{ID: "founder1"}, d.keeper.Identity().Public(), time.Hour, time.Now())
		d.must(err)
		d.must(d.keeper.Set(mine))
	}
	n := 0
	works := func(step string, token *trust.Token, want bool) {
		n++
		_, err := d.ask(newKeeper(t), admission.Question{Host: host(n), Token: token})
		if (err == nil) != want || err != nil && !errors.Is(err, trust.ErrStranger) {
			t.Errorf("%s: %v", step, err)
		}
	}
	phase(store.PhaseSpread, func(cas []store.Authority) []store.Authority { return append(cas, fresh.Keys.CAs[0]) })
	during := d.token(time.Hour, 0)
	works("spread, made before", before, true)
	works("spread, made during", during, true)
	phase(store.PhaseUse, func(cas []store.Authority) []store.Authority { return []store.Authority{cas[1], cas[0]} })
	works("use, made before", before, true)
	works("use, made during", during, true)
	phase(store.PhaseNone, func(cas []store.Authority) []store.Authority { return cas[:1] })
	works("done, made before", before, false)
	works("done, made during", during, true)
}

// TestScan: connections that say nothing, garbage or half of something have no effect, take bounded time, and hosts that
// ask meanwhile from elsewhere are served.
func TestScan(t *testing.T) {
	d := newDoor(t, false)
	before := d.members()
	hello := []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	var conns []net.Conn
	for i := range 120 {
		conn, err := net.Dial("tcp", d.addr.String())
		d.must(err)
		conns = append(conns, conn)
		switch i % 4 {
		case 1:
			_, _ = conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		case 2:
			_, _ = conn.Write(hello)
		case 3:
			_ = conn.Close()
		}
	}
	// Another host, from another address.
	k := newKeeper(t)
	elsewhere := dialedFrom(t, "127.0.0.2", d.addr)
	_, err := admission.Ask(d.ctx, k, elsewhere, admission.Question{Host: host(1), Trust: store.TrustLeaf})
	d.must(err)
	// Every connection is ended by the server.
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a silent connection stays: %v", err)
		}
		_ = conn.Close()
	}
	if got := d.members(); len(got) != len(before)+1 {
		t.Errorf("members %v", got)
	}
	if lines := strings.Count(d.log.String(), "\n"); lines > 20 {
		t.Errorf("120 connections wrote %d lines into the log", lines)
	}
	if !strings.Contains(d.log.String(), "peer=127.0.0.1") {
		t.Errorf("the log does not name the peer: %s", d.log.String())
	}
}

// TestNonsense: who has finished the handshake and then says nonsense is told so and has no effect.
func TestNonsense(t *testing.T) {
	d := newDoor(t, false)
	before := d.members()
	cert := newKeeper(t).Identity().Certificate()
	for _, body := range []string{"GET / HTTP/1.1\r\n\r\n", "[]\n", `{"version":1}` + "\n", `{"version":9,"host":{"id":"0123456789abcdef","name":"a","addr":"192.0.2.1","port":1}}` + "\n", strings.Repeat("[", 100000)} {
		conn, err := tls.Dial("tcp", d.addr.String(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
		d.must(err)
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(conn, body)
		answer, _ := io.ReadAll(conn)
		_ = conn.Close()
		if len(body) < 1000 && !strings.Contains(string(answer), string(admission.CodeBadRequest)) || strings.Contains(string(answer), "gossip") {
			t.Errorf("%.40q is answered with %q", body, answer)
		}
	}
	// Without a certificate nobody is heard, with another kind of key neither.
	conn, err := tls.Dial("tcp", d.addr.String(), &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil {
		t.Error("a host without a key is heard")
	}
	if got := d.members(); len(got) != len(before) {
		t.Errorf("members %v", got)
	}
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

// tired is a listener that accepts nothing until it is closed.
type tired struct {
	net.Listener
	tries atomic.Int32
	ended chan struct{}
}

func (l *tired) Accept() (net.Conn, error) {
	select {
	case <-l.ended:
		return nil, net.ErrClosed
	default:
	}
	l.tries.Add(1)
	return nil, syscall.EMFILE
}

func (l *tired) Close() error {
	close(l.ended)
	return nil
}

// TestAcceptFailsAndFails: a failure that lasts is logged once.
func TestAcceptFailsAndFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l, log := &tired{ended: make(chan struct{})}, &safeBuffer{}
	done := make(chan error, 1)
	go func() {
		done <- admission.Serve(ctx, l, newKeeper(t), nil, admission.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	}()
	if err := testenv.Poll(ctx, time.Millisecond, func() bool { return l.tries.Load() > 4 }); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log)
	}
}
