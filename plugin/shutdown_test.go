package plugin_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/plugin"
)

func TestShutdownDrains(t *testing.T) {
	mem := newMemory()
	begun, proceed := make(chan struct{}), make(chan struct{})
	mem.before = func(_ context.Context, _, id string) error {
		if id == "slow" {
			close(begun)
			<-proceed
		}
		return nil
	}
	a := start(t, mem, plugin.Options{MaxConcurrent: 1})
	answers := make(chan reply, 2)
	create := func(id string) {
		r, err := a.try(context.WithoutCancel(t.Context()), "POST", "/NetworkDriver.CreateNetwork", `{"NetworkID":"`+id+`"}`)
		if err != nil {
			r.body = err.Error()
		}
		answers <- r
	}
	go create("slow")
	within(t, "the handler's begin", begun)
	a.stop()
	waitGone(t, a.path)
	select {
	case err := <-a.ended:
		t.Fatalf("Serve returned before its handler: %v", err)
	default:
	}
	// A request that came in too late for the socket, as on a connection that was kept alive.
	post(a.server, "NetworkDriver.CreateNetwork", `{"NetworkID":"late"}`).wantError(t, 503, "NetworkDriver.CreateNetwork", "stops")
	close(proceed)
	if r := within(t, "the answer", answers); r.status != 200 {
		t.Errorf("the drained request: %d %s", r.status, r.body)
	}
	if err := within(t, "the end of Serve", a.ended); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if !mem.hasNetwork("slow") || mem.hasNetwork("late") {
		t.Errorf("networks: %v", mem.networks)
	}
}

// TestShutdownRefusesQueue: what waits for a slot is told at once.
func TestShutdownRefusesQueue(t *testing.T) {
	mem := newMemory()
	begun, proceed := make(chan struct{}), make(chan struct{})
	mem.before = func(context.Context, string, string) error { close(begun); <-proceed; return nil }
	a := start(t, mem, plugin.Options{MaxConcurrent: 1})
	answers := make(chan reply, 2)
	go func() { answers <- post(a.server, "NetworkDriver.CreateNetwork", `{"NetworkID":"running"}`) }()
	within(t, "the handler's begin", begun)
	go func() { answers <- post(a.server, "NetworkDriver.CreateNetwork", `{"NetworkID":"queued"}`) }()
	a.stop()
	// Whether it was in the queue already or comes now: the answer is the same.
	within(t, "the refusal", answers).wantError(t, 503, "stops")
	close(proceed)
	if r := within(t, "the answer", answers); r.status != 200 {
		t.Errorf("the running request: %d %s", r.status, r.body)
	}
	if err := within(t, "the end of Serve", a.ended); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestShutdownCutsOff(t *testing.T) {
	mem := newMemory()
	begun := make(chan struct{})
	mem.before = func(ctx context.Context, _, _ string) error { close(begun); <-ctx.Done(); return ctx.Err() }
	a := start(t, mem, plugin.Options{Drain: 5 * time.Second}) // a fifth of it is for the answer
	answer := make(chan reply, 1)
	go func() {
		r, err := a.try(context.WithoutCancel(t.Context()), "POST", "/NetworkDriver.CreateNetwork", `{"NetworkID":"n1"}`)
		if err != nil {
			r.body = err.Error()
		}
		answer <- r
	}()
	within(t, "the handler's begin", begun)
	a.stop()
	within(t, "the answer", answer).wantError(t, 503, "NetworkDriver.CreateNetwork", "cut off")
	err := within(t, "the end of Serve", a.ended)
	if err == nil || !strings.Contains(err.Error(), "1 requests") {
		t.Errorf("Serve: %v", err)
	}
}

// TestShutdownWithSilentConnection: a connection without a request doesn't hold up the end.
func TestShutdownWithSilentConnection(t *testing.T) {
	a := start(t, newMemory(), plugin.Options{Drain: time.Hour})
	conn := must(net.Dial("unix", a.path))
	defer conn.Close()
	// Accepted in the order of connecting, so the silent one is known to the server after this.
	a.call(t, "POST", "/Plugin.Activate", "")
	begin := time.Now()
	a.stop()
	if err := within(t, "the end of Serve", a.ended); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("Serve took %s to end", took)
	}
}

func TestServeRefuses(t *testing.T) {
	mem := newMemory()
	if err := plugin.New(mem, mem, plugin.Options{}).Serve(t.Context()); err == nil {
		t.Error("Serve without a listener succeeded")
	}
	path := t.TempDir() + "/s.sock"
	l, err := plugin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	err = plugin.New(mem, mem, plugin.Options{Scope: "swarm"}).Serve(t.Context(), l)
	if err == nil || !strings.Contains(err.Error(), `"swarm"`) {
		t.Errorf("Serve with an unknown scope: %v", err)
	}
	waitGone(t, path)
	a := start(t, mem, plugin.Options{})
	a.call(t, "POST", "/Plugin.Activate", "")
	if err := a.server.Serve(t.Context(), l); err == nil {
		t.Error("a second Serve succeeded")
	}
}

// TestListenerFails: Serve ends with the reason when a listener breaks, and takes the other one down too.
func TestListenerFails(t *testing.T) {
	mem := newMemory()
	dir := t.TempDir()
	broken, err := plugin.Listen(dir + "/broken.sock")
	if err != nil {
		t.Fatal(err)
	}
	other, err := plugin.Listen(dir + "/other.sock")
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Close(); err != nil {
		t.Fatal(err)
	}
	if err := plugin.New(mem, mem, plugin.Options{}).Serve(t.Context(), broken, other); err == nil {
		t.Error("Serve: no error")
	}
	waitGone(t, dir+"/other.sock")
}

// waitGone polls until there is no file at path.
func waitGone(t *testing.T, path string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); <-tick.C {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	t.Fatalf("%s is still there", path)
}
