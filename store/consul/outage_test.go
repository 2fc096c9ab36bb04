package consul_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
)

const (
	patience = time.Minute
	timeout  = 2 * time.Second
)

func put(key, value string) store.Op {
	return store.Op{Kind: store.OpPut, Key: key, Value: []byte(value)}
}

// calls are all of a store that wait for Consul.
func calls(s *consul.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"get":      func(ctx context.Context) error { _, err := s.Get(ctx, "a"); return err },
		"list":     func(ctx context.Context) error { _, err := s.List(ctx, "a"); return err },
		"apply":    func(ctx context.Context) error { return s.Apply(ctx, put("a", "x")) },
		"check":    func(ctx context.Context) error { return s.Apply(ctx, store.Op{Kind: store.OpCheck, Key: "a"}) },
		"watch":    func(ctx context.Context) error { _, _, err := s.Watch(ctx, "a", 0); return err },
		"announce": func(ctx context.Context) error { return s.Announce(ctx, "b", nil, 10*time.Second) },
	}
}

// everyCall runs all calls whose requests are seen, and checks that each is unavailable, with a text that names the address, and
// that no request had more time than the store's limit. TestCallsEndInTime shows that a call ends with the time of its requests.
func everyCall(t *testing.T, s *consul.Store, seen *limits, address string, limit time.Duration) {
	t.Helper()
	for name, call := range calls(s) {
		t.Run(name, func(t *testing.T) {
			seen.reset()
			unavailable(t, call(t.Context()), address)
			seen.within(t, limit)
		})
	}
}

// unavailable checks a call's error where Consul is away.
func unavailable(t *testing.T, err error, address string) {
	t.Helper()
	if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrConflict) {
		t.Errorf("error is %v, want ErrUnavailable", err)
	} else if !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "check that") {
		t.Errorf("the text has no address or no cure: %v", err)
	}
}

// TestOutage: calls fail in time while Consul is away, and work again with the
// same store when it is back; a key announced before is still there.
func TestOutage(t *testing.T) {
	server := testenv.Consul(t)
	s := open(t, consul.Options{Address: server.Addr, Timeout: timeout})
	seen := watchLimits(s)
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	if err := s.Apply(ctx, put("a", "1")); err != nil {
		t.Fatal(err)
	}
	announced := make(chan error, 1)
	announcing, leave := context.WithCancel(ctx)
	defer leave()
	// Its session outlives the server's restart also where that takes long.
	go func() { announced <- s.Announce(announcing, "alive", []byte("1"), time.Minute) }()
	poll(t, "the announced key", func() bool { _, err := s.Get(ctx, "alive"); return err == nil })
	_, index, err := s.Watch(ctx, "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	watched := make(chan error, 1)
	go func() {
		_, _, err := s.Watch(ctx, "a", index)
		watched <- err
	}()

	server.Stop()
	everyCall(t, s, seen, server.Addr, timeout)
	select {
	case err := <-watched:
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("the watch ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("the watch goes on")
	}

	server.Start()
	poll(t, "a read", func() bool {
		e, err := s.Get(ctx, "a")
		return err == nil && string(e.Value) == "1"
	})
	if err := s.Apply(ctx, put("a", "2")); err != nil {
		t.Errorf("a write after the outage: %v", err)
	}
	if entries, _, err := s.Watch(ctx, "a", index); err != nil || len(entries) == 0 {
		t.Errorf("a watch after the outage: %v, %v", entries, err)
	}
	select {
	case err := <-announced:
		t.Errorf("the announcement ended with %v", err)
	default:
		if _, err := s.Get(ctx, "alive"); err != nil {
			t.Errorf("the announced key after the outage: %v", err)
		}
	}
	leave()
	if err := <-announced; !errors.Is(err, context.Canceled) {
		t.Errorf("Announce = %v", err)
	}
	// Who leaves does not wait long for an answer.
	poll(t, "the end of the announced key", func() bool { _, err := s.Get(ctx, "alive"); return errors.Is(err, store.ErrNotFound) })
}

// TestNoLeader has a real server that waits for two others.
func TestNoLeader(t *testing.T) {
	addr := lonelyServer(t)
	t.Run("patient", func(t *testing.T) {
		t.Parallel()
		s := open(t, consul.Options{Address: addr, Timeout: patience / 2})
		_, err := s.Get(context.Background(), "a")
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "has no leader") || !strings.Contains(err.Error(), addr) {
			t.Errorf("Get = %v", err)
		}
	})
	t.Run("impatient", func(t *testing.T) {
		t.Parallel()
		const limit = 500 * time.Millisecond
		s := open(t, consul.Options{Address: addr, Timeout: limit})
		everyCall(t, s, watchLimits(s), addr, limit)
	})
}

func lonelyServer(t *testing.T) string {
	testenv.Real(t)
	binary, err := testenv.ConsulBinary()
	if err != nil {
		testenv.Need(t, "consul")
	}
	dir, ip, port := t.TempDir(), "127.251.13.7", 18510
	file := filepath.Join(dir, "consul.json")
	if err := testenv.WriteConsulConfig(dir, ip, port, port+1, port+2); err != nil {
		t.Fatal(err)
	}
	config := map[string]any{}
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	config["bootstrap_expect"] = 3
	if err == nil {
		text, err = json.Marshal(config)
	}
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := testenv.NewProcess(filepath.Join(dir, "consul.log"), binary, "agent", "-config-file="+file)
	t.Cleanup(func() { p.Stop(5 * time.Second) })
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort(ip, strconv.Itoa(port))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	poll(t, "an answer of the server", func() bool {
		resp, err := client.Get("http://" + addr + "/v1/status/leader")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil
	})
	return addr
}

func poll(t *testing.T, what string, ready func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := testenv.Poll(ctx, 20*time.Millisecond, ready); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
