package admission

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/trust"
)

// Bounds of a relayed question.
const (
	// relayTime is as long as who asks waits at most.
	relayTime = askTimeout
	// Bytes in either direction: a question and an answer, with room for TLS.
	relayAsk    = 64 << 10
	relayAnswer = maxAnswer + 64<<10
)

// relay connects who asks with a server of the cluster, at the level of TCP: TLS, and with it whom they trust and what they say, is
// between those two. What goes through is bounded in time and size.
func relay(ctx context.Context, conn net.Conn, from netip.Addr, peers []trust.Peer) error {
	server, err := dialServer(ctx, peers)
	if err != nil {
		return err
	}
	defer server.Close()
	deadline := time.Now().Add(relayTime)
	_ = server.SetDeadline(deadline)
	_ = conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = server.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := server.Write(preamble(from)); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		pass(server, conn, relayAsk)
	}()
	pass(conn, server, relayAnswer) // a server closes when it has answered
	_ = conn.SetDeadline(time.Unix(1, 0))
	<-done
	return nil
}

// pass copies until either end has enough, and hands on that there is no more. An end that goes early has its own reasons.
func pass(to, from net.Conn, most int64) {
	_, _ = io.CopyN(to, from, most)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// dialServer connects to any server that answers.
func dialServer(ctx context.Context, peers []trust.Peer) (net.Conn, error) {
	servers := slices.DeleteFunc(slices.Clone(peers), func(p trust.Peer) bool { return !p.Server })
	rand.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] })
	last := errors.New("this host knows no server of its cluster")
	for _, p := range servers {
		dialer := net.Dialer{Timeout: dialTimeout}
		conn, err := dialer.DialContext(ctx, "tcp", p.Addr.String())
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}

// preambleStart begins a line with which a member tells a server from where it relays a question. TLS begins otherwise.
const preambleStart = "SPRELAY "

// maxPreamble is enough for any address.
const maxPreamble = 80

func preamble(from netip.Addr) []byte { return []byte(preambleStart + from.String() + "\n") }

// origin reads the preamble of a relayed question, which is believed if a member sends it, and gives the connection from its TLS on.
// The address is not valid if the question is not relayed.
func (s *server) origin(conn net.Conn, from netip.Addr) (net.Conn, netip.Addr, error) {
	first, told, err := readPreamble(conn)
	if err != nil {
		return conn, netip.Addr{}, err
	}
	if told.IsValid() && !slices.ContainsFunc(s.keeper.Credentials().Peers, func(p trust.Peer) bool { return p.Addr.Addr() == from }) {
		return conn, netip.Addr{}, errors.New("a host that is no member relays a question")
	}
	return &unread{Conn: conn, rest: first}, told, nil
}

// readPreamble reads a preamble if there is one, else it returns what it has read.
func readPreamble(r io.Reader) (read []byte, from netip.Addr, err error) {
	b := make([]byte, 0, maxPreamble)
	for len(b) < maxPreamble {
		if _, err := io.ReadFull(r, b[len(b):len(b)+1]); err != nil {
			return nil, from, err
		}
		b = b[:len(b)+1]
		if n := min(len(b), len(preambleStart)); string(b[:n]) != preambleStart[:n] {
			return b, from, nil
		}
		if line, ok := bytes.CutSuffix(b, []byte("\n")); ok {
			from, err := netip.ParseAddr(string(line[len(preambleStart):]))
			if err != nil {
				return nil, from, errors.New("the address of a relayed question is not one")
			}
			return nil, from.Unmap().WithZone(""), nil
		}
	}
	return nil, from, fmt.Errorf("the address of a relayed question has more than %d bytes", maxPreamble)
}

// unread is a connection of which some was read already.
type unread struct {
	net.Conn
	rest []byte
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.rest) > 0 {
		n := copy(p, u.rest)
		u.rest = u.rest[n:]
		return n, nil
	}
	return u.Conn.Read(p)
}

// CloseWrite lets the other end know that there is no more.
func (u *unread) CloseWrite() error {
	if half, ok := u.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
