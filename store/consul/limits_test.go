package consul_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketplane/socketplane/store/consul"
)

// limits notes how much time each request of a store has when it begins. A machine that is busy makes that less, never more.
type limits struct {
	next http.RoundTripper
	mu   sync.Mutex
	left []time.Duration // -1 is a request without a limit
}

// watchLimits sees all requests of a store from now on.
func watchLimits(s *consul.Store) *limits {
	l := &limits{}
	s.Between(func(next http.RoundTripper) http.RoundTripper { l.next = next; return l })
	return l
}

// RoundTrip implements http.RoundTripper.
func (l *limits) RoundTrip(r *http.Request) (*http.Response, error) {
	left := time.Duration(-1)
	if deadline, has := r.Context().Deadline(); has {
		left = max(time.Until(deadline), 0)
	}
	l.mu.Lock()
	l.left = append(l.left, left)
	l.mu.Unlock()
	return l.next.RoundTrip(r)
}

func (l *limits) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = nil
}

// within checks all requests since reset. There was at least one, also where it was refused at once.
func (l *limits) within(t *testing.T, limit time.Duration) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.left) == 0 {
		t.Error("Consul was not asked")
	}
	for _, left := range l.left {
		if left < 0 || left > limit {
			t.Errorf("a request had %v, want at most %v (-1ns is no limit)", left, limit)
		}
	}
}

// transport is a Consul that a test plays.
type transport func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// after is an answer that comes after a time, unless the request ends before.
func after(d time.Duration, status int, body string) transport {
	return func(r *http.Request) (*http.Response, error) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-r.Context().Done():
			return nil, r.Context().Err()
		case <-timer.C:
		}
		return &http.Response{
			StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r,
		}, nil
	}
}

// TestCallsEndInTime: whatever keeps Consul from answering, no call takes longer than its limit. The clock is the test's own, so this is exact on
// any machine.
func TestCallsEndInTime(t *testing.T) {
	const address = "192.0.2.1:8500"
	for name, server := range map[string]transport{
		"silent":  after(24*time.Hour, 0, ""),
		"refuses": func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
		// A server without a leader says so after seven seconds, in the first second after the leader's death at once.
		"leaderless":         after(7*time.Second, http.StatusInternalServerError, "No cluster leader"),
		"leaderless_at_once": after(0, http.StatusInternalServerError, "No cluster leader"),
		"slow":               after(timeout-time.Millisecond, http.StatusInternalServerError, "No cluster leader"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := consul.Open(consul.Options{Address: address, Timeout: timeout})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				s.Between(func(http.RoundTripper) http.RoundTripper { return server })
				for name, call := range calls(s) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					began := time.Now()
					unavailable(t, call(ctx), address)
					if took := time.Since(began); took > timeout {
						t.Errorf("%s took %v, want at most %v", name, took, timeout)
					}
					cancel()
				}
			})
		})
	}
}
