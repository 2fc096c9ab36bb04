package adminapi_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
)

// TestMain demands that no goroutine is left when all servers have ended.
func TestMain(m *testing.M) { leaks.Main(m) }

// agent answers with what it was given; wait, if there, is closed by the test to let Info answer.
type agent struct {
	info    adminapi.Info
	infoErr error
	ready   error
	asked   chan struct{}
	wait    chan struct{}
}

func (a *agent) Info(ctx context.Context) (adminapi.Info, error) {
	if a.wait != nil {
		close(a.asked)
		select {
		case <-a.wait:
		case <-ctx.Done():
			return adminapi.Info{}, ctx.Err()
		}
	}
	return a.info, a.infoErr
}

func (a *agent) Ready(context.Context) error { return a.ready }

// serve runs Serve on a real socket and returns its path; stop ends it and returns what Serve returned.
func serve(t *testing.T, a adminapi.Agent) (path string, stop func() error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- adminapi.Serve(ctx, l, adminapi.Handler(a), slog.New(slog.DiscardHandler)) }()
	ended := false
	stop = func() error {
		if ended {
			return nil
		}
		ended = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { _ = stop() })
	return path, stop
}

func TestInfoArrivesWhole(t *testing.T) {
	full := adminapi.Info{
		Schema: adminapi.Schema, Version: "v1", Commit: "abc", Go: "go1", Started: time.Unix(1, 0).UTC(),
		Host:     adminapi.Host{ID: "h1", Name: "alpha", VTEP: netip.MustParseAddr("192.0.2.1"), Underlay: "eth0", MTU: 1500},
		Store:    adminapi.Store{Kind: "consul", Address: "127.0.0.1:8500", Alone: true, Error: "down"},
		OVS:      adminapi.OVS{Version: "3.1", Datapath: "netdev", Tunnel: "kernel", Bridge: "socketplane0", TSO: true, Error: "gone"},
		Networks: []adminapi.Network{{ID: "n", Name: "web", VNI: 7, Pools: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, Endpoints: 2, Peers: 3}},
		Hosts:    []adminapi.Member{{ID: "h2", Name: "beta", VTEP: netip.MustParseAddr("2001:db8::1"), Alive: true}},
	}
	tests := []struct {
		name       string
		give, want adminapi.Info
	}{
		{"everything set", full, full},
		{"nothing set", adminapi.Info{}, adminapi.Info{Schema: adminapi.Schema, Networks: []adminapi.Network{}, Hosts: []adminapi.Member{}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path, _ := serve(t, &agent{info: tt.give})
			got, err := adminapi.NewClient(path).Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestAgentsOwnWords(t *testing.T) {
	path, _ := serve(t, &agent{infoErr: errors.New("no local state"), ready: errors.New("OVS is down: start it")})
	client := adminapi.NewClient(path)
	_, infoErr := client.Info(t.Context())
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"info", infoErr, "the agent answered: no local state"},
		{"ready", client.Ready(t.Context()), "the agent answered: OVS is down: start it"},
	} {
		if tt.err == nil || tt.err.Error() != tt.want || errors.Is(tt.err, adminapi.ErrUnreachable) {
			t.Errorf("%s: %v, want %s", tt.name, tt.err, tt.want)
		}
	}
}

func TestReady(t *testing.T) {
	path, stop := serve(t, &agent{})
	if err := adminapi.NewClient(path).Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Errorf("Serve after its end: %v", err)
	}
}

func TestServeDrains(t *testing.T) {
	a := &agent{info: adminapi.Info{Version: "v1"}, asked: make(chan struct{}), wait: make(chan struct{})}
	path, stop := serve(t, a)
	answered := make(chan error, 1)
	go func() {
		_, err := adminapi.NewClient(path).Info(context.WithoutCancel(t.Context()))
		answered <- err
	}()
	<-a.asked
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	close(a.wait)
	if err := <-answered; err != nil {
		t.Errorf("the running answer was cut: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	absent := filepath.Join(dir, "absent.sock")
	dead := filepath.Join(dir, "dead.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	tests := []struct{ name, path, want string }{
		{"no socket", absent, "the agent does not run (no socket at " + absent +
			"): start it with 'socketplane agent' or 'systemctl start socketplane'"},
		{"leftover socket", dead, "the agent does not run (nobody serves " + dead +
			"): start it with 'socketplane agent' or 'systemctl start socketplane'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := adminapi.NewClient(tt.path).Info(t.Context())
			if !errors.Is(err, adminapi.ErrUnreachable) || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestSilentAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", path) // accepts by the kernel's backlog, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = adminapi.NewClient(path).Info(ctx)
	if !errors.Is(err, adminapi.ErrUnreachable) || !strings.Contains(err.Error(), "does not answer in time") {
		t.Errorf("got %v", err)
	}
}

func TestNotAnAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	_ = srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	defer srv.Close()
	if _, err = adminapi.NewClient(path).Info(t.Context()); err == nil || !strings.Contains(err.Error(), "check --admin-socket") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// TestLivesThoughNotReady: a process that waits for Open vSwitch is not one to be restarted.
func TestLivesThoughNotReady(t *testing.T) {
	h := adminapi.Handler(&agent{ready: errors.New("OVS is down: start it")})
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want || strings.Contains(w.Body.String(), "OVS is down: start it") != (want != http.StatusOK) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestUnknownPaths(t *testing.T) {
	h := adminapi.Handler(&agent{})
	for _, tt := range []struct{ method, path string }{
		{"GET", "/"}, {"GET", "/v2/info"}, {"POST", "/v1/info"}, {"DELETE", "/healthz"}, {"GET", "/v1/info/x"},
	} {
		t.Run(tt.method+strings.ReplaceAll(tt.path, "/", "_"), func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
			want := `{"error":"this agent does not know ` + tt.method + " " + tt.path + `"}` + "\n"
			if w.Code != http.StatusNotFound || w.Body.String() != want {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}
