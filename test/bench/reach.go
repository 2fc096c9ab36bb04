package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Reach is how long after Join's answer the first reply came from another host, in milliseconds.
type Reach struct {
	Name string
	// Plugged is when the interface was up in the container, Reply when the first reply had come.
	Plugged, Reply Series
}

// replyPatience is how long the first reply is waited for.
const replyPatience = 10 * time.Second

// reach measures for a host's first container of the network, and for a further one.
func (w *world) reach(ctx context.Context, s site, seg *segment) ([]*Reach, error) {
	watcher, err := newWatcher(ctx, s, seg)
	if err != nil {
		return nil, err
	}
	defer watcher.close()
	host, err := sandboxOfPid(s.lab.Hosts[0].AgentPid())
	if err != nil {
		return nil, err
	}
	defer host.close()
	first := &Reach{Name: s.name + ", a host's first container on the network"}
	for range w.opts.Reach {
		if err := first.once(ctx, seg, host, watcher); err != nil {
			return nil, err
		}
	}
	resident, err := seg.on[0].joined(ctx)
	if err != nil {
		return nil, err
	}
	further := &Reach{Name: s.name + ", a further container"}
	for range w.opts.Reach {
		if err := further.once(ctx, seg, host, watcher); err != nil {
			return nil, err
		}
	}
	return []*Reach{first, further}, errors.Join(resident.remove(ctx), watcher.remove(ctx))
}

// once starts a container while the watcher pings its address.
func (r *Reach) once(ctx context.Context, seg *segment, host *sandbox, w *watcher) error {
	e, err := seg.on[0].newEndpoint(ctx)
	if err != nil {
		return err
	}
	box, err := newSandbox()
	if err != nil {
		return err
	}
	defer box.close()
	addr, err := netip.ParseAddr(e.ip())
	if err != nil {
		return err
	}
	pingCtx, cancel := context.WithTimeout(ctx, replyPatience)
	var replied time.Time
	var pingErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		replied, pingErr = w.ping(pingCtx, addr)
	}()
	defer func() { cancel(); <-done }() // The watcher's socket must not be closed before.
	if err := e.join(ctx); err != nil {
		return err
	}
	answered := time.Now()
	if err := box.plug(host, e); err != nil {
		return err
	}
	r.Plugged = append(r.Plugged, milli(time.Since(answered)))
	if <-done; pingErr != nil {
		return pingErr
	}
	r.Reply = append(r.Reply, milli(replied.Sub(answered)))
	return errors.Join(box.unplug(host, e), e.remove(ctx))
}

// watcher is a container on the other host.
type watcher struct {
	e    *endpoint
	host *sandbox
	box  *sandbox
	sock int
	// run tells the replies of one ping from late ones of an earlier.
	run uint16
}

func newWatcher(ctx context.Context, s site, seg *segment) (_ *watcher, err error) {
	w := &watcher{sock: -1}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.host, err = sandboxOfPid(s.lab.Hosts[1].AgentPid()); err != nil {
		return nil, err
	}
	if w.box, err = newSandbox(); err != nil {
		return nil, err
	}
	if w.e, err = seg.on[1].joined(ctx); err != nil {
		return nil, err
	}
	if err = w.box.plug(w.host, w.e); err != nil {
		return nil, err
	}
	if err = w.box.askOften(w.e.link); err != nil {
		return nil, err
	}
	err = w.box.inside(func() (err error) {
		w.sock, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
		return err
	})
	return w, err
}

func (w *watcher) remove(ctx context.Context) error {
	return errors.Join(w.box.unplug(w.host, w.e), w.e.remove(ctx))
}

func (w *watcher) close() {
	if w.sock >= 0 {
		_ = unix.Close(w.sock) // It is a raw socket: nothing is lost.
	}
	for _, s := range []*sandbox{w.host, w.box} {
		if s != nil {
			s.close()
		}
	}
}

// ping sends an echo request each millisecond, and says when the first reply came.
func (w *watcher) ping(ctx context.Context, to netip.Addr) (time.Time, error) {
	const echoRequest, echoReply, ihl = 8, 0, 20 // RFC 792; a header without options, RFC 791
	w.run++
	packet := []byte{echoRequest, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(packet[4:], w.run)
	binary.BigEndian.PutUint16(packet[2:], ^(echoRequest<<8 + w.run))
	dest := &unix.SockaddrInet4{Addr: to.As4()}
	buf := make([]byte, 1500)
	for ctx.Err() == nil {
		// Errors of an address that nobody has yet are what is waited out.
		_ = unix.Sendto(w.sock, packet, 0, dest)
		poll := []unix.PollFd{{Fd: int32(w.sock), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 1); err != nil && !errors.Is(err, unix.EINTR) {
			return time.Time{}, fmt.Errorf("wait for a reply: %w", err)
		}
		for {
			n, _, err := unix.Recvfrom(w.sock, buf, 0)
			if err != nil {
				break // Nothing more is there, or an ICMP error of the kind above.
			}
			if n >= ihl+8 && buf[ihl] == echoReply && [4]byte(buf[12:16]) == to.As4() && binary.BigEndian.Uint16(buf[ihl+4:]) == w.run {
				return time.Now(), nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("no reply of %s within %s: %w", to, replyPatience, ctx.Err())
}
