package kernel

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

const pollEvery = 200 * time.Millisecond

// background is a program beside the test; it ends with it.
type background struct {
	what string
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

// Write collects the output.
func (b *background) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *background) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func spawn(t *testing.T, argv ...string) *background {
	t.Helper()
	b := &background{what: strings.Join(argv, " "), cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	b.cmd.Stdout, b.cmd.Stderr = b, b
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = b.cmd.Wait() // its output tells
		close(b.done)
	}()
	t.Cleanup(func() { b.stop(t) })
	return b
}

// spawn starts a program of the image in the container.
func (c *container) spawn(t *testing.T, argv ...string) *background {
	t.Helper()
	return spawn(t, append(c.h.EnterCommand(), c.enter(argv...)...)...)
}

func (b *background) says(t *testing.T, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := testenv.Poll(ctx, pollEvery, func() bool { return strings.Contains(b.text(), text) }); err != nil {
		t.Fatalf("%s does not say %q: %v: %s", b.what, text, err, b.text())
	}
}

func (b *background) stop(t *testing.T) string {
	t.Helper()
	select {
	case <-b.done:
	default:
		_ = syscall.Kill(b.target(), syscall.SIGINT) // it may end by itself in this moment
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-b.done:
	case <-timer.C:
		t.Errorf("%s does not end", b.what)
	}
	return b.text()
}

// target is the program itself: nsenter into a host's processes has it as its only child.
func (b *background) target() int {
	pid := b.cmd.Process.Pid
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return pid
	}
	if child, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		return child
	}
	return pid
}

// capture shows what VXLAN carries on the underlay, at the first host's plug.
func (w *world) capture(t *testing.T) *background {
	t.Helper()
	und := "--net=/run/netns/" + filepath.Base(w.Dir()) + "-und"
	b := spawn(t, "nsenter", und, "tcpdump", "-i", w.a.Name, "-n", "-e", "-l", "--immediate-mode", "udp", "port", "4789")
	b.says(t, "listening on")
	return b
}
