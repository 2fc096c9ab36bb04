package plugin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketplane/socketplane/plugin"
)

// post calls the server without a socket, so that it can run under a fake clock.
func post(s *plugin.Server, method, body string) reply {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("POST", "/"+method, strings.NewReader(body)))
	r := reply{status: w.Code, body: w.Body.String()}
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		panic(err)
	}
	return r
}

func TestDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		before func(context.Context, string, string) error
		took   time.Duration
	}{
		"heeded": {func(ctx context.Context, _, _ string) error { <-ctx.Done(); return ctx.Err() }, 10 * time.Second},
		"disregarded": {func(ctx context.Context, _, _ string) error {
			<-time.After(time.Minute) // of the fake clock
			return nil
		}, 11 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := newMemory()
				mem.before = func(ctx context.Context, method, id string) error {
					if method != "CreateNetwork" {
						return nil
					}
					return c.before(ctx, method, id)
				}
				s := plugin.New(mem, mem, plugin.Options{MaxConcurrent: 1})
				begin := time.Now()
				post(s, "NetworkDriver.CreateNetwork", `{"NetworkID":"n1"}`).
					wantError(t, 500, "NetworkDriver.CreateNetwork", "10s")
				if took := time.Since(begin); took != c.took {
					t.Errorf("answered after %s, want %s", took, c.took)
				}
				<-time.After(time.Minute) // the straggler ends
				if r := post(s, "NetworkDriver.DeleteNetwork", `{"NetworkID":"n1"}`); r.status != 200 {
					t.Errorf("the slot was not given back: %d %s", r.status, r.body)
				}
			})
		})
	}
}

func TestConcurrencyLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := newMemory()
		free := make(chan struct{})
		mem.before = func(context.Context, string, string) error { <-free; return nil }
		s := plugin.New(mem, mem, plugin.Options{MaxConcurrent: 2})
		var wg sync.WaitGroup
		create := func(id string, want int) {
			wg.Go(func() {
				r := post(s, "NetworkDriver.CreateNetwork", `{"NetworkID":"`+id+`"}`)
				if r.status != want {
					t.Errorf("%s: %d %s, want %d", id, r.status, r.body, want)
				}
				if want == 503 {
					r.wantError(t, 503, "NetworkDriver.CreateNetwork", "all 2 handlers", "10s")
				}
			})
		}
		create("a", 200)
		create("b", 200)
		synctest.Wait()
		create("waits-too-long", 503)
		<-time.After(5 * time.Second) // of the fake clock
		create("waits-long-enough", 200)
		// What dockerd needs to start is answered all the same.
		if r := post(s, "NetworkDriver.GetCapabilities", ""); r.status != 200 {
			t.Errorf("capabilities: %d %s", r.status, r.body)
		}
		<-time.After(5*time.Second + time.Millisecond)
		close(free)
		wg.Wait()
		for id, want := range map[string]bool{"a": true, "b": true, "waits-long-enough": true, "waits-too-long": false} {
			if mem.hasNetwork(id) != want {
				t.Errorf("network %s: %t, want %t", id, !want, want)
			}
		}
	})
}

