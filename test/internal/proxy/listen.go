package proxy

import (
	"context"
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

// DialIn connects from within a network namespace, given by the path of its file: a socket stays in the namespace in which it was made.
func DialIn(ctx context.Context, netns, network, addr string) (c net.Conn, err error) {
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
			c, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	}()
	<-done
	return c, err
}
