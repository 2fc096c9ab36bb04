// Package tally counts what an agent asks of the programs around it: of Consul, of Open vSwitch's database, of a bridge, of Docker. It
// stands between them as a proxy that changes nothing, so that the counts are those of the real wire.
//
// It owns the connections through it and the counts. It may import the standard library only. It knows the outer form of the protocols
// (HTTP, JSON-RPC, OpenFlow's headers), and must not know what networks are, nor import what it counts.
package tally

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Counts are numbers by name. The names end with their unit where it is not a number of messages.
type Counts map[string]int64

// Since is what was counted after before; what did not change is left out.
func (c Counts) Since(before Counts) Counts {
	diff := Counts{}
	for name, n := range c {
		if n != before[name] {
			diff[name] = n - before[name]
		}
	}
	return diff
}

// Sum adds up all counts whose name begins with prefix and ends with suffix.
func (c Counts) Sum(prefix, suffix string) (n int64) {
	for name, v := range c {
		if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			n += v
		}
	}
	return n
}

// String lists the counts, one a line, in the order of their names.
func (c Counts) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c)) {
		fmt.Fprintf(&b, "%10d  %s\n", c[name], name)
	}
	return b.String()
}

// Counter adds up. It is safe for concurrent use.
type Counter struct {
	mu sync.Mutex
	n  Counts
}

func (c *Counter) add(name string, by int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = Counts{}
	}
	c.n[name] += by
}

// Counts is a copy of the counts as they are now.
func (c *Counter) Counts() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.n)
}

// Dial opens a connection to the program that is asked.
type Dial func() (net.Conn, error)

// stream forwards what l accepts until the test ends; each connection's two directions are also written to observers, which are made for it.
func stream(t testing.TB, l net.Listener, to Dial, observers func() (asked, answered io.Writer)) {
	s := &streams{conns: map[net.Conn]bool{}}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(c, to, observers) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.close()
		s.wg.Wait()
	})
}

// streams are the connections through a proxy.
type streams struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	ended bool
	conns map[net.Conn]bool
}

func (s *streams) serve(client net.Conn, to Dial, observers func() (asked, answered io.Writer)) {
	defer client.Close()
	server, err := to()
	if err != nil {
		return // the client sees a connection that ends, and tries again
	}
	defer server.Close()
	if !s.keep(client, server) {
		return
	}
	defer s.forget(client, server)
	asked, answered := observers()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(client, io.TeeReader(server, answered)) // its end is the connection's
		_ = client.Close()
	}()
	_, _ = io.Copy(server, io.TeeReader(client, asked))
	_ = server.Close()
	<-done
}

func (s *streams) keep(conns ...net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range conns {
		s.conns[c] = true
	}
	return !s.ended
}

func (s *streams) forget(conns ...net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range conns {
		delete(s.conns, c)
	}
}

func (s *streams) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for c := range s.conns {
		_ = c.Close()
	}
}

// errTorn says that what passed is not of the protocol.
var errTorn = errors.New("not of the protocol")
