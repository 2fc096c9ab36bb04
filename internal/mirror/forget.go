package mirror

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/ipamdriver"
)

// forget removes what Docker has forgotten. Docker never repeats that an endpoint or a network is gone, and says it to nobody while
// the agent is down or when it dies in the middle of making one. So what it has is compared now and then; what it
// has not known for long enough is given back.
func (m *Mirror) forget(ctx context.Context) error {
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
	for network, endpoints := range m.driver.Attached() {
		known, err := m.docker.Endpoints(ctx, network)
		if errors.Is(err, dockerwatch.ErrNotFound) {
			continue // a network that Docker has lost goes as a whole
		}
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
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
	used, err := m.docker.Pools(ctx)
	if err != nil {
		return err
	}
	for _, b := range m.driver.Networks() {
		for _, pool := range b.Pools {
			used[pool] = true
		}
	}
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
	used, err := m.docker.Addresses(ctx)
	if err != nil {
		return err
	}
	ours := map[netip.Addr]bool{}
	for _, h := range m.driver.Held() {
		ours[h.Addr] = true
	}
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
