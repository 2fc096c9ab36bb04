// Package restart starts containers that Docker could not start because this host was not ready, and would never try again.
//
// It imports internal/dockerwatch, which is Docker's door, and store and internal/dataplane/ovs for their errors' texts, which Docker keeps as a container's error. It must not know
// what was not ready, beyond that.
package restart

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// every is how often it is looked whether Docker was refused something.
const every = time.Second

// again is the pause after an attempt that failed.
const again = 2 * time.Second

// Docker is Docker's API, as far as containers are started again.
type Docker interface {
	Ready() error
	Refused(ctx context.Context, texts ...string) ([]dockerwatch.Refused, error)
	Start(ctx context.Context, id string) error
}

// Starter starts containers that Docker was refused.
type Starter struct {
	Docker Docker
	// Ready is nil while containers can be attached, Answers while the cluster's store does.
	Ready   func() error
	Answers func(context.Context) error
	// Refused says that Docker was refused something, Starved that the reason was the store.
	Refused, Starved *atomic.Bool
	// NotReady is in the errors of calls that an agent refused that could not start.
	NotReady string
	Logger   *slog.Logger
}

// Run starts containers with a restart policy that Docker could not start because this host's agent, its switch or the store was not ready: Docker
// tries once, at its boot or when a container has ended, and never again. What Docker keeps as a container's error tells that we
// were the reason, also to an agent that is started later than that.
func (s *Starter) Run(ctx context.Context) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if s.Ready() != nil || s.Docker.Ready() != nil {
			continue
		}
		var texts []string
		if s.Refused.Swap(false) {
			texts = append(texts, s.NotReady, ovs.ErrNotReady.Error())
		}
		stored := s.Starved.Load() && s.Answers(ctx) == nil
		if stored {
			s.Starved.Store(false)
			texts = append(texts, store.ErrUnavailable.Error())
		}
		if len(texts) == 0 {
			continue
		}
		err := s.startAll(ctx, texts)
		if err != nil && ctx.Err() == nil {
			s.Refused.Store(true)
			s.Starved.Store(stored || s.Starved.Load())
			s.Logger.Warn("containers whose start was refused while this host was not ready could not all be started; it is tried again", "err", err)
		}
		if err != nil || stored { // a store that answers may fail again when they start
			retry.Sleep(ctx, again)
		}
	}
}

// startAll tries each of them once. One that Docker refuses to start, for another reason now, is its user's to look at.
func (s *Starter) startAll(ctx context.Context, texts []string) error {
	found, err := s.Docker.Refused(ctx, texts...)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range found {
		err := s.Docker.Start(ctx, c.ID)
		switch {
		case err == nil:
			s.Logger.Info("container is started, which Docker could not do while this host was not ready", "container", c.Name)
		case errors.Is(err, dockerwatch.ErrUnavailable):
			errs = append(errs, err)
		default:
			s.Logger.Warn("container can't be started", "container", c.Name, "err", err)
		}
	}
	return errors.Join(errs...)
}
