package consulproc_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/consulproc"
	"github.com/socketplane/socketplane/internal/testenv"
)

// pidfds counts what this process has open of other processes, less what the test's own children need.
func pidfds(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && strings.Contains(to, "pidfd") {
			n++
		}
	}
	return n
}

// left starts processes as an earlier agent may have left them: only their arguments tell. Each is reaped when it ends.
func left(t *testing.T, dir string, n int) {
	t.Helper()
	for i := range n {
		config := filepath.Join(dir, fmt.Sprintf("consul-%d.json", i))
		cmd := exec.Command("sh", "-c", "read line", "sh", "-config-file="+config)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = cmd.Wait() }()
		t.Cleanup(func() { in.Close(); <-ended })
	}
}

// TestPidfdsAreClosed: each look for processes opens descriptors, and none is left when the work is done.
func TestPidfdsAreClosed(t *testing.T) {
	dir := t.TempDir()
	wantsNone := func(what string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if testenv.Poll(ctx, 20*time.Millisecond, func() bool { return pidfds(t) == 0 }) != nil {
			t.Errorf("%s leaves %d descriptors of processes", what, pidfds(t))
		}
	}
	wantsNone("nothing")
	left(t, dir, 3)
	if err := consulproc.Kill(dir); err != nil {
		t.Fatal(err)
	}
	wantsNone("Kill")

	// An agent adopts one of several, and lets it run on when it ends itself.
	left(t, dir, 2)
	proc := consulproc.New(consulproc.Options{Binary: "/none", Dir: dir, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = proc.Run(ctx) }()
	proc.Set(nil)
	poll, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if err := testenv.Poll(poll, 20*time.Millisecond, func() bool { st := proc.Status(); return st.Agrees && !st.Running }); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	wantsNone("an agent")
}
