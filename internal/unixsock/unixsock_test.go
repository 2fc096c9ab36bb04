package unixsock_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/socketplane/socketplane/internal/unixsock"
)

func TestListen(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    error
	}{
		{"fresh, directory missing", func(*testing.T, string) {}, nil},
		{"leftover of a dead process", leftover, nil},
		{"served by another", served, unixsock.ErrInUse},
		{"a file in the way", file, unixsock.ErrNotSocket},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "run", "a.sock")
			tt.prepare(t, path)
			l, err := unixsock.Listen(t.Context(), path)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if err != nil {
				if _, err := os.Lstat(path); err != nil {
					t.Errorf("what was in the way is gone: %v", err)
				}
				return
			}
			info, err := os.Lstat(path)
			if err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("mode %v, %v; want a socket with 0600", info.Mode(), err)
			}
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatalf("dial: %v", err)
			}
			_ = conn.Close()
			if err := l.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("socket stays after close: %v", err)
			}
			if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
				t.Errorf("left in the directory: %v", left)
			}
		})
	}
}

func TestCloseLeavesSuccessorsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	first, err := unixsock.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	second, err := unixsock.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the successor's socket is gone: %v", err)
	}
}

func leftover(t *testing.T, path string) {
	l := listen(t, path)
	l.SetUnlinkOnClose(false)
	_ = l.Close()
}

func served(t *testing.T, path string) {
	l := listen(t, path)
	t.Cleanup(func() { _ = l.Close() })
}

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func file(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
}
