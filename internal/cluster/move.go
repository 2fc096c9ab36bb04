package cluster

import (
	"context"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/cluster/consulproc"
)

// place is where this host is to be reached; Cluster.mu guards it.
type place struct {
	addr  netip.Addr
	dev   string
	moved chan struct{} // closed when addr or dev become others, or the interface was made again
}

// Move says where this host is to be reached from now on. Its Consul restarts there if the address is another one, and
// meanwhile the cluster's store does not answer. Call it also when the interface was replaced by one of the same name.
func (c *Cluster) Move(addr netip.Addr, dev string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.place.moved)
	c.place = place{addr: addr, dev: dev, moved: make(chan struct{})}
}

// addr is the address at which this host takes part in a cluster now; a move changes it when nothing runs at the former one any
// more.
func (c *Cluster) addr() netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lives
}

func (c *Cluster) where() place {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.place
}

// Run finds or founds a cluster and takes part in it until ctx ends. Its Consul then runs on.
func (c *Cluster) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		at := c.where()
		if err := c.liveAt(ctx, at); err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
		c.log.Info("cluster: this host moves", "addr", c.where().addr, "dev", c.where().dev, "former_addr", at.addr, "former_dev", at.dev)
		if err := c.unfinished(); err != nil {
			return err
		}
		c.leaveFormer(ctx, at)
	}
	return nil
}

// leaveFormer ends the Consul at the former address and tells the other members that nobody is there any more.
func (c *Cluster) leaveFormer(ctx context.Context, former place) {
	creds := c.keeper.Credentials()
	if creds.Cluster() == "" || !former.addr.IsValid() || former.addr == c.where().addr {
		return
	}
	err := consulproc.KillAtOnce(c.consulDir())
	var to []netip.AddrPort
	for _, p := range creds.Peers {
		to = append(to, netip.AddrPortFrom(p.Addr.Addr(), p.Addr.Port()+gossipPort))
	}
	if err == nil && len(creds.Keys.Gossip) > 0 {
		err = tellLeft(ctx, creds.Keys.Gossip[0].Reveal(), c.opts.Host, to)
	}
	if err != nil && ctx.Err() == nil {
		c.log.Warn("cluster: other hosts look for this one at its former address for up to a minute", "err", err)
	}
}

// liveAt takes part in a cluster from one place, until ctx ends or the host moves. Nothing of the cluster runs outside of it, but
// for what users ask.
func (c *Cluster) liveAt(ctx context.Context, at place) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		select {
		case <-ctx.Done():
		case <-at.moved:
			cancel()
		}
		return nil
	})
	if at.addr.IsValid() {
		c.mu.Lock()
		c.lives = at.addr
		c.mu.Unlock()
		c.disco.Move(at.dev, at.addr)
		if !c.opts.Silent {
			group.Go(func() error { return c.disco.Run(ctx) })
		}
		group.Go(func() error {
			c.loop(ctx)
			return nil
		})
	} else {
		c.rest("this host has no address at which others reach it")
	}
	return group.Wait()
}

// unfinished gives up a cluster that was never complete: it has no other member, and this host begins anew.
func (c *Cluster) unfinished() error {
	if !c.records.get().Founder {
		return nil
	}
	return c.records.change(func(r *record) { r.Founder, r.Ending = false, true })
}

// followServers asks again what waits for an answer, when a server has moved: this host's Consul holds on to its connection to the
// former address for up to a minute, and with it all questions that it has passed on to that server.
func (s *session) followServers(nodes map[string]node) {
	moved := false
	for host, n := range nodes {
		if !n.server || !n.alive {
			continue
		}
		if s.gossip.servers == nil {
			s.gossip.servers = map[string]string{}
		}
		former := s.gossip.servers[host]
		moved = moved || former != "" && former != n.addr && host != s.c.opts.Host
		s.gossip.servers[host] = n.addr
	}
	if moved {
		s.c.log.Info("cluster: a server has moved; what waits for its answer is asked again")
		s.kv.Renew()
	}
}
