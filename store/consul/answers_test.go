package consul_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
)

// answering is a server for answers that a healthy Consul doesn't give, and limit that of each call.
func answering(t *testing.T, limit time.Duration, handler http.HandlerFunc) *consul.Store {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return open(t, consul.Options{Address: server.URL, Timeout: limit})
}

// inVain is the limit of calls that are not answered until it is over.
const inVain = 2 * time.Second

// TestAnswers: what Consul's refusals mean. The texts are those of Consul 1.22.7.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   error
		text   string
	}{
		{"plain-to-tls", 400, "Client sent an HTTP request to an HTTPS server.\n", store.ErrUnavailable, "https://"},
		{"leader-died", 500, "rpc error making call: EOF", store.ErrNoLeader, "has no leader"},
		{"too-many-connections", 429, "Your IP is issuing too many concurrent connections", store.ErrUnavailable, "http_max_conns_per_client"},
		{"too-large", 413, "Request body too large", store.ErrInvalid, "report"},
		{"bad-request", 400, "Failed to parse body", store.ErrInvalid, "report"},
		{"forbidden", 403, "Permission denied: token lacks permission", store.ErrDenied, "CONSUL_HTTP_TOKEN"},
		{"unknown-token", 500, "ACL not found", store.ErrDenied, "CONSUL_HTTP_TOKEN"},
		{"denied-in-transaction", 409, `{"Results":null,"Errors":[{"OpIndex":0,"What":"Permission denied: key"}]}`, store.ErrDenied, "CONSUL_HTTP_TOKEN"},
		{"stale", 409, `{"Results":null,"Errors":[{"OpIndex":1,"What":"index is stale"}]}`, store.ErrConflict, "b: "},
		{"failed-without-precondition", 409, `{"Results":null,"Errors":[{"OpIndex":2,"What":"odd"}]}`, store.ErrUnavailable, "odd"},
		{"conflict-of-nothing-known", 409, `<html>`, store.ErrUnavailable, "409"},
		{"index-out-of-range", 409, `{"Errors":[{"OpIndex":7,"What":"odd"}]}`, store.ErrUnavailable, "odd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := answering(t, patience, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			err := s.Apply(context.Background(),
				store.Op{Kind: store.OpSet, Key: "a"}, store.Op{Kind: store.OpCheck, Key: "b", Version: 7}, put("c", ""))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("Apply = %v, want %v with %q", err, c.want, c.text)
			}
			for _, other := range []error{store.ErrConflict, store.ErrUnavailable, store.ErrInvalid} {
				if !errors.Is(c.want, other) && errors.Is(err, other) {
					t.Errorf("%v wraps %v too", err, other)
				}
			}
		})
	}
}

// TestLeaderDied: a read waits for the next leader, at most until its time is up; a write does not, as it may have taken effect.
func TestLeaderDied(t *testing.T) {
	for name, answers := range map[string]int64{"another leader": 2, "none": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			limit := patience
			if answers > 2 {
				limit = inVain
			}
			s := answering(t, limit, func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) <= answers {
					w.WriteHeader(http.StatusInternalServerError)
					_, _ = io.WriteString(w, "rpc error making call: write tcp: broken pipe")
					return
				}
				_, _ = io.WriteString(w, `[{"Key":"a","Value":"MQ==","ModifyIndex":7}]`)
			})
			e, err := s.Get(context.Background(), "a")
			if answers == 2 && (err != nil || e.Version != 7 || asked.Load() != 3) {
				t.Errorf("Get = %v, %v after %d questions", e, err, asked.Load())
			}
			if answers > 2 && (!errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "has no leader")) {
				t.Errorf("Get = %v, %v", e, err)
			}
			asked.Store(0)
			if err := s.Apply(context.Background(), put("a", "1")); !errors.Is(err, store.ErrUnavailable) || asked.Load() != 1 {
				t.Errorf("Apply = %v after %d questions", err, asked.Load())
			}
		})
	}
}

// TestWriteWithoutLeader: a write waits for the next leader where the refusal proves that it was not made. Where it may have been, it is not repeated.
func TestWriteWithoutLeader(t *testing.T) {
	dialled := "rpc error getting client: failed to get conn: dial tcp 10.0.0.1:0->10.0.0.2:8300: connect: connection refused"
	for text, again := range map[string]bool{
		"No cluster leader": true,
		"Raft leader not found in server lookup mapping":              true,
		"rpc error making call: node is not the leader":               true,
		"leadership transfer in progress":                             true,
		dialled:                                                       true,
		"rpc error making call: " + dialled:                           true,
		"rpc error making call: EOF":                                  false,
		"leadership lost while committing log":                        false,
		"rpc error making call: leadership lost while committing log": false,
		"No known Consul servers":                                     false, // it may last, and is no election
	} {
		t.Run(text, func(t *testing.T) {
			var asked atomic.Int64
			s := answering(t, patience, func(w http.ResponseWriter, _ *http.Request) {
				if asked.Add(1) <= 2 {
					w.WriteHeader(http.StatusInternalServerError)
					_, _ = io.WriteString(w, text)
					return
				}
				_, _ = io.WriteString(w, `{"Results":[],"Errors":null}`)
			})
			err := s.Apply(context.Background(), put("a", "1"))
			if again && (err != nil || asked.Load() != 3) || !again && (!errors.Is(err, store.ErrUnavailable) || asked.Load() != 1) {
				t.Errorf("Apply = %v after %d questions", err, asked.Load())
			}
		})
	}
	t.Run("it lasts", func(t *testing.T) {
		s := answering(t, inVain, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "No cluster leader")
		})
		seen := watchLimits(s) // that the call ends with them is TestCallsEndInTime's
		err := s.Apply(context.Background(), put("a", "1"))
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "has no leader") {
			t.Errorf("Apply = %v", err)
		}
		seen.within(t, inVain)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Apply(ctx, put("a", "1")); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended, Apply = %v", err)
		}
	})
}

