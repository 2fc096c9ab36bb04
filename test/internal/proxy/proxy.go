// Package proxy stands between hosts and a server and does to what they say what bad networks do: loses answers, delivers requests after
// their senders have given up, ends connections.
//
// It owns the connections through it. It may import the standard library and golang.org/x/sys; it must not know what is said.
package proxy

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Mode is what a proxy does with what it forwards.
type Mode int32

// The modes.
const (
	Pass   Mode = iota
	Mute        // requests take effect, answers are lost
	Late        // requests take effect long after their senders have given up
	Closed      // nobody gets through any more; connections that are there stay
)

// Dial opens a connection to a server.
type Dial func() (net.Conn, error)

// Proxy forwards connections. It is safe for concurrent use.
type Proxy struct {
	mode   atomic.Int32
	target atomic.Pointer[Dial]
	lateBy time.Duration
	l      net.Listener
	ended  chan struct{}
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// New forwards what l accepts, until the test ends. lateBy is by how much requests are late in the mode Late.
func New(t testing.TB, l net.Listener, to Dial, lateBy time.Duration) *Proxy {
	p := &Proxy{l: l, lateBy: lateBy, ended: make(chan struct{}), conns: map[net.Conn]bool{}}
	p.target.Store(&to)
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr is where it listens.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Set changes the mode, also for connections that are there.
func (p *Proxy) Set(m Mode) { p.mode.Store(int32(m)) }

// To sends connections that are made from now on to another server.
func (p *Proxy) To(to Dial) { p.target.Store(&to) }

// Cut ends all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *Proxy) is(m Mode) bool { return Mode(p.mode.Load()) == m }

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	if p.is(Closed) {
		return
	}
	server, err := (*p.target.Load())()
	if err != nil {
		return
	}
	p.keep(client, server)
	defer p.forget(client, server)
	done := make(chan struct{})
	p.wg.Go(func() {
		defer close(done)
		p.copy(client, server, Mute)
		_ = client.Close()
	})
	// What a client has sent is delivered although the client is gone: so do networks.
	p.copy(server, client, Late)
	_ = server.Close()
	<-done
}

// copy forwards until one of both ends; what is sent in the bad mode is lost (Mute) or delayed (Late).
func (p *Proxy) copy(to, from net.Conn, bad Mode) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		switch {
		case n == 0 || !p.is(bad):
		case bad == Mute:
			n = 0
		default:
			select {
			case <-time.After(p.lateBy):
			case <-p.ended:
			}
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) keep(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
		select {
		case <-p.ended: // it was only just being made
			_ = c.Close()
		default:
		}
	}
}

func (p *Proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

// close ends it, with connections that are only just being made.
func (p *Proxy) close() {
	_ = p.l.Close()
	p.mu.Lock()
	close(p.ended)
	p.mu.Unlock()
	p.Cut()
	p.wg.Wait()
}
