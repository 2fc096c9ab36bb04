package plugin_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/socketplane/socketplane/plugin"
)

func TestListenMakesPrivateSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "docker", "plugins")
	path := filepath.Join(dir, "socketplane.sock")
	l, err := plugin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]fs.FileMode{path: fs.ModeSocket | 0o600, dir: fs.ModeDir | 0o755} {
		info, err := os.Lstat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s: %s, want %s", file, info.Mode(), want)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestListenOverLeftovers(t *testing.T) {
	for name, c := range map[string]struct {
		leave func(t *testing.T, path string)
		says  string
		is    error
	}{
		"nothing":     {func(*testing.T, string) {}, "", nil},
		"dead-socket": {leaveDead, "", nil},
		"served": {func(t *testing.T, path string) {
			l := must(net.Listen("unix", path))
			t.Cleanup(func() { l.Close() })
		}, "stop that one first", plugin.ErrInUse},
		"full-backlog": {leaveFull, "", plugin.ErrInUse},
		"file": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "no socket", nil},
		"directory": {func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}, "no socket", nil},
		"dangling-link": {func(t *testing.T, path string) {
			if err := os.Symlink("nowhere", path); err != nil {
				t.Fatal(err)
			}
		}, "no socket", nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.sock")
			c.leave(t, path)
			before, _ := os.Lstat(path)
			l, err := plugin.Listen(path)
			if c.says == "" && c.is == nil {
				if err != nil {
					t.Fatal(err)
				}
				conn := must(net.Dial("unix", path))
				conn.Close()
				l.Close()
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) || (c.is != nil && !errors.Is(err, c.is)) {
				t.Errorf("error %q: want %q, %v", err, c.says, c.is)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("what was there was touched: %v", err)
			}
		})
	}
}

func TestListenLongPath(t *testing.T) {
	_, err := plugin.Listen(filepath.Join(t.TempDir(), strings.Repeat("a", 120)))
	if err == nil || !strings.Contains(err.Error(), "107") {
		t.Errorf("got %v", err)
	}
}

// TestListenRace: of many agents that start at once over a dead socket one gets it, and keeps it.
func TestListenRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	leaveDead(t, path)
	var mu sync.Mutex
	var won []net.Listener
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if l, err := plugin.Listen(path); err == nil {
				mu.Lock()
				defer mu.Unlock()
				won = append(won, l)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d listeners", len(won))
	}
	conn := must(net.Dial("unix", path))
	conn.Close()
	won[0].Close()
}

// leaveDead leaves the socket of an agent that died.
func leaveDead(_ *testing.T, path string) {
	l := must(net.Listen("unix", path))
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}

// leaveFull leaves a served socket whose backlog is full.
func leaveFull(t *testing.T, path string) {
	fd := must(syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0))
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	conn := must(net.Dial("unix", path))
	t.Cleanup(func() { conn.Close() })
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
