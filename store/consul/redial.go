package consul

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/hashicorp/consul/api"
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

// overSocket has the client use a unix socket by its own transport: the one that it makes for an address with unix:// (its NewClient) opens a
// connection for each request.
func overSocket(config *api.Config, path string) {
	config.Address, config.Scheme = "localhost", "http"
	config.Transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
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
	return s.conns.end(func(c *connection) bool {
		local, err := netip.ParseAddrPort(c.LocalAddr().String())
		return err == nil && !local.Addr().IsLoopback() && !here[local.Addr().Unmap().WithZone("")]
	}), nil
}

// Renew closes all connections: what waits for an answer fails with store.ErrUnavailable, and can be asked again.
func (s *Store) Renew() { s.conns.end(func(*connection) bool { return true }) }

// end closes the connections that are stale, and returns how many they were.
func (s *connections) end(stale func(*connection) bool) int {
	var found []*connection
	s.mu.Lock()
	for c := range s.open {
		if stale(c) {
			found = append(found, c)
		}
	}
	s.mu.Unlock()
	for _, c := range found {
		_ = c.Close() // whoever uses it is told
	}
	return len(found)
}
