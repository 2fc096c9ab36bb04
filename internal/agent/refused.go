package agent

import (
	"context"
	"errors"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/store"
)

// refusedEvery is how often it is looked whether Docker was refused something.
const refusedEvery = time.Second

// startRefused starts containers with a restart policy that Docker could not start because this host's agent, its switch or the store was not ready: Docker
// tries once, at its boot or when a container has ended, and never again. What Docker keeps as a container's error tells that we
// were the reason, also to an agent that is started later than that.
func (a *agent) startRefused(ctx context.Context) error {
	ticker := time.NewTicker(refusedEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if a.plane.Ready() != nil || a.docker.Ready() != nil {
			continue
		}
		var texts []string
		if a.refused.Swap(false) {
			texts = append(texts, NotReady, ovs.ErrNotReady.Error())
		}
		stored := a.starved.Load() && a.storeAnswers(ctx) == nil
		if stored {
			a.starved.Store(false)
			texts = append(texts, store.ErrUnavailable.Error())
		}
		if len(texts) == 0 {
			continue
		}
		err := a.startAll(ctx, texts)
		if err != nil && ctx.Err() == nil {
			a.refused.Store(true)
			a.starved.Store(stored || a.starved.Load())
			a.log.Warn("containers whose start was refused while this host was not ready could not all be started; it is tried again", "err", err)
		}
		if err != nil || stored { // a store that answers may fail again when they start
			pause(ctx, attemptLate)
		}
	}
}

// startAll tries each of them once. One that Docker refuses to start, for another reason now, is its user's to look at.
func (a *agent) startAll(ctx context.Context, texts []string) error {
	found, err := a.docker.Refused(ctx, texts...)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range found {
		err := a.docker.Start(ctx, c.ID)
		switch {
		case err == nil:
			a.log.Info("container is started, which Docker could not do while this host was not ready", "container", c.Name)
		case errors.Is(err, dockerwatch.ErrUnavailable):
			errs = append(errs, err)
		default:
			a.log.Warn("container can't be started", "container", c.Name, "err", err)
		}
	}
	return errors.Join(errs...)
}
