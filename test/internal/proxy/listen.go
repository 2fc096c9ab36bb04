package proxy

import (
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ListenIn listens for TCP in a network namespace, given by the path of its file.
func ListenIn(netns, addr string) (l net.Listener, err error) {
	f, err := os.Open(netns)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err == nil {
			l, err = net.Listen("tcp", addr)
		}
	}()
	<-done
	return l, err
}
