package trust_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
)

// consulPatience is for a start of Consul or a rotation on a busy machine, estatePatience for all of them.
const (
	consulPatience = 2 * time.Minute
	estatePatience = 10 * time.Minute
)

// knock shakes hands with a Consul port as this certificate, and says whether it was let in. RPC expects a byte first that asks for TLS, and who
// hears nothing there for as long as silence was let in.
func knock(addr string, rpc bool, cert *tls.Certificate, silence time.Duration) error {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if rpc {
		if _, err := conn.Write([]byte{3}); err != nil {
			return err
		}
	}
	config := &tls.Config{InsecureSkipVerify: true}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	c := tls.Client(conn, config)
	if err := c.Handshake(); err != nil {
		return err
	}
	// In TLS 1.3 the client hears of its refusal when it reads.
	if !rpc {
		if _, err := io.WriteString(c, "GET /v1/status/leader HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			return err
		}
		_, err := http.ReadResponse(bufio.NewReader(c), nil)
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(silence))
	_, err = c.Read(make([]byte, 1))
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil // it waits for what we have to say
	}
	return err
}

// raft asks a server's RPC port to speak Raft as this certificate, and says whether it is let in: then it waits for what we have to say.
func raft(addr string, cert *tls.Certificate) error {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{3}); err != nil {
		return err
	}
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*cert}})
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, err = c.Read(make([]byte, 1))
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return fmt.Errorf("cut off: %w", err)
}

func (n *node) pair(c trust.Credentials) *tls.Certificate {
	n.t.Helper()
	cert, err := tls.X509KeyPair(c.Cert, n.keeper.Identity().KeyPEM())
	must(n.t, err)
	return &cert
}

