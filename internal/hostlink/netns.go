package hostlink

import (
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
)

// inNamespace runs f on a thread of this Links' namespace: /proc/sys/net and new sockets follow the thread.
// In the agent every thread is in that namespace already, and nothing is switched.
func (l *Links) inNamespace(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		restored := true
		defer func() {
			// A thread that is left in a foreign namespace must die with its goroutine, which it does while locked.
			if restored {
				runtime.UnlockOSThread()
			}
		}()
		before, err := netns.Get()
		if err != nil {
			done <- fmt.Errorf("open the thread's network namespace: %w", err)
			return
		}
		defer before.Close()
		if before.Equal(l.ns) {
			done <- f()
			return
		}
		if err := netns.Set(l.ns); err != nil {
			done <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		err = f()
		restored = netns.Set(before) == nil
		done <- err
	}()
	return <-done
}
