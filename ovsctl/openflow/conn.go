package openflow

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Times of the keep-alive. A healthy switch answers within milliseconds; one
// that configures thousands of ports, or commits a large bundle, takes seconds.
const (
	probeInterval = 5 * time.Second
	probeTimeout  = 15 * time.Second
)

// bufferSize is that of reads and the least size of writes in a bundle: large
// enough that system calls do not count.
const bufferSize = 64 << 10

// Conn is a connection to one bridge. All methods may be called concurrently.
// It ends by Close, by an error of the socket or when the switch stays silent;
// it is then dead for good.
type Conn struct {
	path string
	nc   net.Conn
	// writes are whole messages for the writer. A caller that gives up does so
	// between messages, never within one, and so never breaks the connection.
	writes chan []byte
	// later are messages of which nobody waits for the writing, above all the
	// reader: it and the switch could else wait for each other.
	later    chan []byte
	done     chan struct{}
	counters counters

	mu      sync.Mutex
	err     error // why it is closed
	calls   []*call
	xid     uint32
	frame   func([]byte)      // see Listen
	monitor func([]FlowEvent) // see Monitor
	// unanswered counts the echo requests since the last message from the switch.
	// Not a time: this process may have been the one that stood still.
	unanswered int
}

// Dial connects to a bridge's management socket, <rundir>/<bridge>.mgmt, and
// agrees on OpenFlow 1.4; ctx bounds that, not the connection. The error is
// ErrVersion if the bridge does not offer it.
func Dial(ctx context.Context, path string) (*Conn, error) {
	return dial(ctx, path, probeInterval, probeTimeout)
}

func dial(ctx context.Context, path string, interval, timeout time.Duration) (*Conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("OpenFlow socket %s (does the bridge exist, does ovs-vswitchd run?): %w", path, err)
	}
	c := &Conn{
		path: path, nc: nc, writes: make(chan []byte, 4), later: make(chan []byte, 16),
		done: make(chan struct{}), xid: 1,
	}
	r := bufio.NewReaderSize(nc, bufferSize)
	if err := c.hello(ctx, r); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("OpenFlow socket %s: %w", path, err)
	}
	go c.read(r)
	go c.write()
	go c.keepAlive(interval, timeout)
	return c, nil
}

// hello exchanges hellos, the first message in both directions.
func (c *Conn) hello(ctx context.Context, r io.Reader) (err error) {
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err() // The deadline is set or will be: the connection is of no use.
		}
	}()
	if _, err := c.nc.Write(helloMessage(0)); err != nil {
		return ctxError(ctx, err)
	}
	m, err := readMessage(r)
	if err != nil {
		return ctxError(ctx, fmt.Errorf("no hello: %w", err))
	}
	switch {
	case m.kind == typeError:
		return fmt.Errorf("%w: %w", ErrVersion, decodeError(m.body, "our hello"))
	case m.kind != typeHello:
		return fmt.Errorf("%w: message type %d before hello", ErrProtocol, m.kind)
	case !helloAccepts(m):
		return ErrVersion
	}
	return nil
}

// ctxError gives the context's error where it is what made an operation fail.
func ctxError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection has ended; nil before. It wraps ErrClosed.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection; pending calls return ErrClosed. It returns no error.
func (c *Conn) Close() error {
	c.fail(nil)
	return nil
}

// fail ends the connection once; cause may be nil.
func (c *Conn) fail(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = ErrClosed
	if cause != nil {
		c.err = fmt.Errorf("%w: %s: %w", ErrClosed, c.path, cause)
	}
	_ = c.nc.Close()
	close(c.done)
}

// read hands out all messages until the connection ends.
func (c *Conn) read(r io.Reader) {
	var shared []byte
	room := func(xid uint32, n int) []byte {
		if !c.passing(xid) {
			return make([]byte, n)
		}
		if shared == nil {
			shared = make([]byte, maxMessage)
		}
		return shared[:n:n]
	}
	for {
		m, err := readMessageInto(r, room)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the switch closed it; is ovs-vswitchd running?")
			}
			c.fail(err)
			return
		}
		c.dispatch(m)
	}
}

func (c *Conn) dispatch(m message) {
	c.mu.Lock()
	c.unanswered = 0
	call, frame, monitor := c.find(m.xid), c.frame, c.monitor
	c.mu.Unlock()
	c.count(func(n *counters) *atomic.Uint64 { return &n.received }, headerLength+len(m.body))
	switch {
	case call == nil && monitor != nil && isMonitorReply(m):
		c.told(m, monitor)
	case m.kind == typePacketIn && frame != nil:
		if f, ok := packetInFrame(m.body); ok {
			frame(f)
		}
	case m.kind == typeEchoRequest:
		c.postpone(simpleMessage(typeEchoReply, m.xid, m.body))
	case call != nil:
		call.handle(m)
	}
	// Anything else is an asynchronous message, or late for a call that was given up.
}

// send queues whole messages, which the caller must not touch any more.
func (c *Conn) send(ctx context.Context, b []byte) error {
	select {
	case c.writes <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return c.Err()
	}
}

// postpone has a message written soon. If too many wait, it is lost: only echoes
// and the discarding of bundles go this way, and the switch does without.
func (c *Conn) postpone(b []byte) {
	select {
	case c.later <- b:
	default:
	}
}

// write writes what is queued until the connection ends. If the switch takes
// nothing, it blocks until keepAlive notices the silence.
func (c *Conn) write() {
	for {
		var b []byte
		select {
		case <-c.done:
			return
		case b = <-c.later:
		case b = <-c.writes:
		}
		n, err := c.nc.Write(b)
		c.count(func(n *counters) *atomic.Uint64 { return &n.sent }, n)
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// keepAlive sends echo requests; a switch that says nothing at all for the
// timeout is taken for dead.
func (c *Conn) keepAlive(interval, timeout time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		silence := time.Duration(c.unanswered) * interval
		c.unanswered++
		c.mu.Unlock()
		if silence >= timeout {
			c.fail(fmt.Errorf("no message from the switch for %s; does ovs-vswitchd hang?", silence))
			return
		}
		c.postpone(simpleMessage(typeEchoRequest, 0, nil))
	}
}
