package testenv_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

func TestConsulKeepsItsDataOverARestart(t *testing.T) {
	s := testenv.Consul(t)
	put(t, s.Addr, "kept")
	s.Kill()
	s.Start()
	if got := get(t, s.Addr); got != http.StatusOK {
		t.Fatalf("key after a restart: status %d", got)
	}
}

func TestProcess(t *testing.T) {
	p := testenv.NewProcess(t.TempDir()+"/log", "sh", "-c", "echo started; exec sleep 60")
	if p.Running() || !p.Stop(time.Second) {
		t.Fatal("a process that was not started must count as stopped")
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := testenv.Poll(ctx, 10*time.Millisecond, func() bool { return strings.HasPrefix(p.Tail(5), "started") }); err != nil {
		t.Fatalf("log: %q", p.Tail(5))
	}
	p.Kill()
	if p.Running() {
		t.Fatal("runs after Kill")
	}
}

func put(t *testing.T, addr, value string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+addr+"/v1/kv/k", strings.NewReader(value))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func get(t *testing.T, addr string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/v1/kv/k", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
