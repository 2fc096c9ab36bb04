package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/metrics"
	"github.com/socketplane/socketplane/internal/sdnotify"
	"github.com/socketplane/socketplane/store/bolt"
)

// Pauses between attempts to start the agent.
const (
	attemptSoon   = 250 * time.Millisecond
	attemptLate   = 2 * time.Second
	attemptNoAddr = time.Second // an address comes by DHCP at any moment, and looking for one costs little
	// attemptWait is how long a call of Docker waits for the end of the attempt that it has caused.
	attemptWait = 700 * time.Millisecond
)

// supervisor serves Docker and the command line from its first moment, and starts the agent as soon as the host allows it. Until
// then calls are refused with the cause: Docker, which waits 15 s for each network whose plugin does not answer, boots at once.
//
// The agent is made whole or not at all: an attempt that fails closes what it has opened. All methods may be called concurrently.
type supervisor struct {
	cfg     config.Config
	opts    Options
	log     *slog.Logger
	started time.Time
	metrics *metrics.Process
	notify  sdnotify.Notifier
	// before completes the settings of an attempt; nil for nothing to do.
	before func(context.Context, *config.Config) error
	// kick asks for an attempt now.
	kick chan struct{}
	// refused says that Docker was refused something that it may have wanted for a container with a restart policy.
	refused atomic.Bool
	// starved is refused for the reason that the cluster's store did not answer.
	starved atomic.Bool
	// damage is what attempts found damaged.
	damage bolt.Damage

	mu       sync.Mutex
	agent    *agent        // nil while none runs
	cause    *cause        // why none runs; nil before the first attempt has ended, and while one runs
	attempts int           // that have ended
	ended    chan struct{} // closed at the end of the next attempt
	troubles troubles
	owed     []release
}

func newSupervisor(cfg config.Config, opts Options) *supervisor {
	s := &supervisor{
		cfg: cfg, opts: opts, log: opts.Logger, started: time.Now().UTC(), metrics: metrics.New(), notify: sdnotify.New(),
		kick: make(chan struct{}, 1), ended: make(chan struct{}), troubles: troubles{},
	}
	s.refused.Store(true) // by an earlier process, perhaps
	s.starved.Store(true)
	s.metrics.ServeReady(s.ready)
	return s
}

// Run runs the agent until ctx ends, and then lets handlers finish. Containers keep talking afterwards: ports, flows and
// devices stay. What keeps the agent from starting is tried again and shown meanwhile; an error is what only another process could mend.
func Run(ctx context.Context, cfg config.Config, opts Options) error {
	return newSupervisor(cfg, opts).run(ctx)
}

func (s *supervisor) run(ctx context.Context) error {
	for _, w := range s.cfg.Warnings() {
		s.log.Warn(w)
	}
	doors, err := s.open()
	if err != nil {
		return err
	}
	s.notify.Ready()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(doors)+1)
	var wg sync.WaitGroup
	for i, d := range doors {
		wg.Go(func() {
			if errs[i] = s.serve(ctx, d); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Go(func() {
		defer cancel()
		errs[len(doors)] = s.supervise(ctx)
	})
	wg.Wait()
	return errors.Join(errs...)
}

// supervise starts the agent, again and again until that succeeds, and also when it ends by itself.
func (s *supervisor) supervise(ctx context.Context) error {
	for pause := attemptSoon; ctx.Err() == nil; {
		a, err := s.attempt(ctx)
		if err == nil {
			pause = attemptSoon
			err = s.runAgent(ctx, a)
		}
		if ctx.Err() != nil {
			return err
		}
		s.failed(err)
		limit := attemptLate
		if errors.Is(err, hostlink.ErrNoUnderlay) {
			limit = attemptNoAddr
		}
		s.rest(ctx, min(pause, limit))
		pause = min(2*pause, attemptLate)
	}
	return nil
}

// attempt makes an agent, or leaves nothing of it.
func (s *supervisor) attempt(ctx context.Context) (*agent, error) {
	cfg := s.cfg
	if s.before != nil {
		if err := s.before(ctx, &cfg); err != nil {
			return nil, err
		}
	}
	a := s.newAgent(cfg)
	err := a.open(ctx)
	if err == nil {
		err = a.build(ctx)
	}
	if err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// newAgent is an agent with what it shares with those before and after it.
func (s *supervisor) newAgent(cfg config.Config) *agent {
	return &agent{
		cfg: cfg, opts: s.opts, log: s.log, started: s.started, metrics: s.metrics, refused: &s.refused, starved: &s.starved, served: s.served, damage: &s.damage,
	}
}

// runAgent runs an agent until ctx ends or it fails. It is closed after the last call that uses it has ended.
func (s *supervisor) runAgent(ctx context.Context, a *agent) error {
	waited := s.adopt(ctx, a)
	a.log.Info("agent is up", "version", a.opts.Version.Version, "host", a.cfg.Name, "id", a.cluster.Host(), "vtep", a.where().Addr,
		"store", a.storage.kind, "address", a.storage.address, "waited", waited)
	s.notify.Status("running")

	err := a.run(ctx)

	s.mu.Lock()
	s.agent = nil
	s.cause = &cause{err: errors.New("the agent is being stopped")}
	s.mu.Unlock()
	a.users.Wait()
	switch {
	case err != nil:
		err = fmt.Errorf("the agent ran and failed: %w", err)
	case ctx.Err() == nil:
		err = errors.New("the agent ended by itself")
	case a.isPlugin():
		a.leaveNothing()
	}
	a.close()
	return err
}

// failed notes why no agent runs. Each cause is logged once.
func (s *supervisor) failed(err error) {
	now := causeOf(err, s.cfg.StateDir)
	s.mu.Lock()
	same := s.cause != nil && s.cause.Error() == now.Error()
	s.cause = now
	s.end()
	s.mu.Unlock()
	if !same {
		s.log.Error("the agent can't start yet; calls of Docker for its networks are refused, and it is tried again", "err", oneLine(now))
		s.notify.Status("not ready: " + oneLine(now))
	}
}

// end wakes those who wait for the end of an attempt. s.mu is held.
func (s *supervisor) end() {
	s.attempts++
	close(s.ended)
	s.ended = make(chan struct{})
}

// rest waits between attempts, for a shorter time when one is asked for.
func (s *supervisor) rest(ctx context.Context, pause time.Duration) {
	least := time.After(min(pause, attemptSoon))
	select {
	case <-ctx.Done():
		return
	case <-least:
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause - attemptSoon):
	case <-s.kick:
	}
}

// use gives the agent that runs, and keeps it from being closed until done is called. Without one it waits for the end of an
// attempt: for the first one as long as ctx allows, else for one that it asks for, and no longer than wait.
func (s *supervisor) use(ctx context.Context, wait time.Duration) (a *agent, done func(), err error) {
	s.mu.Lock()
	first, ended := s.attempts == 0, s.ended
	s.mu.Unlock()
	if a, done, err := s.current(); a != nil || (wait == 0 && !first) {
		return a, done, err
	}
	if !first {
		select {
		case s.kick <- struct{}{}:
		default: // one is asked for already
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return s.current()
}

func (s *supervisor) current() (*agent, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.agent != nil:
		s.agent.users.Add(1)
		return s.agent, s.agent.users.Done, nil
	case s.cause == nil:
		return nil, nil, errors.New("the agent is still reading its state: try again in a moment")
	}
	return nil, nil, s.cause
}
