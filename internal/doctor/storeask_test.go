package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/probe"
	"github.com/socketplane/socketplane/store"
)

// TestStoreBehindLoopback: a store on this host can't be reached while the loopback is down; one elsewhere is not blamed on that.
func TestStoreBehindLoopback(t *testing.T) {
	for address, named := range map[string]bool{"https://127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "192.0.2.1:1": false, "unix:///run/consul.sock": false} {
		d := StoreDeps{Files: host(t, nil), Links: links(Link{Name: "lo"}), Kind: "consul", Address: address, Members: func(context.Context) (store.Membership, error) {
			return store.Membership{}, syscall.ENETUNREACH
		}}
		if got := Run(t.Context(), []Check{Store(d)})[0]; got.State != adminapi.CheckBad || strings.Contains(got.Cure, "ip link set lo up") != named {
			t.Errorf("%s: %+v", address, got)
		}
	}
}

// asked is what the agent gives.
func asked(ctx context.Context, address string) error {
	err := probe.Consul(ctx, address)
	if errors.Is(err, probe.ErrNoLeader) {
		return store.ErrNoLeader
	}
	return err
}

// TestStoreIsAsked: where the agent's own question has only used up its time, a question of doctor's own tells why.
func TestStoreIsAsked(t *testing.T) {
	answers := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body) // the other end says if it did not get it
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = nil
	tls.StartTLS()
	t.Cleanup(tls.Close)
	socket := filepath.Join(t.TempDir(), "consul.sock")
	daemon(t, socket, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\"\"")
	plain := answers(http.StatusOK, `"192.0.2.9:8300"`)
	for name, tt := range map[string]struct {
		address string
		err     error
		words   []string
		never   string
	}{
		"well":               {plain, context.DeadlineExceeded, []string{"but not what the agent asks", "load of Consul"}, "start Consul"},
		"no leader":          {answers(http.StatusOK, `""`), context.DeadlineExceeded, []string{"no leader", "raft list-peers"}, "start Consul"},
		"no leader, 500":     {answers(http.StatusInternalServerError, "No cluster leader"), context.DeadlineExceeded, []string{"no leader", "raft list-peers"}, "start Consul"},
		"no servers":         {answers(http.StatusInternalServerError, "No known Consul servers"), context.DeadlineExceeded, []string{"no leader", "raft list-peers"}, "start Consul"},
		"no leader, socket":  {"unix://" + socket, context.DeadlineExceeded, []string{"no leader"}, "start Consul"},
		"no socket":          {"unix://" + socket + "x", context.DeadlineExceeded, []string{"no socket", "start Consul"}, "firewall"},
		"nobody":             {"127.0.0.1:1", context.DeadlineExceeded, []string{"refuses connections", "start Consul"}, "firewall"},
		"web server":         {answers(http.StatusOK, "<html>"), context.DeadlineExceeded, []string{"answers, but not as Consul", "8500"}, "firewall"},
		"gone away":          {answers(http.StatusNotFound, "no"), context.DeadlineExceeded, []string{"404", "Consul's log"}, "firewall"},
		"TLS, and it is":     {tls.URL, context.DeadlineExceeded, []string{"but not what the agent asks"}, "start Consul"},
		"TLS, and it is not": {strings.Replace(plain, "http:", "https:", 1), context.DeadlineExceeded, []string{"not as Consul's HTTP API of this scheme", "https://"}, "firewall"},
		"no TLS, and it is":  {strings.Replace(tls.URL, "https:", "http:", 1), context.DeadlineExceeded, []string{"not as Consul's HTTP API of this scheme", "https://"}, "firewall"},
		"restarted":          {plain, io.EOF, []string{"but not what the agent asks"}, "scheme"},
		"a name":             {"consul.invalid:8500", context.DeadlineExceeded, []string{"can't be resolved", "getent hosts consul.invalid"}, "firewall"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			d := StoreDeps{Files: host(t, nil), Kind: "consul", Address: tt.address, Ask: asked, Host: "h", Log: "LOG", Members: func(context.Context) (store.Membership, error) {
				return store.Membership{}, fmt.Errorf("the agent waits: %w", tt.err)
			}}
			got := Run(t.Context(), []Check{Store(d)})[0]
			if got.State != adminapi.CheckBad {
				t.Errorf("%+v", got)
			}
			said := got.Text + " | " + got.Cure
			for _, word := range append(tt.words, "the agent waits") {
				if !strings.Contains(said, word) {
					t.Errorf("it does not say %q: %s", word, said)
				}
			}
			if strings.Contains(said, tt.never) {
				t.Errorf("it says %q: %s", tt.never, said)
			}
		})
	}
}
