package plugin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/plugin"
)

const mimeType = "application/vnd.docker.plugins.v1.2+json"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(activatedChild())
	}
	leaks.Main(m)
}

// agent is a Server that serves a real socket for the length of a test.
type agent struct {
	server *plugin.Server
	path   string
	client *http.Client
	stop   context.CancelFunc
	ended  chan error // what Serve returned
}

// start serves mem; the test's end stops it.
func start(t *testing.T, mem *memory, opts plugin.Options) *agent {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socketplane.sock")
	l, err := plugin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a := &agent{
		server: plugin.New(mem, mem, opts),
		path:   path,
		client: clientOf(path),
		stop:   cancel,
		ended:  make(chan error, 1),
	}
	done := make(chan struct{})
	go func() { a.ended <- a.server.Serve(ctx, l); close(done) }()
	t.Cleanup(func() {
		a.client.CloseIdleConnections()
		cancel()
		<-done
	})
	return a
}

func clientOf(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
}

// reply is an answer as Docker's clients read it.
type reply struct {
	status int
	header http.Header
	body   string
	Err    string
	Error  string
}

func (a *agent) call(t *testing.T, verb, path, body string) reply {
	t.Helper()
	r, err := a.try(t.Context(), verb, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", verb, path, err)
	}
	return r
}

// try is call for goroutines, and for requests that may break.
func (a *agent) try(ctx context.Context, verb, path, body string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, verb, "http://plugin.moby.localhost"+path, bytes.NewBufferString(body))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Accept", mimeType)
	resp, err := a.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, err
	}
	r := reply{status: resp.StatusCode, header: resp.Header, body: strings.TrimSpace(string(text))}
	return r, json.Unmarshal(text, &r)
}

// wantError checks that both keys have one text, with all the parts in it.
func (r reply) wantError(t *testing.T, status int, parts ...string) {
	t.Helper()
	if r.status != status || r.Err == "" || r.Err != r.Error {
		t.Fatalf("got %d %s, want %d with the same text in Err and Error", r.status, r.body, status)
	}
	for _, part := range parts {
		if !strings.Contains(r.Err, part) {
			t.Errorf("error %q does not say %q", r.Err, part)
		}
	}
}

// within waits for a value, and fails the test when none comes.
func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	select {
	case v := <-c:
		return v
	case <-limit.C:
		t.Fatalf("%s did not happen", what)
		panic("unreachable")
	}
}
