package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/statedir"
	"github.com/socketplane/socketplane/store"
)

// NotReady begins every refusal of an agent that can't start yet. It is in what Docker keeps as the error of a container whose
// start was refused, and is searched for there: see startRefused.
const NotReady = "SocketPlane is not ready on this host"

// cause is why the agent can't start yet or a socket can't be served, and what to do about it.
type cause struct {
	err  error
	cure string // empty where err says it
}

func (c *cause) Error() string {
	if c.cure == "" {
		return c.err.Error()
	}
	return c.err.Error() + ": " + c.cure
}

func (c *cause) Unwrap() error { return c.err }

// causeOf adds the cure to an error of a start. dir is the state directory.
func causeOf(err error, dir string) *cause {
	var known *cause
	if errors.As(err, &known) {
		return known
	}
	if _, missing := os.Stat(statedir.BootFile); missing != nil {
		return &cause{err, "/proc is not mounted, or not readable here: mount -t proc proc /proc"}
	}
	dir = placeOf(err, dir)
	cures := []struct {
		kinds []error
		cure  string
	}{
		// These say themselves what to do.
		{[]error{hostlink.ErrNoUnderlay, store.ErrNewer}, ""},
		{[]error{syscall.ENOSPC, syscall.EDQUOT}, fmt.Sprintf("free space there (df -h %s; df -i %s)", dir, dir)},
		{[]error{syscall.EROFS}, "mount the file system read-write again (mount -o remount,rw; dmesg says why it became read-only), or give another directory with --state-dir"},
		{[]error{syscall.EIO, syscall.ESTALE}, "the disk or its mount fails: see dmesg"},
		{[]error{syscall.ENOTDIR, syscall.EISDIR}, "a file is where a directory belongs, or a directory where a file belongs: move it away"},
		{[]error{syscall.EMFILE, syscall.ENFILE}, "raise the limit of open files (LimitNOFILE= in the unit, or fs.file-max)"},
		{[]error{fs.ErrPermission}, "run the agent as root, and see who may use the path (ls -ld, and SELinux or AppArmor in dmesg)"},
	}
	for _, c := range cures {
		for _, kind := range c.kinds {
			if errors.Is(err, kind) {
				return &cause{err, c.cure}
			}
		}
	}
	return &cause{err, ""}
}

// placeOf is the directory of the file or socket that an error is about, or dir if it tells none.
func placeOf(err error, dir string) string {
	var path *fs.PathError
	var socket *net.OpError
	switch {
	case errors.As(err, &socket) && socket.Addr != nil && socket.Addr.Network() == "unix":
		return filepath.Dir(socket.Addr.String())
	case errors.As(err, &path) && filepath.IsAbs(path.Path):
		return filepath.Dir(path.Path)
	}
	return dir
}

// notReady is the answer to calls of Docker that need an agent that runs.
func notReady(why error) error { return fmt.Errorf("%s: %w", NotReady, why) }

// oneLine is an error's text for a log or a status line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
