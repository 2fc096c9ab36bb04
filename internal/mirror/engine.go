package mirror

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/socketplane/socketplane/internal/netview"
)

// endVanished ends networks on this host that Docker has lost without telling: it crashed before it had
// written them down, its data directory is new, or its user removed them while the agent was down. Which of these
// it was can't be told, so it counts as a loss of this host alone: what the cluster has comes back with the
// next pass. A network that comes back is removed again with one command; one that was removed everywhere by a crash is gone.
func (p *pass) endVanished(ctx context.Context, gone []netview.Network) error {
	var errs []error
	for _, b := range gone {
		p.log.Info("docker has lost a network", "network", b.Name, "docker_id", b.DockerID)
		if err := p.driver.Drop(ctx, b.DockerID); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := p.driver.End(ctx, b.DockerID); err != nil {
			errs = append(errs, err)
			continue
		}
		p.note(b.ID, "docker had it no longer on this host at "+time.Now().UTC().Format(time.RFC3339)+", and nobody saw why: the agent was down when it was removed, or docker lost it; "+
			"the cluster keeps it: 'docker network rm' once more removes it from all hosts"+stopped(cmp.Or(b.Name, "NETWORK")))
	}
	return errors.Join(errs...)
}
