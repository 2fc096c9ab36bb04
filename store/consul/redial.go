package consul

import (
	"context"
	"net"
	"net/netip"
	"sync"
)

// connections are those that the client has open.
type connections struct {
	mu   sync.Mutex
	open map[*connection]struct{}
}

type connection struct {
	net.Conn
	of *connections
}

// Close closes the connection.
func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

type dial func(ctx context.Context, network, address string) (net.Conn, error)

// keep is dial that remembers what it opened.
func (s *connections) keep(next dial) dial {
	if next == nil {
		next = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := next(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: conn, of: s}
		s.mu.Lock()
		s.open[c] = struct{}{}
		s.mu.Unlock()
		return c, nil
	}
}

// Redial closes the connections that begin at an address that this host does not have any more: nothing would come back on them, and
// the kernel takes minutes to find out. It returns how many they were. What was asked on them fails with store.ErrUnavailable.
func (s *Store) Redial() (int, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return 0, err
	}
	here := map[netip.Addr]bool{}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			here[p.Addr().Unmap()] = true
		}
	}
	var stale []*connection
	s.conns.mu.Lock()
	for c := range s.conns.open {
		if local, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil && !local.Addr().IsLoopback() && !here[local.Addr().Unmap().WithZone("")] {
			stale = append(stale, c)
		}
	}
	s.conns.mu.Unlock()
	for _, c := range stale {
		_ = c.Close() // whoever uses it is told
	}
	return len(stale), nil
}
