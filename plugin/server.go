package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/plugin/netapi"
)

// writeTime is ample for an answer of some hundred bytes to reach a local socket.
const writeTime = 500 * time.Millisecond

// Server answers Docker's calls of both protocols. Make it with [New]; it serves once.
type Server struct {
	opts    Options
	methods map[string]method
	slots   chan struct{} // one element for each running handler
	calls   atomic.Int64  // being answered

	// base ends when handlers are to be cut off, after the drain.
	base context.Context
	cut  context.CancelFunc

	mu       sync.Mutex
	served   bool
	stopped  bool // no handler enters any more; guards running.Add against running.Wait
	stopping chan struct{}
	running  sync.WaitGroup
}

// New makes a Server for the two drivers, neither of which may be nil.
func New(n NetworkDriver, i IPAMDriver, opts Options) *Server {
	opts = opts.withDefaults()
	base, cut := context.WithCancel(context.Background())
	return &Server{
		opts:     opts,
		methods:  methods(n, i, opts.Scope),
		slots:    make(chan struct{}, opts.MaxConcurrent),
		base:     base,
		cut:      cut,
		stopping: make(chan struct{}),
	}
}

// InFlight is how many calls are being answered at the moment, those that wait for their turn included.
func (s *Server) InFlight() int { return int(s.calls.Load()) }

// Serve accepts on all listeners until ctx ends or one of them fails, and closes them. It then lets running handlers
// finish, for [Options].Drain at most, and cuts off the rest; their number is in the returned error. A socket that
// [Listen] made is removed; one that systemd made stays, and systemd keeps its backlog for the next agent.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	if err := s.begin(listeners); err != nil {
		for _, l := range listeners {
			_ = l.Close()
		}
		return err
	}
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.opts.Timeout,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return netapi.WithCaller(ctx, s.opts.Caller(conn))
		},
		ErrorLog: slog.NewLogLogger(s.opts.Logger.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { ended <- srv.Serve(l) }()
	}
	var err error
	left := len(listeners)
	select {
	case <-ctx.Done():
	case err = <-ended:
		left--
		err = fmt.Errorf("plugin: serve: %w", err)
	}
	err = errors.Join(err, s.stop(context.WithoutCancel(ctx), srv))
	for range left {
		<-ended
	}
	return err
}

// begin checks what New can't report.
func (s *Server) begin(listeners []net.Listener) error {
	if len(listeners) == 0 {
		return errors.New("plugin: serve: no listener was given")
	}
	if s.opts.Scope != network.LocalScope && s.opts.Scope != network.GlobalScope {
		return fmt.Errorf("plugin: scope %q is unknown: set it to %q or %q", s.opts.Scope, network.LocalScope, network.GlobalScope)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.served {
		return errors.New("plugin: serve: this server has served already")
	}
	s.served = true
	return nil
}

// enter counts a handler in, or says that none may begin.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.running.Add(1)
	return true
}

// stop drains the handlers, then the connections.
func (s *Server) stop(ctx context.Context, srv *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Drain)
	defer cancel()
	defer s.cut()
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	close(s.stopping)

	drained := make(chan struct{})
	settled, settle := context.WithCancel(ctx)
	defer settle()
	go func() {
		s.running.Wait()
		close(drained)
		// Shutdown also waits, for 5 s, for connections that have never sent a request, which Docker's client opens
		// in reserve. Only answers that are being written are worth waiting for.
		time.AfterFunc(writeTime, settle)
	}()
	_ = srv.Shutdown(settled)
	defer srv.Close()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
	}
	running := len(s.slots)
	s.cut()
	// Most handlers heed their context and undo what they have begun; their answers tell Docker to undo the rest.
	last := time.NewTimer(s.opts.Drain / 5)
	defer last.Stop()
	select {
	case <-drained:
		answered, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Drain/5)
		defer cancel()
		_ = srv.Shutdown(answered)
	case <-last.C:
	}
	return fmt.Errorf("plugin: %d requests were cut off: they were not done within %s after the stop", running, s.opts.Drain)
}
