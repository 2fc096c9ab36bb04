package addresses

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What the proxy does with what it forwards.
const (
	pass   int32 = iota
	mute         // requests take effect, answers are lost
	late         // requests take effect long after their senders have given up
	close_       // nobody gets through
)

// lateBy is longer than the hosts' patience with Consul.
const lateBy = 1500 * time.Millisecond

// proxy stands between the hosts and Consul.
type proxy struct {
	addr   string
	target atomic.Value // of string
	mode   atomic.Int32
	l      net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), l: l, conns: map[net.Conn]bool{}}
	p.target.Store(target)
	p.wg.Go(p.accept)
	t.Cleanup(func() { _ = l.Close(); p.cut(); p.wg.Wait() })
	return p
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
	server, err := net.Dial("tcp", p.target.Load().(string))
	if err != nil || p.mode.Load() == close_ {
		if err == nil {
			_ = server.Close()
		}
		return
	}
	p.keep(client, true)
	defer p.keep(client, false)
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

func (p *proxy) keep(c net.Conn, is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if is {
		p.conns[c] = true
	} else {
		delete(p.conns, c)
	}
}

// cut closes all clients' connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}
