package mirror

import (
	"context"
	"errors"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/store"
)

// endVanished ends networks that Docker has lost. If Docker is the one it was, its user removed them; a Docker
// with a new data directory has lost them all, and gets them back.
func (p *pass) endVanished(ctx context.Context, gone []driver.Summary) error {
	if len(gone) == 0 && (p.engineSeen || len(p.missing) > 0) {
		return nil
	}
	id, err := p.docker.EngineID(ctx)
	if err != nil {
		return err
	}
	known, err := p.opts.Local.Get(ctx, store.LocalEngineKey)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	fresh := known.Version != 0 && string(known.Value) != id
	var errs []error
	for _, b := range gone {
		p.log.Info("docker has lost a network", "network", b.Name, "docker_id", b.DockerID, "new_engine", fresh)
		if fresh {
			if err := p.driver.Drop(ctx, b.DockerID); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		errs = append(errs, p.driver.End(ctx, b.DockerID))
	}
	// As long as networks of the former engine may still be found missing, it is remembered.
	if err := errors.Join(errs...); err != nil || len(p.missing) > len(gone) {
		return err
	}
	p.engineSeen = true
	if string(known.Value) == id {
		return nil
	}
	return p.opts.Local.Apply(ctx, store.Op{Kind: store.OpPut, Key: store.LocalEngineKey, Value: []byte(id)})
}
