package admission

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/socketplane/socketplane/store"
)

// upTime is how long a host that is up may take to accept a connection.
const upTime = time.Second

// CopyCure is what to do on a copy.
const CopyCure = "on the copy, stop the agent, run 'socketplane clean --yes', which removes its state and with it the id, and start the agent again"

// misplaced refuses a host that is up at another address, as the one that asks is then a copy of it, and a host whose address another host
// has that is up. The gossip knows for some seconds where a host was that has moved, so the machine that it names must also accept connections.
func (s *server) misplaced(ctx context.Context, who asker) error {
	switch who.Do {
	case "", Report, Claim:
	default:
		return nil // it says nothing of its address
	}
	if s.opts.Alive == nil {
		return nil
	}
	alive, err := s.opts.Alive(ctx)
	if err != nil {
		s.log.Warn("admission: whether hosts have one id or address is not known, as Consul does not answer", "err", err)
		return nil
	}
	h := who.Host
	for id, at := range alive {
		if id != h.ID && at.Addr() == h.Addr && up(ctx, at) {
			return refuse(CodeAddress, "a host of the cluster is up at %s, which this host says is its own: give each host an address of its own, with --advertise", h.Addr)
		}
	}
	if at, ok := alive[h.ID]; ok && at.Addr() != h.Addr && s.isMember(ctx, who) && up(ctx, at) {
		q := store.Question{Nonce: store.NewNonce(), Asker: who.key, Name: h.Name, VTEP: h.Addr}
		if err := s.cluster.NoteQuestion(ctx, h.ID, q); err != nil {
			s.log.Warn("admission: a host is not told that another machine has its id", "host", h.ID, "addr", at.Addr(), "copy", h.Addr, "err", err)
		}
		return refuse(CodeCopy, "one with the same key is up at %s, and this machine is at %s: one of the two is a copy of the other: %s", at.Addr(), h.Addr, CopyCure)
	}
	return nil
}

// isMember says whether who asks has proven the key of the member whose id it tells.
func (s *server) isMember(ctx context.Context, who asker) bool {
	members, err := s.cluster.Members(ctx)
	return err == nil && slices.ContainsFunc(members, func(m store.Member) bool { return m.ID == who.Host.ID && m.Key == who.key })
}

// up says whether a process accepts TCP connections there.
func up(ctx context.Context, at netip.AddrPort) bool {
	d := net.Dialer{Timeout: upTime}
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
