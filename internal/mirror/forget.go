package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
)

// Docker never repeats that an endpoint is gone, and says it to nobody while the agent is down. So endpoints are
// compared now and then; one that Docker has not known for as long as any start of a container takes is removed.
const (
	lookEvery = 10 * time.Second
	lostAfter = 40 * time.Second
)

// forget removes endpoints that Docker has forgotten.
func (m *Mirror) forget(ctx context.Context) error {
	now := time.Now()
	if now.Sub(m.lookedAt) < lookEvery {
		return nil
	}
	m.lookedAt = now
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
			if now.Sub(since) < lostAfter {
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
