package chaos

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the proxy does with what it forwards.
const (
	pass int32 = iota
	mute       // requests take effect, answers are lost
	late       // requests take effect long after their senders have given up
)

// lateBy is longer than the agents' patience with Consul.
const lateBy = 9 * time.Second

// proxy stands between the agents and Consul.
type proxy struct {
	mode   atomic.Int32
	socket string
	l      net.Listener
	wg     sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// newProxy listens in a network namespace and forwards to a unix socket outside.
func newProxy(t *testing.T, netns, addr, socket string) *proxy {
	t.Helper()
	l, err := listenIn(netns, addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{socket: socket, l: l, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func listenIn(netns, addr string) (l net.Listener, err error) {
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

func (p *proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.socket)
	if err != nil {
		return
	}
	p.keep(client, server)
	defer p.forget(client, server)
	done := make(chan struct{})
	p.wg.Go(func() {
		defer close(done)
		_ = p.copy(client, server, mute)
		_ = client.Close()
	})
	// What a client has sent is delivered although the client is gone: so do networks.
	_ = p.copy(server, client, late)
	_ = server.Close()
	<-done
}

// copy forwards; what is sent in the bad mode is lost (mute) or delayed (late).
func (p *proxy) copy(to, from net.Conn, bad int32) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && p.mode.Load() == bad {
			if bad == mute {
				continue
			}
			<-time.After(lateBy)
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (p *proxy) keep(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
		if p.closed {
			_ = c.Close()
		}
	}
}

func (p *proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

// close ends it, with connections that are only just being made.
func (p *proxy) close() {
	_ = p.l.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cut()
	p.wg.Wait()
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}
