// Package hostlink owns this host's kernel links as far as they are SocketPlane's: veth pairs, VXLAN devices
// and their forwarding entries, and it reads what the host's own links are (underlay address, connected routes).
//
// It is the only user of netlink, and every dump goes through retry. It may import vishvananda/netlink,
// golang.org/x/sys and internal/dataplane. It must not know Open vSwitch, Docker, the store, or what a network is:
// it is told names, addresses and an identity, which it keeps as the link's alias (IFLA_IFALIAS). A link
// without an identity of ours is never changed or removed.
package hostlink

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// OwnerPrefix begins the alias of every link that is ours.
const OwnerPrefix = "socketplane:"

// requestTimeout bounds one netlink request. The kernel answers in microseconds, unless somebody holds the
// routing lock: taking a namespace down with many links does so for seconds.
const requestTimeout = 10 * time.Second

var (
	// ErrForeign says that a link of that name exists and is not ours, so that it was left alone.
	ErrForeign = errors.New("link is not SocketPlane's")
	// ErrDiffers says that a link of ours exists with attributes that can't be changed while it lives. The error
	// is a *DiffersError.
	ErrDiffers = errors.New("link differs from what is wanted")
	// ErrVNITaken says that another VXLAN device receives this VNI on this UDP port.
	ErrVNITaken = errors.New("VNI is taken by another device")
	// ErrNoLink says that there is no link of that name in this namespace.
	ErrNoLink = errors.New("no such link")
	// ErrNoUnderlay says that no address for tunnels was found.
	ErrNoUnderlay = errors.New("no underlay address")
)

// DiffersError tells which attribute of a link of ours is not as wanted. errors.Is(err, ErrDiffers) is true.
type DiffersError struct {
	Link, Attribute string
	Have, Want      any
}

// Error names link, attribute and cure.
func (e *DiffersError) Error() string {
	return fmt.Sprintf("link %s: %s is %v, wanted %v: delete the link and make it again", e.Link, e.Attribute, e.Have, e.Want)
}

// Unwrap makes it an ErrDiffers.
func (e *DiffersError) Unwrap() error { return ErrDiffers }

// Options are what New needs not have.
type Options struct {
	// Logger gets what is odd but harmless; nil discards it.
	Logger *slog.Logger
}

// Links works on the links of one network namespace: the one in which New was called, whatever threads its
// methods are called on later. Methods may be called concurrently; those that name the same link should not be.
type Links struct {
	log    *slog.Logger
	handle *netlink.Handle
	// raw carries the requests that the library lacks; it has its own sockets, as the handle's can't be reached.
	raw   map[int]*nl.SocketHandle
	batch *batch
	// devices are those whose forwarding entries were changed.
	devices devices
	// single carries the requests for new pairs of links, so that they do not wait for a long batch.
	single *batch
	// ioctl is a datagram socket: the ethtool ioctl acts in the namespace of its socket.
	ioctl int
	// ipv6 is a directory, -1 for none; see openIPv6Settings.
	ipv6 int
	ns   netns.NsHandle

	counts counters
	// family is what is known of the kernel's datapath.
	family family

	// subscribe opens a subscription to the kernel's messages, feedAgain is the pause before the next try.
	subscribe func(groups ...uint) (messages, error)
	feedAgain time.Duration
}

// New opens the sockets in the network namespace of the calling thread. Close releases them.
func New(opts Options) (_ *Links, err error) {
	// All sockets must be of one namespace, also when the caller did not lock its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	l := &Links{log: opts.Logger, ioctl: -1, ipv6: openIPv6Settings(), ns: netns.None(), feedAgain: feedAgain, family: family{again: askAgain}}
	l.subscribe = l.subscribeNow
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			_ = l.Close() // The first error is the one that matters.
		}
	}()
	if l.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if err = l.handle.SetSocketTimeout(requestTimeout); err != nil {
		return nil, fmt.Errorf("netlink timeout: %w", err)
	}
	if l.raw, err = rawSockets(); err != nil {
		return nil, err
	}
	if l.batch, err = newBatch(); err != nil {
		return nil, err
	}
	if l.single, err = newBatch(); err != nil {
		return nil, err
	}
	if l.ioctl, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open a socket for ethtool: %w", err)
	}
	if l.ns, err = netns.Get(); err != nil {
		return nil, fmt.Errorf("open this network namespace: %w", err)
	}
	return l, nil
}

// Close releases the sockets; the links stay. No method may be called afterwards. Watches end by their context.
func (l *Links) Close() error {
	if l.handle != nil {
		l.handle.Close()
	}
	for _, s := range l.raw {
		s.Close()
	}
	var errs []error
	for _, b := range []*batch{l.batch, l.single} {
		if b != nil {
			errs = append(errs, b.close())
		}
	}
	if l.ipv6 >= 0 {
		errs = append(errs, unix.Close(l.ipv6))
	}
	if l.ioctl >= 0 {
		errs = append(errs, unix.Close(l.ioctl))
	}
	if l.ns.IsOpen() {
		errs = append(errs, l.ns.Close())
	}
	return errors.Join(errs...)
}
