package pipeline_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace without a name that goes with the test.
type namespace struct {
	t    *testing.T
	file *os.File
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{t: t}
	n.onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		var err error
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	t.Cleanup(func() { _ = n.file.Close() })
	return n
}

// path names the namespace for ip and nsenter.
func (n *namespace) path() string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(n.file.Fd()))
}

// onThread calls f on a thread of its own that ends with it, so that nobody else
// ever runs in the namespace that f left the thread in.
func (n *namespace) onThread(f func() error) {
	n.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
}

// try runs a program in the namespace.
func (n *namespace) try(args ...string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"--net=" + n.path()}, args...)...).CombinedOutput()
	return string(out), err
}

func (n *namespace) run(args ...string) string {
	n.t.Helper()
	out, err := n.try(args...)
	if err != nil {
		n.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return out
}

// wire is the namespace's end of a link, as raw frames.
type wire struct {
	t  *testing.T
	fd int
}

// tap opens a raw socket on a link; frames that the namespace itself sends are
// not seen by it.
func (n *namespace) tap(link string) *wire {
	n.t.Helper()
	w := &wire{t: n.t}
	n.onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		iface, err := net.InterfaceByName(link)
		if err != nil {
			return fmt.Errorf("find %s: %w", link, err)
		}
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL))); err != nil {
			return fmt.Errorf("raw socket: %w", err)
		}
		if err := unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return fmt.Errorf("ignore outgoing frames: %w", err)
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: iface.Index})
	})
	n.t.Cleanup(func() { _ = unix.Close(w.fd) })
	return w
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func (w *wire) send(frame []byte) {
	w.t.Helper()
	if _, err := unix.Write(w.fd, frame); err != nil {
		w.t.Fatalf("send: %v", err)
	}
}

// next returns the next frame that arrived, or nil after the deadline.
func (w *wire) next(deadline time.Time) []byte {
	w.t.Helper()
	buf := make([]byte, 2048)
	for {
		left := max(0, int(time.Until(deadline).Milliseconds()))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, left)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			w.t.Fatalf("poll: %v", err)
		}
		if n == 0 {
			return nil
		}
		n, err = unix.Read(w.fd, buf)
		if err != nil {
			w.t.Fatalf("read: %v", err)
		}
		return buf[:n]
	}
}
