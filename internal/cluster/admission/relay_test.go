package admission_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// local is a host at 127.0.0.1, from where its questions come.
func local(n int) admission.Host {
	h := host(n)
	h.Addr = netip.MustParseAddr("127.0.0.1")
	return h
}

// member lets a host join and keeps what it gets.
func (d *door) member(h admission.Host) *trust.Keeper {
	d.Helper()
	k := newKeeper(d.T)
	creds, err := d.ask(k, admission.Question{Host: h})
	d.must(err)
	d.must(k.Set(creds))
	members, err := d.cluster.Members(d.ctx)
	d.must(err)
	d.must(d.keeper.SetPeers(trust.Peers(members, "founder1")))
	return k
}

// relay serves at a member that holds no keys.
func (d *door) relay(k *trust.Keeper) netip.AddrPort {
	d.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	d.must(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- admission.Serve(ctx, l, k, nil, admission.Options{Logger: slog.New(slog.NewTextHandler(d.log, nil))})
	}()
	d.Cleanup(func() {
		stop()
		d.must(<-done)
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TestRelay: a member that holds no keys connects who asks with a server. Whom they trust is between those two.
func TestRelay(t *testing.T) {
	d := newDoor(t, false)
	k := d.member(local(1))
	if k.Credentials().Keys.Private() || strings.Contains(string(k.Credentials().Reveal()), "EC PRIVATE KEY") {
		t.Fatal("a member that is no server got the keys of servers")
	}
	relay := d.relay(k)
	d.must(d.cluster.Lock(d.ctx))
	from := dialedFrom(t, "127.0.0.5", relay)
	ask := func(q admission.Question) (trust.Credentials, error) {
		q.Trust = store.TrustLeaf
		return admission.Ask(d.ctx, newKeeper(t), from, q)
	}
	_, err := ask(admission.Question{Host: host(2)})
	d.refused(err, admission.CodeLocked, "host0002")
	if log := d.log.String(); !strings.Contains(log, "peer=127.0.0.5 host=host0002") {
		t.Errorf("the server's log does not say from where the question came: %s", log)
	}
	creds, err := ask(admission.Question{Host: host(2), Token: d.token(time.Hour, 1)})
	d.must(err)
	if creds.Token.Reveal() != "token of host0002" {
		t.Error("the host has got no token of its own")
	}
	// A token of another authority: the joining host finds out, though it is not connected with the server itself.
	foreign := d.token(time.Hour, 1)
	foreign.CA = strings.Repeat("0", 64)
	if _, err := ask(admission.Question{Host: host(3), Token: foreign}); !errors.Is(err, trust.ErrStranger) {
		t.Errorf("a server of another authority is believed: %v", err)
	}
}

// TestStrangerBehindRelay: who asks too often through a member uses up what that member may ask the server neither for itself nor for
// others.
func TestStrangerBehindRelay(t *testing.T) {
	d := newDoor(t, false)
	k := d.member(local(1))
	relay := d.relay(k)
	d.must(d.cluster.Lock(d.ctx))
	stranger, other := dialedFrom(t, "127.0.0.5", relay), dialedFrom(t, "127.0.0.6", relay)
	ask := func(at netip.AddrPort) error {
		_, err := admission.Ask(d.ctx, newKeeper(t), at, admission.Question{Host: host(2), Trust: store.TrustLeaf})
		return err
	}
	answered := 0
	for range 60 {
		if refusal(ask(stranger)) == admission.CodeLocked {
			answered++
		}
	}
	if answered == 0 || answered == 60 {
		t.Fatalf("the stranger was answered %d times of 60", answered)
	}
	d.refused(ask(other), admission.CodeLocked, "host0002")
	for range 10 {
		_, err := d.ask(k, admission.Question{Host: local(1), Again: true})
		d.must(err)
	}
}

// TestPreamble: only members may say that a question comes from elsewhere, and only to servers.
func TestPreamble(t *testing.T) {
	d := newDoor(t, false)
	relay := d.relay(d.member(local(1)))
	for name, tc := range map[string]struct {
		from, text string
		to         netip.AddrPort
	}{
		"of a stranger": {"127.0.0.6", "SPRELAY 192.0.2.1\n", d.addr},
		"no address":    {"127.0.0.1", "SPRELAY nowhere\n", d.addr},
		"endless":       {"127.0.0.1", "SPRELAY " + strings.Repeat("1", 200), d.addr},
		"to a relay":    {"127.0.0.1", "SPRELAY 192.0.2.1\n", relay},
	} {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(tc.from)}}
		conn, err := dialer.DialContext(d.ctx, "tcp", tc.to.String())
		d.must(err)
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err = io.WriteString(conn, tc.text)
		d.must(err)
		if n, err := conn.Read(make([]byte, 100)); n != 0 || err == nil {
			t.Errorf("%s: %d bytes are answered, %v", name, n, err)
		}
		_ = conn.Close()
	}
	if strings.Contains(d.log.String(), "192.0.2.1") {
		t.Error("the log names an address that a stranger has made up")
	}
}

// TestServerGetsKeys: a member gets all keys when its record says that it is a server, and not before, also without a store.
func TestServerGetsKeys(t *testing.T) {
	d := newDoor(t, false)
	k := d.member(local(1))
	again := admission.Question{Host: local(1), Again: true, Cluster: k.Credentials().Cluster()}
	check := func(when string, serves bool) {
		t.Helper()
		creds, err := d.ask(k, again)
		d.must(err)
		d.must(k.Check(creds))
		d.must(k.Set(creds))
		if creds.Keys.Private() != serves || strings.Contains(string(creds.Reveal()), "EC PRIVATE KEY") != serves {
			t.Errorf("%s: the keys of servers were given: %v", when, creds.Keys.Private())
		}
	}
	check("as a client", false)
	role := func(role string) {
		d.must(d.cluster.UpdateMember(d.ctx, local(1).ID, func(m *store.Member) error { m.Role = role; return nil }))
		members, err := d.cluster.Members(d.ctx)
		d.must(err)
		d.must(d.keeper.SetPeers(trust.Peers(members, "founder1")))
	}
	role(store.RoleServer)
	check("as a server", true)
	d.kv.set(true)
	check("as a server, without a store", true)
	d.kv.set(false)
	role(store.RoleClient)
	check("as a client again", false)
	d.kv.set(true)
	check("as a client, without a store", false)
}

// TestOldAgent: who asks for keys that members no longer hold is told to upgrade, and leaves no record.
func TestOldAgent(t *testing.T) {
	d := newDoor(t, false)
	_, err := admission.Ask(d.ctx, newKeeper(t), d.addr, admission.Question{Host: host(1)})
	d.refused(err, admission.CodeOldAgent, "host0001")
	if got := d.members(); len(got) != 1 {
		t.Errorf("members %v", got)
	}
}

// TestFull: an open cluster can't be filled without end.
func TestFull(t *testing.T) {
	d := newDoor(t, false)
	for n := range 999 {
		d.must(d.cluster.PutMember(d.ctx, store.Member{ID: fmt.Sprintf("member%d", n), Key: "00"}))
	}
	_, err := d.ask(newKeeper(t), admission.Question{Host: host(1)})
	d.refused(err, admission.CodeFull, "host0001")
}

// TestAct: a member lets a server change its own record, tokens and the lock, and remove hosts that are down; nobody else does.
func TestAct(t *testing.T) {
	d := newDoor(t, false)
	k, other := d.member(host(1)), d.member(host(2))
	do := func(k *trust.Keeper, r admission.Request) error {
		if r.Host.ID == "" {
			r.Host = host(1)
		}
		return admission.Do(d.ctx, k, d.addr, r)
	}
	record := func(id string) (found store.Member) {
		members, err := d.cluster.Members(d.ctx)
		d.must(err)
		for _, m := range members {
			if m.ID == id {
				found = m
			}
		}
		return found
	}
	moved := host(1)
	moved.Name, moved.Addr = "renamed", netip.MustParseAddr("127.0.0.77")
	d.must(do(k, admission.Request{Host: moved, Do: admission.Report, Epoch: 9, Leaving: true}))
	if m := record("host0001"); m.Name != "renamed" || m.Addr != moved.Addr || m.Epoch != 9 || m.State != store.StateLeaving || m.Role != store.RoleClient {
		t.Errorf("record %+v", m)
	}
	d.must(do(k, admission.Request{Do: admission.Report, Epoch: 1}))

	// Not with another one's key, and not with none that is a member's.
	for name, k := range map[string]*trust.Keeper{"another member": other, "a stranger": d.stranger(k)} {
		for _, action := range []admission.Action{admission.Report, admission.Resign, admission.Lock} {
			if err := do(k, admission.Request{Do: action}); refusal(err) != admission.CodeNotMember {
				t.Errorf("%s does %s: %v", name, action, err)
			}
		}
	}
	if err := do(k, admission.Request{Do: "format-all-disks"}); refusal(err) != admission.CodeBadRequest {
		t.Errorf("an unknown action: %v", err)
	}

	d.must(do(k, admission.Request{Do: admission.Lock}))
	keys, err := d.cluster.Keys(d.ctx)
	d.must(err)
	if !keys.Locked || !keys.Rotate {
		t.Errorf("locked %v, to be rotated %v", keys.Locked, keys.Rotate)
	}
	token, made, err := trust.NewToken(keys, time.Now().Add(time.Hour), 1)
	d.must(err)
	d.must(do(k, admission.Request{Do: admission.CreateToken, Join: &made}))
	_, err = d.ask(newKeeper(t), admission.Question{Host: host(3), Token: &token})
	d.must(err)
	bad := made
	bad.Used = -5
	if err := do(k, admission.Request{Do: admission.CreateToken, Join: &bad}); refusal(err) != admission.CodeBadRequest {
		t.Errorf("a bad record of a token: %v", err)
	}
	d.must(do(k, admission.Request{Do: admission.RemoveToken, Target: made.ID}))
	if err := do(k, admission.Request{Do: admission.RemoveToken, Target: made.ID}); refusal(err) != admission.CodeNotFound {
		t.Errorf("a token is removed twice: %v", err)
	}
	d.must(do(k, admission.Request{Do: admission.Unlock}))

	d.must(d.cluster.KV().Apply(d.ctx, store.Op{Kind: store.OpPut, Key: store.AliveKey("host0002"), Value: []byte("x")}))
	d.must(store.NewCluster(d.cluster.KV(), "host0002").PutHost(d.ctx, store.Host{ID: "host0002", Name: "h2"}))
	if err := do(k, admission.Request{Do: admission.Remove, Target: "host0002"}); refusal(err) != admission.CodeConflict || record("host0002").ID == "" {
		t.Errorf("a host that is up is removed: %v", err)
	}
	d.must(d.cluster.KV().Apply(d.ctx, store.Op{Kind: store.OpRemove, Key: store.AliveKey("host0002")}))
	d.must(do(k, admission.Request{Do: admission.Remove, Target: "host0002"}))
	if record("host0002").ID != "" {
		t.Error("the host is a member still")
	}
	d.must(do(k, admission.Request{Do: admission.Resign}))
	if record("host0001").ID != "" {
		t.Error("the host is a member still")
	}
}

// stranger has the credentials' trust, and another key.
func (d *door) stranger(k *trust.Keeper) *trust.Keeper {
	d.Helper()
	s := newKeeper(d.T)
	creds := k.Credentials()
	keys, err := d.cluster.AllKeys(d.ctx)
	d.must(err)
	creds.Cert, err = trust.Issue(keys, trust.Subject{ID: "stranger", Client: true}, s.Identity().Public(), time.Hour, time.Now())
	d.must(err)
	d.must(s.Set(creds))
	return s
}

func refusal(err error) admission.Code {
	var r *admission.Refused
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}
