package consul_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
)

// documentedPolicy is the policy that the documentation says is enough.
func documentedPolicy(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```hcl\n(key_prefix.*?)```").FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("docs/operations.md has no policy")
	}
	return m[1]
}

// consulEnv are Consul's variables, none of which may come from the machine.
var consulEnv = []string{"CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE", "CONSUL_HTTP_SSL", "CONSUL_HTTP_SSL_VERIFY", "CONSUL_CACERT",
	"CONSUL_CAPATH", "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY", "CONSUL_TLS_SERVER_NAME", "CONSUL_NAMESPACE", "CONSUL_PARTITION"}

// TestSecureConsul: a server with TLS of both ends and ACLs that deny by default, reached by Consul's own variables, with
// the documented policy.
func TestSecureConsul(t *testing.T) {
	server := testenv.SecureConsul(t)
	good := map[string]string{
		"CONSUL_HTTP_ADDR": server.Addr, "CONSUL_HTTP_SSL": "true", "CONSUL_CACERT": server.CA, "CONSUL_CLIENT_CERT": server.Cert,
		"CONSUL_CLIENT_KEY": server.Key, "CONSUL_TLS_SERVER_NAME": server.ServerName,
	}
	setenv := func(t *testing.T, all map[string]string) {
		for _, name := range consulEnv {
			t.Setenv(name, all[name])
		}
	}
	with := func(name, value string) map[string]string {
		all := map[string]string{name: value}
		for k, v := range good {
			if k != name {
				all[k] = v
			}
		}
		return all
	}
	setenv(t, good)
	good["CONSUL_HTTP_TOKEN"] = newToken(t, server.Management)
	tokenFile := t.TempDir() + "/token"
	if err := os.WriteFile(tokenFile, []byte(good["CONSUL_HTTP_TOKEN"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile := with("CONSUL_HTTP_TOKEN", "")
	fromFile["CONSUL_HTTP_TOKEN_FILE"] = tokenFile
	byURL := with("CONSUL_HTTP_SSL", "")
	byURL["CONSUL_HTTP_ADDR"] = "https://" + server.Addr
	unverified := with("CONSUL_CACERT", "")
	unverified["CONSUL_TLS_SERVER_NAME"], unverified["CONSUL_HTTP_SSL_VERIFY"] = "", "false"
	anonymous := with("CONSUL_CLIENT_CERT", "")
	anonymous["CONSUL_CLIENT_KEY"] = ""
	tests := []struct {
		name string
		env  map[string]string
		opts consul.Options
		says string // "" for success
	}{
		{"environment", good, consul.Options{}, ""},
		{"address from the environment, passed on", good, consul.Options{Address: server.Addr}, ""},
		{"address of our own, TLS from the environment", with("CONSUL_HTTP_ADDR", ""), consul.Options{Address: server.Addr}, ""},
		{"https in the address", byURL, consul.Options{}, ""},
		{"token of our own", with("CONSUL_HTTP_TOKEN", "no-such-token"), consul.Options{Token: consul.Token(good["CONSUL_HTTP_TOKEN"])}, ""},
		{"token from a file", fromFile, consul.Options{}, ""},
		{"server's certificate unchecked", unverified, consul.Options{}, ""},
		{"no token", with("CONSUL_HTTP_TOKEN", ""), consul.Options{}, `key_prefix "socketplane/"`},
		{"wrong token", with("CONSUL_HTTP_TOKEN", "no-such-token"), consul.Options{}, `key_prefix "socketplane/"`},
		{"no TLS", with("CONSUL_HTTP_SSL", ""), consul.Options{}, "HTTP request to an HTTPS server"},
		{"no certificate", anonymous, consul.Options{}, "can't be reached"},
		{"another authority", with("CONSUL_CACERT", server.OtherCA), consul.Options{}, "unknown authority"},
		{"no name of the server", with("CONSUL_TLS_SERVER_NAME", ""), consul.Options{}, "IP SANs"},
		{"another name of the server", with("CONSUL_TLS_SERVER_NAME", "other.example"), consul.Options{}, "other.example"},
		{"namespace, which the free Consul has not", with("CONSUL_NAMESPACE", "team"), consul.Options{}, "Namespace"},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			setenv(t, tt.env)
			s, err := consul.Open(tt.opts)
			if err == nil {
				defer s.Close()
				_, err = s.List(t.Context(), store.Root)
				if err == nil {
					// An unknown list is empty to a token that may not read; a write says what it may.
					err = s.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: store.Root + "test", Value: []byte("x")})
				}
			}
			switch {
			case tt.says == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("error %v, want one that says %q", err, tt.says)
			case tt.says != "" && !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrInvalid):
				t.Errorf("error %v is neither unavailable nor invalid", err)
			}
		})
	}
	t.Run("all_that_an_agent_does", func(t *testing.T) {
		setenv(t, good)
		lifeOfAHost(t, open(t, consul.Options{}))
	})
	t.Run("nothing_else", func(t *testing.T) {
		setenv(t, good)
		s := open(t, consul.Options{})
		err := s.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: "other/key", Value: []byte("x")})
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "Permission denied") {
			t.Errorf("a key of somebody else's: %v", err)
		}
	})
}

// newToken makes a token with the documented policy and no other.
func newToken(t *testing.T, management string) string {
	t.Helper()
	config := api.DefaultConfig()
	config.Token = management
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer config.HttpClient.CloseIdleConnections()
	policy, _, err := client.ACL().PolicyCreate(&api.ACLPolicy{Name: "socketplane", Rules: documentedPolicy(t)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return token.SecretID
}

// lifeOfAHost does what an agent does with its store, from the host's record to its removal.
func lifeOfAHost(t *testing.T, s *consul.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	a, pool, addr := store.NewCluster(s, "a"), netip.MustParsePrefix("10.1.0.0/24"), netip.MustParseAddr("10.1.0.2")
	must(a.PutHost(ctx, store.Host{Name: "alpha"}))
	alive, goodbye := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Announce(alive, store.AliveKey("a"), []byte("a"), 10*time.Second) }()
	poll(t, "the sign of life", func() bool { m, err := a.Hosts(ctx); return err == nil && m.Alive["a"] })
	_, err := a.AcquirePool(ctx, pool)
	must(err)
	n, err := a.Bind(ctx, store.Binding{DockerID: "d", Name: "web", Pools: []netip.Prefix{pool}})
	must(err)
	must(a.Keep(ctx, pool, addr))
	must(a.PutEndpoints(ctx, n.ID, []store.Endpoint{{ID: "e", Addrs: []netip.Addr{addr}}}))
	if all, _, err := a.WatchIndexes(ctx, n.ID, 0); err != nil || len(all[n.ID]) != 1 {
		t.Errorf("index %v, %v", all, err)
	}
	goodbye()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the announcement ended with %v", err)
	}
	poll(t, "the end of the sign of life", func() bool { m, err := a.Hosts(ctx); return err == nil && !m.Alive["a"] })
	must(store.NewCluster(s, "b").RemoveHost(ctx, "a"))
	left, err := s.List(ctx, store.Root)
	must(err)
	for _, e := range left {
		if e.Key != store.Root+"test" {
			t.Errorf("left: %s", e.Key)
		}
	}
}