// TestReadDuringElection: a consistent read is refused in other words while a leader steps down.
func TestReadDuringElection(t *testing.T) {
	for _, text := range []string{
		"node is not the leader", "leadership lost while committing log", "leadership transfer in progress", "Raft leader not found in server lookup mapping",
	} {
		t.Run(text, func(t *testing.T) {
			var asked atomic.Int64
			s := answering(t, patience, func(w http.ResponseWriter, _ *http.Request) {
				if asked.Add(1) <= 2 {
					w.WriteHeader(http.StatusInternalServerError)
					_, _ = io.WriteString(w, text)
					return
				}
				_, _ = io.WriteString(w, `[{"Key":"a","Value":"MQ==","ModifyIndex":7}]`)
			})
			if all, err := s.List(context.Background(), "a"); err != nil || len(all) != 1 || asked.Load() != 3 {
				t.Errorf("List = %v, %v after %d questions", all, err, asked.Load())
			}
		})
	}
}

// TestSilence: a write without an answer may have taken effect.
func TestSilence(t *testing.T) {
	s := answering(t, inVain, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not see the client go
		<-r.Context().Done()
	})
	err := s.Apply(context.Background(), put("a", "1"))
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "may have taken effect") {
		t.Errorf("Apply = %v", err)
	}
}

// TestIndexes: the same index again is no answer, a lower one is, and 0 is none.
func TestIndexes(t *testing.T) {
	var calls atomic.Int64
	indexes := []int{50, 50, 50, 20, 0}
	s := answering(t, patience, func(w http.ResponseWriter, _ *http.Request) {
		n := min(int(calls.Add(1))-1, len(indexes)-1)
		w.Header().Set("X-Consul-Index", strconv.Itoa(indexes[n]))
		fmt.Fprintf(w, `[{"Key":"a","ModifyIndex":%d,"Value":null}]`, n+1)
	})
	ctx := context.Background()
	for _, c := range []struct {
		since, index uint64
		calls        int64
	}{{0, 50, 1}, {50, 20, 4}, {20, 1, 5}} {
		entries, index, err := s.Watch(ctx, "a", c.since)
		if err != nil || index != c.index || len(entries) != 1 || calls.Load() != c.calls {
			t.Errorf("Watch since %d = %v, %d, %v after %d calls, want index %d after %d", c.since, entries, index, err, calls.Load(), c.index, c.calls)
		}
	}
}

// TestOptions: addresses and tokens, from the options and from the environment.
func TestOptions(t *testing.T) {
	var token atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token.Store(r.Header.Get("X-Consul-Token"))
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	for _, c := range []struct {
		name string
		opts consul.Options
		env  map[string]string
		want string
	}{
		{"options", consul.Options{Address: host, Token: "mine"}, nil, "mine"},
		{"environment", consul.Options{}, map[string]string{"CONSUL_HTTP_ADDR": host, "CONSUL_HTTP_TOKEN": "env"}, "env"},
		{"options-win", consul.Options{Address: host, Token: "mine"}, map[string]string{"CONSUL_HTTP_ADDR": "127.0.0.1:1", "CONSUL_HTTP_SSL": "true", "CONSUL_HTTP_TOKEN": "env"}, "mine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			s := open(t, c.opts)
			if _, err := s.Get(context.Background(), "a"); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("Get = %v", err)
			}
			if token.Load() != c.want {
				t.Errorf("the server saw the token %q, want %q", token.Load(), c.want)
			}
		})
	}
	if _, err := consul.Open(consul.Options{Address: "gopher://x"}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Open with a bad address = %v", err)
	}
}

func TestTokenIsHidden(t *testing.T) {
	const secret = "9f2c-secret"
	opts := consul.Options{Address: "a:1", Token: secret}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "opts", opts, "token", opts.Token)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "opts", opts, "token", opts.Token)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&log, format, opts.Token)
		fmt.Fprintf(&log, format, opts)
	}
	if strings.Contains(log.String(), secret) || strings.Contains(log.String(), fmt.Sprintf("%x", secret)) {
		t.Errorf("the token shows in %s", log.String())
	}
	if !strings.Contains(log.String(), "***") {
		t.Errorf("no trace of a token in %s", log.String())
	}
}
