package hostlink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/crashpoint"
)

// batchSize is how many requests go in one system call. Each that fails is answered, and all answers must fit
// into the socket's receive buffer (208 KiB by default, about 1 KiB an answer with its bookkeeping).
const batchSize = 64

// batch sends many requests with few system calls: the library waits for an answer to each, which for the
// forwarding entries of a large network costs more than all else. Its methods may be called concurrently.
type batch struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	out []byte // the requests of one system call
	in  []byte // answers
}

func newBatch() (*batch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	timeout := unix.NsecToTimeval(requestTimeout.Nanoseconds())
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout),
		// Answers need not repeat the request.
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare netlink: %w", err), unix.Close(fd))
	}
	return &batch{fd: fd, in: make([]byte, nl.RECEIVE_BUFFER_SIZE)}, nil
}

func (b *batch) close() error { return unix.Close(b.fd) }

// run sends n requests in order and gives the outcome of each that was answered for: fewer than n with an error.
// A failed request does not stop those behind it.
func (b *batch) run(ctx context.Context, n int, request func(i int) *nl.NetlinkRequest) ([]syscall.Errno, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	errnos := make([]syscall.Errno, 0, n)
	for start := 0; start < n; start += batchSize {
		if err := ctx.Err(); err != nil {
			return errnos, err
		}
		count := min(batchSize, n-start)
		first := b.seq + 1
		b.seq += uint32(count)
		b.out = b.out[:0]
		for i := range count {
			req := request(start + i)
			req.Seq = first + uint32(i)
			if i == count-1 {
				req.Flags |= unix.NLM_F_ACK // The kernel works in order: this answer says that all is done.
			}
			b.out = append(b.out, req.Serialize()...)
		}
		crashpoint.Hit("link: requests")
		if err := unix.Sendto(b.fd, b.out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return errnos, fmt.Errorf("send netlink requests: %w", err)
		}
		chunk := make([]syscall.Errno, count)
		if err := b.collect(first, chunk); err != nil {
			return errnos, err
		}
		errnos = append(errnos, chunk...)
	}
	return errnos, nil
}

// one sends one request and returns its outcome.
func (b *batch) one(ctx context.Context, req *nl.NetlinkRequest) error {
	errnos, err := b.run(ctx, 1, func(int) *nl.NetlinkRequest { return req })
	if err != nil {
		return err
	}
	if errnos[0] != 0 {
		return errnos[0]
	}
	return nil
}

// collect reads answers until that of the last request. Answers to requests of an earlier, failed run are skipped.
func (b *batch) collect(first uint32, errnos []syscall.Errno) error {
	for {
		n, _, err := unix.Recvfrom(b.fd, b.in, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read netlink answers: %w", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(b.in[:n])
		if err != nil {
			return fmt.Errorf("read netlink answers: %w", err)
		}
		for _, m := range msgs {
			i := int64(m.Header.Seq) - int64(first)
			if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 || i < 0 || i >= int64(len(errnos)) {
				continue
			}
			errnos[i] = syscall.Errno(-int32(nl.NativeEndian().Uint32(m.Data)))
			if i == int64(len(errnos)-1) {
				return nil
			}
		}
	}
}
