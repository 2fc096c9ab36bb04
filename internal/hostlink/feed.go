package hostlink

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// feedAgain is the pause before a subscription that failed is made again.
	feedAgain = time.Second
	// feedGather is how long messages are left with the kernel at most after one was read, where that does no harm: a container's start makes some ten of them, each
	// of which would wake us. It ends at multiples of itself: what wakes a process costs it more than what it does then.
	// A message that came after feedIdle was waited for, and is not one of those that the kernel had.
	feedGather, feedIdle = 20 * time.Millisecond, time.Millisecond
	// feedBuffer has room for what may come meanwhile, in bytes: some thousand messages, a few KiB each as the kernel counts. It is an upper limit.
	feedBuffer = 4 << 20
	// feedSteady is how long a subscription must have worked for its end to be logged again.
	feedSteady = time.Minute
)

// messages is a subscription to the kernel's messages.
type messages interface {
	Receive() ([]syscall.NetlinkMessage, *unix.SockaddrNetlink, error)
	Close()
}

// feed makes signals of the kernel's messages.
type feed struct {
	groups []uint
	// begin is called after each subscription, and after messages were lost; nil for nothing to do.
	begin func(ctx context.Context) error
	// tells says whether a message is worth a signal.
	tells func(m syscall.NetlinkMessage) bool
	// late says that messages may be read some milliseconds late.
	late bool
}

// subscribeNow opens a subscription in this Links' namespace.
func (l *Links) subscribeNow(groups ...uint) (socket messages, err error) {
	err = l.inNamespace(func() error {
		s, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
		if err != nil {
			return err
		}
		if err := s.SetReceiveBufferSize(feedBuffer, true); err != nil { // not without CAP_NET_ADMIN in the first user namespace
			l.log.Debug("the kernel keeps fewer messages for us", "error", err)
		}
		socket = s
		return nil
	})
	return socket, err
}

// follow signals on the channel until ctx ends, which closes it. Signals that nobody has taken yet become one. An error means that the first
// subscription failed; one that fails later is made again, and signalled, as messages were missed meanwhile.
func (l *Links) follow(ctx context.Context, f feed) (<-chan struct{}, error) {
	socket, err := l.open(ctx, f)
	if err != nil {
		return nil, err
	}
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		told := false
		for {
			began := time.Now()
			err := l.receive(ctx, f, socket, changed)
			told = told && time.Since(began) < feedSteady
			for socket = nil; socket == nil; socket, err = l.open(ctx, f) {
				if ctx.Err() != nil {
					return
				}
				if !told && err != nil {
					l.log.Warn("the kernel's messages about this host's links and network can't be read; the subscription is made again", "err", err)
				}
				told = true
				rest(ctx, l.feedAgain)
			}
			signal(changed)
		}
	}()
	return changed, nil
}

// rest waits.
func rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// open subscribes, and begins.
func (l *Links) open(ctx context.Context, f feed) (messages, error) {
	socket, err := l.subscribe(f.groups...)
	if err == nil && f.begin != nil {
		if err = f.begin(ctx); err != nil {
			socket.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	return socket, nil
}

// receive reads a subscription until it fails or ctx ends, and closes it.
func (l *Links) receive(ctx context.Context, f feed, socket messages, changed chan<- struct{}) error {
	defer socket.Close()
	stop := context.AfterFunc(ctx, socket.Close) // ends Receive
	defer stop()
	for ctx.Err() == nil {
		began := time.Now()
		msgs, from, err := socket.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS): // the kernel dropped messages as we were slow
			if f.begin != nil {
				if err := f.begin(ctx); err != nil {
					return err
				}
			}
			signal(changed)
			continue
		case err != nil:
			return err
		case from.Pid != nl.PidKernel:
			continue
		}
		tells := false
		for _, m := range msgs {
			tells = f.tells(m) || tells
		}
		if tells {
			signal(changed)
		}
		if f.late && time.Since(began) >= feedIdle { // it is the first of some
			rest(ctx, time.Until(time.Now().Truncate(feedGather).Add(feedGather)))
		}
	}
	return ctx.Err()
}

func signal(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}
