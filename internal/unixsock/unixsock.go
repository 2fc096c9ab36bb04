// Package unixsock owns how a unix socket that only root may use comes into being: a leftover of a dead process is
// replaced, a living process's is not.
//
// It imports the standard library only, and must not know what is served on the socket.
package unixsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrInUse is what [Listen] wraps when another process serves the socket.
var ErrInUse = errors.New("socket is in use")

// ErrNotSocket is what [Listen] wraps when the path is something else, which it does not remove.
var ErrNotSocket = errors.New("path is not a socket")

// dialTimeout bounds the question whether a leftover still answers; a unix socket answers at once or has a full queue.
const dialTimeout = 2 * time.Second

// Listen makes the socket with mode 0600, and its directory with mode 0755 if it is missing. A socket that nobody
// serves is replaced. Closing the listener removes the socket.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of socket %s: %w", path, err)
	}
	if err := makeRoom(ctx, path); err != nil {
		return nil, err
	}
	// Bound under a name of its own, given its mode, then moved: the socket is never there with a wider mode, and the
	// process's umask, which other goroutines depend on, stays as it is.
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove leftover %s: %w", tmp, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", tmp)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it would remove tmp, not path
	if err := publish(tmp, path); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(tmp))
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look at new socket %s: %w", path, err), l.Close())
	}
	return &listener{Listener: l, path: path, info: info}, nil
}

func publish(tmp, path string) error {
	if err := os.Chmod(tmp, 0o600); err != nil {
		return fmt.Errorf("set the mode of socket %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("put socket %s in place: %w", path, err)
	}
	return nil
}

// makeRoom checks that whatever is at path may be replaced, and removes it.
func makeRoom(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%w: %s is in the way: move it or choose another path", ErrNotSocket, path)
	}
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("%w: another process serves %s: stop it first", ErrInUse, path), conn.Close())
	}
	if !refused(err) {
		return fmt.Errorf("%w: %s may be served by another process: %w", ErrInUse, path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove leftover socket %s: %w", path, err)
	}
	return nil
}

// listener removes the socket when it closes, but only its own: a successor may have put another in its place.
type listener struct {
	net.Listener
	path string
	info fs.FileInfo
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *listener) Close() error {
	err := l.Listener.Close()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(l.path); err != nil || !os.SameFile(now, l.info) {
		return nil
	}
	return os.Remove(l.path)
}

// refused reports whether a dial proves that nobody serves the socket (any more).
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}
