package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/cli"
)

// terminal is a pseudo-terminal: what a program writes to tty comes out of screen.
func terminal(t *testing.T) (tty *os.File, screen func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	done := make(chan struct{})
	go func() { _, _ = io.Copy(&out, master); close(done) }() // it ends with an error when nobody has the other end
	return tty, func() string {
		_ = tty.Close()
		<-done
		return out.String()
	}
}

// onTerminal runs a command line with one of its outputs on a terminal.
func onTerminal(t *testing.T, agent adminapi.Agent, env map[string]string, stderr bool, args ...string) (screen string, code int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- adminapi.Serve(ctx, l, adminapi.Handler(agent), slog.New(slog.DiscardHandler)) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	tty, read := terminal(t)
	d := cli.Deps{Stdout: tty, Stderr: io.Discard, Env: func(name string) (string, bool) {
		if name == "SOCKETPLANE_ADMIN_SOCKET" {
			return path, true
		}
		v, ok := env[name]
		return v, ok
	}}
	if stderr {
		d.Stdout, d.Stderr = io.Discard, tty
	}
	code = cli.Run(t.Context(), d, args)
	return read(), code
}

// TestColour: trouble is red on a terminal that can show it, unless NO_COLOR is set, and nowhere else.
func TestColour(t *testing.T) {
	const red = "\x1b[31m"
	trouble := []string{"network", "inspect", "a-network-with-a-very-long-name"}
	for name, tt := range map[string]struct {
		env  map[string]string
		want bool
	}{
		"a terminal":             {map[string]string{"TERM": "xterm"}, true},
		"an empty NO_COLOR":      {map[string]string{"TERM": "xterm", "NO_COLOR": ""}, true},
		"NO_COLOR":               {map[string]string{"TERM": "xterm", "NO_COLOR": "1"}, false},
		"a simple terminal":      {map[string]string{"TERM": "dumb"}, false},
		"a terminal without say": {nil, false},
	} {
		for _, args := range [][]string{trouble, {"doctor"}} {
			t.Run(name+"_"+args[0], func(t *testing.T) {
				screen, _ := onTerminal(t, busy(), tt.env, false, args...)
				if got := strings.Contains(screen, red); got != tt.want || !strings.Contains(screen, "docker network rm") && args[0] == "network" {
					t.Errorf("coloured: %t, want %t: %q", got, tt.want, screen)
				}
				if strings.Contains(strings.NewReplacer(red, "", "\x1b[0m", "").Replace(screen), "\x1b") {
					t.Errorf("more than colour: %q", screen)
				}
			})
		}
	}
	if got := operated(t, busy(), trouble...); strings.Contains(got.stdout, "\x1b") {
		t.Errorf("coloured without a terminal: %q", got.stdout)
	}
}

// slow is a cluster whose second host has a new network only after a few questions.
type slow struct {
	*cluster
	asked atomic.Int32
	after int32
}

func (s *slow) Network(ctx context.Context, name string) (adminapi.NetworkDetail, error) {
	n, err := s.cluster.Network(ctx, name)
	if n.Name == "db" {
		state := "absent"
		if s.asked.Add(1) > s.after {
			state = "present"
		}
		n.Hosts = []adminapi.NetworkHost{{ID: "a", Name: "alpha", State: "present", Alive: true}, {ID: "b", Name: "beta", State: state, Alive: true},
			{ID: "c", Name: "gone", State: "absent"}}
	}
	return n, err
}

// TestProgress: a command that waits says on a terminal what for, and takes it away when it is done; with --quiet, and elsewhere, it is still.
func TestProgress(t *testing.T) {
	env := map[string]string{"TERM": "xterm"}
	agent := func() *slow { return &slow{cluster: busy(), after: 2} }
	screen, code := onTerminal(t, agent(), env, true, "network", "create", "db")
	if code != cli.ExitOK || !strings.Contains(screen, "not yet on beta") || !strings.HasSuffix(screen, "\r\x1b[K") {
		t.Errorf("exit code %d, screen %q", code, screen)
	}
	if strings.Contains(screen, "gone") {
		t.Errorf("it waits for a host that is down: %q", screen)
	}
	if screen, code := onTerminal(t, agent(), env, true, "network", "create", "--quiet", "db"); code != cli.ExitOK || screen != "" {
		t.Errorf("quiet: exit code %d, screen %q", code, screen)
	}
	if screen, _ := onTerminal(t, busy(), env, true, "doctor"); !strings.Contains(screen, "looking at this host") {
		t.Errorf("doctor: screen %q", screen)
	}
	// Who waits in vain is told for whom.
	screen, code = onTerminal(t, &slow{cluster: busy(), after: 1 << 30}, env, true, "network", "create", "--wait", "300ms", "db")
	if want := "after 300ms: not yet on beta: 'socketplane network inspect' and 'socketplane doctor' on that host say why"; code != cli.ExitFailed ||
		!strings.Contains(screen, want) {
		t.Errorf("exit code %d, screen %q", code, screen)
	}
}
