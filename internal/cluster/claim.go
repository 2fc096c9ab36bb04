package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/store"
)

// ErrAddressTaken says that another host of the cluster is up at this host's address.
var ErrAddressTaken = errors.New("another host has this host's address")

const (
	// claimTime bounds Claim: without any answer this host goes on, as a whole cluster may just boot.
	claimTime = 4 * time.Second
	// claimAsked is how many members are asked at once, beside the former address.
	claimAsked = 4
	// claimAgain is how often a machine that was refused asks again; members answer no address that asks more often.
	claimAgain = 30 * time.Second
	// claimRest is for how long a copy stays refused after the other machine was last up: that one may just be rebooted.
	claimRest = 5 * time.Minute
)

// Claim finds out whether this host may take part in the cluster that it is in, before its Consul starts: a second Consul of one id or address
// cuts the first one off. It asks other members, and the machine at the address where this host was last, but only if that is not where it is
// now. The error wraps store.ErrSameID if this machine is a copy of another that is up, or ErrAddressTaken. Call it before Run.
func (c *Cluster) Claim(ctx context.Context) error {
	rec, creds := c.records.get(), c.keeper.Credentials()
	if creds.Cluster() == "" || rec.Founder || rec.Ending || rec.Addr == c.addr() {
		return nil
	}
	last, ago := rec.Refused, time.Since(time.Unix(rec.Refused.At, 0))
	if ago >= 0 && ago < claimAgain && last.Addr == c.addr() {
		return last.err()
	}
	err := c.ask(ctx, rec.Addr)
	var refused *admission.Refused
	switch {
	case errors.As(err, &refused) && refused.Code == admission.CodeCopy && here(rec.Addr):
		err = nil // it is this host's own Consul, which runs without its agent
	case errors.As(err, &refused) && (refused.Code == admission.CodeCopy || refused.Code == admission.CodeAddress):
		now := refusal{At: time.Now().Unix(), Addr: c.addr(), Copy: refused.Code == admission.CodeCopy, Why: refused.Text}
		return errors.Join(now.err(), c.records.change(func(r *record) { r.Refused = now }))
	}
	if last.Copy && ago >= 0 && ago < claimRest {
		return fmt.Errorf("%w. It does not answer now, and may just be rebooted: if it is gone for good, wait %s", last.err(), (claimRest - ago).Round(time.Second))
	}
	if err == nil && rec.Addr.IsValid() {
		c.leaveFormer(ctx, place{addr: rec.Addr})
	}
	return c.records.change(func(r *record) { r.Refused = refusal{} })
}

// here says whether this machine has the address.
func here(addr netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(all, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == addr
	})
}

func (r refusal) err() error {
	if r.Copy {
		return fmt.Errorf("%w: %s", store.ErrSameID, r.Why)
	}
	return fmt.Errorf("%w: %s", ErrAddressTaken, r.Why)
}

// ask returns the first answer to the question whether this host may be where it is: nil, or a refusal. Another error means that no member answered.
func (c *Cluster) ask(ctx context.Context, former netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	creds := c.keeper.Credentials()
	var to []netip.AddrPort
	for _, p := range creds.Peers {
		to = append(to, p.Addr)
	}
	rand.Shuffle(len(to), func(i, j int) { to[i], to[j] = to[j], to[i] })
	to = to[:min(len(to), claimAsked)]
	if former.IsValid() {
		to = append(to, netip.AddrPortFrom(former, c.opts.Port))
	}
	r := admission.Request{Host: c.host(), Cluster: creds.Cluster(), Do: admission.Claim}
	answers := make(chan error, len(to))
	for _, addr := range to {
		go func() { answers <- admission.Do(ctx, c.keeper, addr, r) }()
	}
	last := errors.New("no other member is known")
	for range to {
		err := <-answers
		var refused *admission.Refused
		if err == nil || errors.As(err, &refused) && (refused.Code == admission.CodeCopy || refused.Code == admission.CodeAddress) {
			return err
		}
		last = err
	}
	return last
}

// alive is where this host's Consul finds others alive, and itself.
func (s *session) alive(ctx context.Context) (map[string]netip.AddrPort, error) {
	nodes, err := s.op.nodes(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]netip.AddrPort, len(nodes))
	for host, n := range nodes {
		if addr, err := netip.ParseAddr(n.addr); err == nil && n.alive {
			out[host] = netip.AddrPortFrom(addr.Unmap(), n.port)
		}
	}
	return out, nil
}
