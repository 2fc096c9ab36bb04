package ovs

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
)

// newNetNS makes a network namespace without a name, with loopback down, that
// lives until the test ends (and while processes are in it).
func newNetNS(t testing.TB) string {
	t.Helper()
	type result struct {
		f   *os.File
		err error
	}
	made := make(chan result)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and nobody else
		// ever runs in the new namespace.
		runtime.LockOSThread()
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			made <- result{err: err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		made <- result{f, err}
	}()
	r := <-made
	if r.err != nil {
		t.Fatalf("make a network namespace: %v", r.err)
	}
	t.Cleanup(func() { _ = r.f.Close() })
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(r.f.Fd()))
}