func TestPanic(t *testing.T) {
	for name, fail := range map[string]func(){
		"panic":  func() { panic("boom") },
		"goexit": runtime.Goexit,
		"nil-map": func() {
			var m map[string]int
			//lint:ignore SA5000 the panic is wanted
			m["x"] = 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			mem := newMemory()
			mem.before = func(_ context.Context, _, id string) error {
				if id == "bad" {
					fail()
				}
				return nil
			}
			var log syncBuffer
			a := start(t, mem, plugin.Options{MaxConcurrent: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			// Twice: the one slot must come back.
			for range 2 {
				a.call(t, "POST", "/NetworkDriver.CreateNetwork", `{"NetworkID":"bad"}`).
					wantError(t, 500, "NetworkDriver.CreateNetwork", "log")
			}
			if name != "goexit" && !strings.Contains(log.String(), "TestPanic") {
				t.Errorf("the stack is not in the log: %s", log.String())
			}
			if r := a.call(t, "POST", "/NetworkDriver.CreateNetwork", `{"NetworkID":"good"}`); r.status != 200 {
				t.Errorf("afterwards: %d %s", r.status, r.body)
			}
		})
	}
}

func TestObserve(t *testing.T) {
	type seen struct {
		method string
		failed bool
	}
	got := make(chan seen, 10)
	s := plugin.New(newMemory(), newMemory(), plugin.Options{Observe: func(method string, took time.Duration, err error) {
		if took < 0 {
			t.Errorf("%s took %s", method, took)
		}
		got <- seen{method, err != nil}
	}})
	post(s, "Plugin.Activate", "")
	post(s, "NetworkDriver.CreateNetwork", `{"NetworkID":"n1"}`)
	post(s, "NetworkDriver.CreateNetwork", `{"NetworkID":"n1"}`)
	post(s, "NetworkDriver.CreateNetwork", ``)
	post(s, "Anything.Else", `{}`)
	for _, want := range []seen{{"Plugin.Activate", false}, {"NetworkDriver.CreateNetwork", false},
		{"NetworkDriver.CreateNetwork", true}, {"NetworkDriver.CreateNetwork", true}, {"unknown", true}} {
		if g := <-got; g != want {
			t.Errorf("got %v, want %v", g, want)
		}
	}
}

// TestClientGone: a change goes on when Docker's connection breaks.
func TestClientGone(t *testing.T) {
	mem := newMemory()
	begun, proceed := make(chan struct{}), make(chan struct{})
	ctxErr := make(chan error, 1)
	mem.before = func(ctx context.Context, _, _ string) error {
		close(begun)
		<-proceed
		ctxErr <- ctx.Err()
		return nil
	}
	observed := make(chan error, 1)
	a := start(t, mem, plugin.Options{Observe: func(_ string, _ time.Duration, err error) { observed <- err }})
	ctx, hangUp := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := a.try(ctx, "POST", "/NetworkDriver.CreateNetwork", `{"NetworkID":"n1"}`)
		failed <- err
	}()
	within(t, "the handler's begin", begun)
	hangUp()
	if err := within(t, "the hang-up", failed); !errors.Is(err, context.Canceled) {
		t.Fatalf("client: %v", err)
	}
	close(proceed)
	if err := within(t, "the handler's end", ctxErr); err != nil {
		t.Errorf("the handler's context ended with the client: %v", err)
	}
	if err := within(t, "the answer", observed); err != nil || !mem.hasNetwork("n1") {
		t.Errorf("the change was not finished: %v", err)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestHundredCallsAtOnce: of a hundred calls over real connections as many run as there are slots; the others wait, and are
// answered when it is their turn, or in time with what to do.
func TestHundredCallsAtOnce(t *testing.T) {
	const calls, slots = 100, 8
	for name, c := range map[string]struct {
		timeout time.Duration
		hold    bool // the handlers that run do not end before all others were answered
	}{
		"all have their turn":      {time.Minute, false},
		"the slots are never free": {3 * time.Second, true}, // in which a busy machine reads a hundred requests
	} {
		t.Run(name, func(t *testing.T) {
			mem := newMemory()
			var running, most atomic.Int64
			free := make(chan struct{})
			mem.before = func(context.Context, string, string) error {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				if c.hold {
					<-free
				}
				return nil
			}
			a := start(t, mem, plugin.Options{MaxConcurrent: slots, Timeout: c.timeout})
			replies := make(chan reply, calls)
			for i := range calls {
				go func() {
					r, err := a.try(t.Context(), "POST", "/NetworkDriver.CreateNetwork", fmt.Sprintf(`{"NetworkID":"n%d"}`, i))
					if err != nil {
						r.body = err.Error()
					}
					replies <- r
				}()
			}
			done, refused := 0, 0
			for range calls {
				r := within(t, "an answer", replies)
				switch r.status {
				case 200:
					done++
				case 503:
					r.wantError(t, 503, "NetworkDriver.CreateNetwork", "all 8 handlers are busy", "repeat the command")
					refused++
				default: // what ran and was cut off
				}
			}
			close(free)
			if most.Load() > slots {
				t.Errorf("%d ran at once", most.Load())
			}
			if wantDone := map[bool]int{false: calls, true: 0}[c.hold]; done != wantDone {
				t.Errorf("%d were done, want %d", done, wantDone)
			}
			if wantRefused := map[bool]int{false: 0, true: calls - slots}[c.hold]; refused != wantRefused {
				t.Errorf("%d were refused, want %d", refused, wantRefused)
			}
		})
	}
}