// TestConsul holds what the keys are for against a real Consul: who has them is let in, through rotations too; nobody else is.
func TestConsul(t *testing.T) {
	e := newEstate(t)
	first, stranger := e.nodes[0], newNode(t, e.ctx, 9)
	keys := first.keeper.Credentials().Keys

	t.Run("tokens", func(t *testing.T) {
		must(t, e.op.EnsureACL(e.ctx, keys))
		for name, tc := range map[string]struct {
			token   store.Secret
			allowed []string
		}{
			"member":     {e.nodes[1].keeper.Credentials().Token, []string{"kv", "kv-own-host", "raft"}},
			"no such":    {store.NewSecret("5f8a4bd6-1f0c-4a52-8a7e-0a3a7f3c1d11"), nil},
			"management": {keys.ManagementToken(), []string{"acl", "keyring", "kv", "kv-keys", "kv-member", "kv-other", "kv-other-host", "kv-own-host", "kv-private", "kv-read-private", "raft", "session"}},
		} {
			c := first.client(tc.token, first.keeper.ConsulTLS())
			var got []string
			for what, do := range map[string]func() error{
				"kv":       func() error { _, err := c.KV().Put(&api.KVPair{Key: "socketplane/v1/x"}, nil); return err },
				"kv-other": func() error { _, err := c.KV().Put(&api.KVPair{Key: "other/x"}, nil); return err },
				"kv-keys":  func() error { _, err := c.KV().Put(&api.KVPair{Key: store.ClusterKeysKey + "-test"}, nil); return err },
				"kv-private": func() error {
					_, err := c.KV().Put(&api.KVPair{Key: store.ClusterPrivateKey}, nil)
					return err
				},
				"kv-read-private": func() error { _, _, err := c.KV().Get(store.ClusterPrivateKey, nil); return err },
				"kv-member":       func() error { _, err := c.KV().Put(&api.KVPair{Key: store.MemberKey("x")}, nil); return err },
				"kv-own-host":     func() error { _, err := c.KV().Put(&api.KVPair{Key: store.AliveKey(e.nodes[1].id)}, nil); return err },
				"kv-other-host":   func() error { _, err := c.KV().Put(&api.KVPair{Key: store.HostKey(first.id)}, nil); return err },
				"raft":            func() error { _, err := c.Operator().RaftGetConfiguration(nil); return err },
				"session": func() error {
					_, _, err := c.Session().CreateNoChecks(&api.SessionEntry{TTL: "60s"}, nil)
					return err
				},
				"acl":     func() error { _, _, err := c.ACL().TokenList(nil); return err },
				"keyring": func() error { _, err := c.Operator().KeyringList(nil); return err },
			} {
				// It is allowed or forbidden: anything else (a host that is asked for its keyring answers late) is asked again.
				var err error
				first.until(name+": "+what+" is decided", func() bool {
					if err = do(); err != nil && !strings.Contains(err.Error(), "403") {
						t.Logf("%s: %s: %v", name, what, err)
						return false
					}
					return true
				})
				if err == nil {
					got = append(got, what)
				}
			}
			if slices.Sort(got); !slices.Equal(got, tc.allowed) {
				t.Errorf("%s may do %v, want %v", name, got, tc.allowed)
			}
		}
	})

	expired := e.issue(stranger)
	past := time.Now().Add(-100 * 24 * time.Hour)
	cert, err := trust.Issue(after(t, e), stranger.subject(), stranger.keeper.Identity().Public(), 24*time.Hour, past)
	must(t, err)
	expired.Cert = cert
	foreign, err := trust.Found(stranger.keeper.Identity(), stranger.subject(), false, trust.Lifetimes{}, time.Now())
	must(t, err)
	self := stranger.keeper.Identity().Certificate()
	old := e.issue(stranger)
	ports := map[string]bool{
		fmt.Sprintf("127.0.0.1:%d", first.spec.Ports.HTTPS):                false,
		netip.AddrPortFrom(first.spec.Addr, first.spec.Ports.RPC).String(): true,
		fmt.Sprintf("127.0.0.1:%d", e.nodes[1].spec.Ports.HTTPS):           false,
	}
	refused := func(addr string, rpc bool, cert *tls.Certificate, silence time.Duration) error {
		if err := knock(addr, rpc, cert, silence); err == nil || !strings.Contains(err.Error(), "tls:") {
			return fmt.Errorf("%s (RPC: %v): %v, want to be refused by TLS", addr, rpc, err)
		}
		return nil
	}
	t.Run("certificates", func(t *testing.T) {
		certs := map[string]*tls.Certificate{"no certificate": nil, "self-signed": &self, "of another cluster": stranger.pair(foreign), "expired": stranger.pair(expired)}
		for addr, rpc := range ports {
			for name, cert := range certs {
				if err := refused(addr, rpc, cert, patience); err != nil {
					t.Errorf("%s at %v", name, err)
				}
			}
			if err := knock(addr, rpc, stranger.pair(old), time.Second); err != nil {
				t.Errorf("a good certificate at %s: %v", addr, err)
			}
		}
	})

	t.Run("raft", func(t *testing.T) {
		rpc := netip.AddrPortFrom(first.spec.Addr, first.spec.Ports.RPC).String()
		if err := raft(rpc, first.pair(first.keeper.Credentials())); err != nil {
			t.Errorf("a server's certificate: %v", err)
		}
		if err := raft(rpc, stranger.pair(old)); err == nil {
			t.Error("a member's certificate is good for Raft")
		}
	})

	t.Run("rotation", func(t *testing.T) {
		var writes, failed atomic.Int64
		ctx, cancel := context.WithCancel(e.ctx)
		var writers sync.WaitGroup
		for _, n := range e.nodes {
			writers.Go(func() {
				for ctx.Err() == nil {
					if err := n.write("during"); err != nil && ctx.Err() == nil {
						failed.Add(1)
						t.Errorf("a write through %s: %v", n.id, err)
						return
					}
					writes.Add(1)
				}
			})
		}
		after := e.rotate()
		cancel()
		writers.Wait()
		if writes.Load() < 10 {
			t.Errorf("%d writes during the rotation, %d failed", writes.Load(), failed.Load())
		}
		if len(after.CAs) != 1 || after.CAs[0].Cert == keys.CAs[0].Cert || len(after.Gossip) != 1 || after.Gossip[0].Reveal() == keys.Gossip[0].Reveal() {
			t.Fatalf("after the rotation: %d authorities, %d gossip keys", len(after.CAs), len(after.Gossip))
		}
		first.until("all hosts gossip with the new key", func() bool { return e.op.SetKeyring(e.ctx, after.Gossip) == nil })
		for _, n := range e.nodes {
			n.until("a host has a certificate of the new authority", func() bool { return n.keeper.Check(n.keeper.Credentials()) == nil })
		}
		for addr, rpc := range ports { // a Consul takes up what it was told of in a moment
			first.until("a certificate of before the rotation is refused", func() bool {
				err := refused(addr, rpc, stranger.pair(old), 5*time.Second)
				if err != nil {
					t.Log(err)
				}
				return err == nil
			})
		}
		for _, n := range e.nodes {
			n.http.CloseIdleConnections()
			n.until("a host writes over a new connection", func() bool { // its Consul, too, takes up its certificate in a moment
				err := n.write("after")
				if err != nil {
					t.Log(err)
				}
				return err == nil
			})
		}
	})

	t.Run("removed", func(t *testing.T) {
		// A host that was inside before the rotation: its Consul is let in nowhere, until it is admitted again.
		must(t, stranger.keeper.Set(old))
		stranger.start(first)
		stranger.until("it tries in vain", func() bool {
			return strings.Contains(testenv.TailFile(filepath.Join(stranger.dir, "consul.log"), 100), "No installed keys could decrypt the message")
		})
		members, err := first.client(store.Secret{}, first.keeper.ConsulTLS()).Agent().Members(false)
		must(t, err)
		if len(members) != 3 {
			t.Errorf("%d hosts gossip, want 3", len(members))
		}
		if err := stranger.write("removed"); err == nil {
			t.Error("a removed host writes")
		}
		// With the new gossip keys alone it is heard of, but Consul's RPC does not speak to it.
		stranger.stop()
		half := old
		half.Keys.Gossip = after(t, e).Gossip
		must(t, stranger.keeper.Set(half))
		stranger.start(first)
		stranger.until("it does not get on with the server's RPC", func() bool {
			return strings.Contains(testenv.TailFile(filepath.Join(stranger.dir, "consul.log"), 100), "certificate signed by unknown authority")
		})
		if err := stranger.write("removed"); err == nil {
			t.Error("a removed host writes with the new gossip key")
		}
		stranger.stop()
		must(t, stranger.keeper.Set(e.issue(stranger)))
		stranger.start(first)
		stranger.until("it writes when it was admitted again", func() bool { return stranger.write("again") == nil })
	})
}

func after(t *testing.T, e *estate) store.Keys {
	t.Helper()
	keys, err := store.NewCluster(e.kv, "x").AllKeys(e.ctx)
	must(t, err)
	return keys
}
