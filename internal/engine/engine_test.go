package engine

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv"
)

// host is a directory with the socket of an engine's API, which this test serves, and a /proc that says what processes there are.
type host struct {
	*testing.T
	dir string
	Engine
}

func newHost(t *testing.T) *host {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &host{t, dir, Engine{Host: "unix://" + filepath.Join(dir, "docker.sock"), Proc: filepath.Join(dir, "proc")}}
}

func (h *host) process(pid int, name, cmdline string) {
	h.Helper()
	for file, text := range map[string]string{
		"comm": name + "\n", "cmdline": strings.ReplaceAll(cmdline, " ", "\x00"),
		"stat": strconv.Itoa(pid) + " (" + name + ") S " + strings.Repeat("0 ", 18) + "4711 0 0\n",
	} {
		h.write(filepath.Join("proc", strconv.Itoa(pid), file), text)
	}
}

func (h *host) write(name, text string) {
	h.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.Fatal(err)
	}
}

func TestJudge(t *testing.T) {
	const first, second = 4000001, 4000002 // more than any process has (PID_MAX_LIMIT)
	self := os.Getpid()
	for name, c := range map[string]struct {
		prepare func(*host)
		pid     int
		want    Verdict
	}{
		"the engine itself": {func(h *host) { h.process(self, "dockerd", "dockerd") }, self, Ours},
		"a second engine": {func(h *host) {
			h.process(self, "dockerd", "dockerd")
			h.process(second, "dockerd", "dockerd -H unix:///run/second.sock")
		}, second, Other},
		"one that is not seen": {func(h *host) { h.process(self, "dockerd", "dockerd") }, 0, Unknown},
		"one that is gone":     {func(h *host) { h.process(self, "dockerd", "dockerd") }, second, Unknown},
		"through a proxy": {func(h *host) {
			h.process(self, "haproxy", "haproxy")
			h.process(first, "dockerd", "dockerd")
		}, first, Unknown},
		"socket activation": {func(h *host) {
			h.process(self, "systemd", "/sbin/init")
			h.process(first, "dockerd", "dockerd -H fd://")
			h.write("docker.pid", strconv.Itoa(first))
		}, first, Ours},
		"socket activation, its pid file elsewhere": {func(h *host) {
			h.process(self, "systemd", "/sbin/init")
			h.process(first, "dockerd", "dockerd -H fd:// --pidfile /run/first.pid")
		}, first, Unknown},
		"socket activation, and a second engine": {func(h *host) {
			h.process(self, "systemd", "/sbin/init")
			h.process(first, "dockerd", "dockerd -H fd://")
			h.process(second, "dockerd", "dockerd -H unix:///run/second.sock")
			h.write("docker.pid", strconv.Itoa(first)+"\n")
		}, second, Other},
		"socket activation, and a second engine has the pid file": {func(h *host) {
			h.process(self, "systemd", "/sbin/init")
			h.process(first, "dockerd", "dockerd -H fd:// --pidfile /run/first.pid")
			h.process(second, "dockerd", "dockerd -H unix:///run/second.sock")
			h.write("docker.pid", strconv.Itoa(second))
		}, first, Unknown},
		"a stale pid file": {func(h *host) {
			h.process(self, "systemd", "/sbin/init")
			h.process(second, "dockerd", "dockerd -H unix:///run/docker.sock")
			h.write("docker.pid", strconv.Itoa(first))
		}, second, Unknown},
		"a broken pid file": {func(h *host) {
			h.process(self, "systemd", "/sbin/init")
			h.process(second, "dockerd", "dockerd")
			h.write("docker.pid", "x")
		}, second, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			c.prepare(h)
			if got := h.Judge(t.Context(), c.pid); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestJudgeWithoutSocket: an engine that is not there, or elsewhere, shuts nobody out.
func TestJudgeWithoutSocket(t *testing.T) {
	for _, host := range []string{"unix://" + filepath.Join(t.TempDir(), "none.sock"), "tcp://192.0.2.1:2375", "none", ""} {
		if got := New(host).Judge(t.Context(), os.Getpid()); got != Unknown {
			t.Errorf("%q: %s", host, got)
		}
	}
}

// TestMark: a mark is of one process, not of whichever has its number later.
func TestMark(t *testing.T) {
	e := New("unix:///run/docker.sock")
	mark := e.Mark(os.Getpid())
	if mark == "" || !e.Lives(mark) {
		t.Fatalf("mark %q of this process", mark)
	}
	other := strconv.Itoa(os.Getpid()) + "@1"
	if e.Lives(other) || e.Lives("") || e.Lives("x@1") || e.Mark(0) != "" || e.Mark(4000001) != "" {
		t.Error("a process that is not there lives")
	}
	p := testenv.NewProcess(filepath.Join(t.TempDir(), "log"), "sleep", "60")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	mark = e.Mark(p.Pid())
	if !e.Lives(mark) {
		t.Errorf("mark %q of a process that runs", mark)
	}
	p.Kill()
	if e.Lives(mark) {
		t.Errorf("mark %q of a process that has ended", mark)
	}
}
