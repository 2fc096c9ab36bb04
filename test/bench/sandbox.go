package bench

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// sandbox is a container's network namespace: it lives until it is closed.
type sandbox struct {
	ns netns.NsHandle
	nl *netlink.Handle
}

func newSandbox() (*sandbox, error) {
	var s *sandbox
	err := onThread(func() error {
		ns, err := netns.New()
		if err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		s, err = sandboxOf(ns)
		return err
	})
	return s, err
}

// sandboxOf is the network namespace of a process.
func sandboxOfPid(pid int) (*sandbox, error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	return sandboxOf(ns)
}

func sandboxOf(ns netns.NsHandle) (*sandbox, error) {
	nl, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return &sandbox{ns: ns, nl: nl}, nil
}

func (s *sandbox) close() {
	s.nl.Close()
	_ = s.ns.Close() // Nothing can be done about it, and the namespace ends with the program at the latest.
}

// inside runs f on a thread of the namespace: sockets it opens and files below /proc/sys/net are the namespace's.
func (s *sandbox) inside(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(s.ns); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread that ends with it, so that f may leave it in any namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // It is never unlocked: the thread ends with the goroutine.
		done <- f()
	}()
	return <-done
}

// plug moves an endpoint's interface from the host into the sandbox, and sets it up, as libnetwork does after Join.
func (s *sandbox) plug(host *sandbox, e *endpoint) error {
	link, err := host.nl.LinkByName(e.link)
	if err != nil {
		return fmt.Errorf("interface %s: %w", e.link, err)
	}
	if err := host.nl.LinkSetNsFd(link, int(s.ns)); err != nil {
		return fmt.Errorf("move %s: %w", e.link, err)
	}
	if link, err = s.nl.LinkByName(e.link); err != nil {
		return fmt.Errorf("moved interface %s: %w", e.link, err)
	}
	addr, err := netlink.ParseAddr(e.cidr)
	if err != nil {
		return err
	}
	return errors.Join(s.nl.AddrAdd(link, addr), s.nl.LinkSetUp(link))
}

// unplug moves the interface back, as libnetwork does before DeleteEndpoint.
func (s *sandbox) unplug(host *sandbox, e *endpoint) error {
	link, err := s.nl.LinkByName(e.link)
	if err != nil {
		return fmt.Errorf("interface %s: %w", e.link, err)
	}
	return s.nl.LinkSetNsFd(link, int(host.ns))
}

// askOften makes the kernel repeat its question for a neighbour's MAC every 10 ms, its least, instead of every second.
func (s *sandbox) askOften(link string) error {
	return s.inside(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/neigh/"+link+"/retrans_time_ms", []byte("10"), 0)
	})
}
