package mirror

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/ipamdriver"
)

// forget removes what Docker has forgotten. Docker never repeats that an endpoint or a network is gone, and says it to nobody while
// the agent is down or when it dies in the middle of making one. So Docker is asked for what it has not confirmed since it told of a change there; what it
// has not known for long enough is given back.
func (m *Mirror) forget(ctx context.Context, n news) error {
	m.sure.doubt(n)
	since := time.Since(m.lookedAt)
	if since < m.opts.Times.Look {
		return nil
	}
	m.lookedAt = time.Now()
	// Time in which this agent stood still or Docker did not answer says nothing: who waited for either goes on only now.
	since = min(since, 2*m.opts.Times.Look)
	return errors.Join(m.forgetEndpoints(ctx, since), m.forgetPools(ctx, since), m.forgetAddresses(ctx, since))
}

func (m *Mirror) forgetEndpoints(ctx context.Context, since time.Duration) error {
	lost := map[string]time.Duration{}
	var errs []error
	attached := m.driver.Attached()
	defer m.sure.prune(attached)
	for network, endpoints := range attached {
		if m.sure.all(network, endpoints) {
			continue
		}
		known, err := m.docker.Endpoints(ctx, network)
		if errors.Is(err, dockerwatch.ErrNotFound) {
			continue // a network that Docker has lost goes as a whole
		}
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		m.sure.endpoints[network] = known
		for _, id := range endpoints {
			if known[id] {
				continue
			}
			if lost[id] = longer(m.lost, id, since); lost[id] < m.opts.Times.Lost {
				continue
			}
			m.log.Info("removing an endpoint that docker has forgotten", "network_docker_id", network, "endpoint", id)
			errs = append(errs, m.driver.EndEndpoint(ctx, network, id))
		}
	}
	m.lost = lost
	return errors.Join(errs...)
}

// longer is for how long something has been seen now; at first for no time at all.
func longer[K comparable](seen map[K]time.Duration, key K, since time.Duration) time.Duration {
	if before, known := seen[key]; known {
		return before + since
	}
	return 0
}

// forgetPools gives back subnets that were asked for by a network that never came to be, or went unheard. Docker
// may use them with any network driver.
func (m *Mirror) forgetPools(ctx context.Context, since time.Duration) error {
	if m.opts.Pools == nil {
		return nil
	}
	held, err := m.opts.Pools.Holds(ctx)
	if err != nil || len(held) == 0 {
		m.idle = nil
		return err
	}
	used := map[netip.Prefix]bool{}
	for _, b := range m.driver.Networks() {
		for _, pool := range b.Pools {
			used[pool] = true
		}
	}
	if slices.ContainsFunc(held, func(p netip.Prefix) bool { return !used[p] && !m.sure.pools[p] }) {
		if m.sure.pools, err = m.docker.Pools(ctx); err != nil {
			return err
		}
	}
	maps.Copy(used, m.sure.pools)
	idle := map[netip.Prefix]time.Duration{}
	var errs []error
	for _, pool := range held {
		if used[pool] {
			continue
		}
		if idle[pool] = longer(m.idle, pool, since); idle[pool] < m.opts.Times.Lost {
			continue
		}
		m.log.Info("giving back a subnet that docker has forgotten", "pool", pool)
		if err := m.opts.Pools.EndPool(ctx, pool); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(idle, pool) // it may be asked for again by the next look
	}
	m.idle = idle
	return errors.Join(errs...)
}

// forgetAddresses takes back addresses that were asked for, and then no endpoint was made with, as Docker or the agent died
// between the two or with the answer under way. Nobody releases them.
func (m *Mirror) forgetAddresses(ctx context.Context, since time.Duration) error {
	if m.opts.Pools == nil {
		return nil
	}
	// What was handed out first: whoever gets an endpoint or a container meanwhile is found in what is read later.
	out, err := m.opts.Pools.HandedOut(ctx)
	if err != nil || len(out) == 0 {
		m.unused = nil
		return err
	}
	ours := map[netip.Addr]bool{}
	for _, h := range m.driver.Held() {
		ours[h.Addr] = true
	}
	if slices.ContainsFunc(out, func(h ipamdriver.Held) bool { return !ours[h.Addr] && !m.sure.addrs[h.Addr] }) {
		if m.sure.addrs, err = m.docker.Addresses(ctx); err != nil {
			return err
		}
	}
	used := m.sure.addrs
	unused := map[ipamdriver.Held]time.Duration{}
	var errs []error
	for _, h := range out {
		if ours[h.Addr] || used[h.Addr] {
			continue
		}
		if unused[h] = longer(m.unused, h, since); unused[h] < m.opts.Times.Lost {
			continue
		}
		m.log.Info("taking back an address that docker has forgotten", "pool", h.Pool, "addr", h.Addr, "mac", h.MAC)
		if err := m.opts.Pools.EndAddress(ctx, h); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(unused, h) // it may be asked for again by the next look
	}
	m.unused = unused
	return errors.Join(errs...)
}

// confirmed is what Docker has said to have, and told of no change since.
type confirmed struct {
	endpoints map[string]map[string]bool // by its network's id
	pools     map[netip.Prefix]bool
	addrs     map[netip.Addr]bool
}

// doubt forgets what the news may have changed.
func (c *confirmed) doubt(n news) {
	if n.all || c.endpoints == nil {
		c.endpoints = map[string]map[string]bool{}
	}
	for id := range n.endpoints {
		delete(c.endpoints, id)
	}
	if n.all || n.destroyed {
		c.pools = nil
	}
	if n.all || n.left {
		c.addrs = nil
	}
}

// all says whether all these endpoints of a network are confirmed.
func (c *confirmed) all(network string, endpoints []string) bool {
	return !slices.ContainsFunc(endpoints, func(id string) bool { return !c.endpoints[network][id] })
}

// prune forgets networks that have no endpoints here.
func (c *confirmed) prune(attached map[string][]string) {
	maps.DeleteFunc(c.endpoints, func(id string, _ map[string]bool) bool { return attached[id] == nil })
}
