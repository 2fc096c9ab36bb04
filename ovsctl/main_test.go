package ovsctl_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/internal/testenv/ovs"
	"github.com/socketplane/socketplane/ovsctl"
)

const bridge = "socketplane0"

// connect manages a bridge of the test's switch, and demands that Close leaves no goroutine.
func connect(t *testing.T, sw *ovs.Switch) *ovsctl.Switch {
	t.Helper()
	before := []goleak.Option{goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction("github.com/socketplane/socketplane/internal/testenv.(*Process).Start.func1")}
	s, err := ovsctl.Connect(t.Context(), ovsctl.Options{Endpoint: sw.DB, Bridge: bridge, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if err := leaks.Find(before...); err != nil {
			t.Errorf("after Close: %v", err)
		}
	})
	return s
}

// start gives a switch with our bridge.
func start(t *testing.T) (*ovs.Switch, *ovsctl.Switch) {
	t.Helper()
	sw := ovs.Start(t)
	s := connect(t, sw)
	ensureBridge(t, s)
	return sw, s
}

func ensureBridge(t *testing.T, s *ovsctl.Switch) {
	t.Helper()
	if err := s.EnsureBridge(t.Context(), spec()); err != nil {
		t.Fatal(err)
	}
}

func spec() ovsctl.BridgeSpec {
	return ovsctl.BridgeSpec{Datapath: ovsctl.DatapathNetdev, ExternalIDs: map[string]string{"socketplane": "owner"}}
}

// sync makes the ports so and demands that it changed this much.
func sync(t *testing.T, s *ovsctl.Switch, changes ovsctl.Changes, want ...ovsctl.Port) {
	t.Helper()
	got, err := s.SyncPorts(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if got != changes {
		t.Errorf("SyncPorts changed %+v, want %+v", got, changes)
	}
}

// tap is a port of a type that needs no device.
func tap(name string, ofport uint32) ovsctl.Port {
	return ovsctl.Port{Name: name, OFPort: ofport, Type: "internal", ExternalIDs: map[string]string{"socketplane": "endpoint " + name}}
}

// render is the state of our ports, one line each.
func render(s *ovsctl.Switch) string {
	var lines []string
	for _, p := range s.Ports() {
		lines = append(lines, fmt.Sprintf("%s type=%s asked=%d got=%d options=%v ids=%v error=%q",
			p.Name, p.Type, p.OFPort, p.OFPortActual, p.Options, p.ExternalIDs, p.Error))
	}
	return strings.Join(lines, "\n")
}

// eventually polls until what is awaited is true, and says what was wrong last.
func eventually(t *testing.T, what string, is func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last error
	if err := testenv.Poll(ctx, 5*time.Millisecond, func() bool { last = is(); return last == nil }); err != nil {
		t.Fatalf("%s: %v", what, last)
	}
}

func notReady(s *ovsctl.Switch, words string) func() error {
	return func() error {
		err := s.Ready()
		if !errors.Is(err, ovsctl.ErrNotConnected) || !strings.Contains(err.Error(), words) {
			return fmt.Errorf("Ready = %v, want %q in it", err, words)
		}
		return nil
	}
}

// drain takes the signal that may be there from before.
func drain(s *ovsctl.Switch) {
	select {
	case <-s.Changed():
	default:
	}
}

func awaitChanged(t *testing.T, s *ovsctl.Switch) {
	t.Helper()
	select {
	case <-s.Changed():
	case <-time.After(time.Minute):
		t.Fatal("Changed did not fire")
	}
}

// quiet waits until our own writes have stopped to fire Changed.
func quiet(t *testing.T, s *ovsctl.Switch) {
	t.Helper()
	for {
		select {
		case <-s.Changed():
		case <-time.After(300 * time.Millisecond):
			return
		}
	}
}

// emptyDB replaces the database by one without any row, as a reinstallation does.
func emptyDB(t *testing.T, sw *ovs.Switch) {
	t.Helper()
	file := filepath.Join(sw.RunDir, "conf.db")
	sw.StopDB()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ovsdb-tool", "create", file, "vswitch/vswitch.ovsschema").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sw.StartDB()
}
