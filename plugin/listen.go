package plugin

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

// ErrInUse says that a socket is served by another process.
var ErrInUse = errors.New("another agent serves this socket")

// maxSocketPath is the room in the kernel's sockaddr_un, less the final zero (unix(7)).
const maxSocketPath = 107

// probeTimeout bounds the question whether a leftover socket is served. Connecting to a local socket either works,
// is refused, or waits because the backlog of a living server is full.
const probeTimeout = time.Second

// Listen makes the unix socket at path, with mode 0600 so that only root reaches it, and its directory (0755) if
// needed. A socket that is left over from an agent that died is replaced; one that is served gives [ErrInUse], and
// whatever isn't a socket is left alone. Closing the listener removes the socket.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("plugin: socket path %s has %d bytes, the kernel takes %d: choose a shorter one",
			path, len(path), maxSocketPath)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("plugin: directory of the socket: %w", err)
	}
	// Two agents that start at once must not remove each other's fresh socket. The directory itself is
	// locked: a lock file would stay behind among the sockets that dockerd scans.
	lock, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("plugin: directory of the socket: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("plugin: lock %s: another agent may be starting, try again: %w", dir, err)
	}
	if err := removeLeftover(path); err != nil {
		return nil, err
	}
	// The mode is set before the socket gets its name: with a chmod afterwards there would be a moment in which
	// anybody could connect. On Linux bind(2) takes the mode from the socket's inode.
	cfg := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmodErr error
		if err := c.Control(func(fd uintptr) { chmodErr = syscall.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return chmodErr
	}}
	l, err := cfg.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	return l, nil
}

// removeLeftover removes a socket that nobody serves.
func removeLeftover(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("plugin: leftover socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("plugin: %s is there and is no socket (%s): remove it, or choose another path", path, info.Mode())
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("plugin: %s: %w: stop that one first, or choose another path", path, ErrInUse)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		// EAGAIN, say: the backlog is full, so there is someone.
		return fmt.Errorf("plugin: %s: %w, or can't be asked: %w", path, ErrInUse, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("plugin: remove the leftover socket: %w", err)
	}
	return nil
}
