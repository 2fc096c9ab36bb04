package mirror

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
)

// forget removes what Docker has forgotten. Docker never repeats that an endpoint or a network is gone, and says it to nobody while
// the agent is down or when it dies in the middle of making one. So what it has is compared now and then; what it
// has not known for long enough is given back.
func (m *Mirror) forget(ctx context.Context) error {
	now := time.Now()
	if now.Sub(m.lookedAt) < m.opts.Times.Look {
		return nil
	}
	m.lookedAt = now
	return errors.Join(m.forgetEndpoints(ctx, now), m.forgetPools(ctx, now))
}

func (m *Mirror) forgetEndpoints(ctx context.Context, now time.Time) error {
	lost := map[string]time.Time{}
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
			since, seen := m.lost[id]
			if !seen {
				since = now
			}
			if now.Sub(since) < m.opts.Times.Lost {
				lost[id] = since
				continue
			}
			m.log.Info("removing an endpoint that docker has forgotten", "network_docker_id", network, "endpoint", id)
			if err := m.driver.EndEndpoint(ctx, network, id); err != nil {
				lost[id] = since
				errs = append(errs, err)
			}
		}
	}
	m.lost = lost
	return errors.Join(errs...)
}

// forgetPools gives back subnets that were asked for by a network that never came to be, or went unheard. Docker
// may use them with any network driver.
func (m *Mirror) forgetPools(ctx context.Context, now time.Time) error {
	if m.opts.Pools == nil {
		return nil
	}
	held, err := m.opts.Pools.Holds(ctx)
	if err != nil || len(held) == 0 {
		m.idle = map[netip.Prefix]time.Time{}
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
	idle := map[netip.Prefix]time.Time{}
	var errs []error
	for _, pool := range held {
		if used[pool] {
			continue
		}
		since, seen := m.idle[pool]
		if !seen {
			since = now
		}
		idle[pool] = since
		if now.Sub(since) < m.opts.Times.Lost {
			continue
		}
		m.log.Info("giving back a subnet that docker has forgotten", "pool", pool)
		errs = append(errs, m.opts.Pools.EndPool(ctx, pool))
	}
	m.idle = idle
	return errors.Join(errs...)
}
