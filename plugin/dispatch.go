package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/socketplane/socketplane/plugin/netapi"
)

// ServeHTTP answers one request of Docker. It is exported for tests and for other transports; [Server.Serve] is the
// way to run a Server.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	s.calls.Add(1)
	defer s.calls.Add(-1)
	name := strings.TrimPrefix(r.URL.Path, "/")
	m, known := s.methods[name]
	var answer any
	var err error
	switch {
	case !known:
		err = &requestError{http.StatusNotFound, fmt.Errorf("SocketPlane's plugin has no method %.100q", name)}
		name = "unknown"
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		err = &requestError{http.StatusMethodNotAllowed, fmt.Errorf("%s is called by POST, not by %.20q", name, r.Method)}
	default:
		answer, err = s.limited(w, r, name, m)
	}
	status, body := encode(answer, err)
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, writeErr := w.Write(body)

	took := time.Since(begin)
	s.opts.Observe(name, took, err)
	if err != nil {
		s.opts.Logger.Warn("request failed", "method", name, "status", status, "took", took, "err", err)
	} else if writeErr != nil {
		s.opts.Logger.Warn("Docker took no answer", "method", name, "took", took, "err", writeErr)
	}
}

// limited calls a method within the limits of time, size and number.
func (s *Server) limited(w http.ResponseWriter, r *http.Request, name string, m method) (any, error) {
	ctx, cancel := context.WithTimeout(netapi.Carry(s.base, r.Context()), s.opts.Timeout)
	if !s.enter() {
		cancel()
		return nil, s.stoppingError(name)
	}
	// Deferred by whoever runs the handler, which may outlive its answer.
	release := func() { cancel(); s.running.Done() }
	if !m.request {
		defer release()
		return m.call(ctx, nil)
	}
	// The slot comes before the body, so that what clients send can't fill the memory.
	if err := s.acquire(ctx, name); err != nil {
		release()
		return nil, err
	}
	body, err := s.readBody(ctx, w, r)
	if err != nil {
		<-s.slots
		release()
		return nil, err
	}
	return s.run(ctx, name, func() (any, error) {
		defer release()
		defer func() { <-s.slots }()
		answer, err := m.call(ctx, body)
		return answer, s.explain(ctx, name, err)
	})
}

// acquire waits for a free slot, at most until the deadline or the end of Serve.
func (s *Server) acquire(ctx context.Context, name string) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-s.stopping:
		return s.stoppingError(name)
	case <-ctx.Done():
		return &requestError{http.StatusServiceUnavailable, fmt.Errorf("%s was not begun within %s: all %d handlers "+
			"are busy; repeat the command, and see `socketplane doctor` if this lasts", name, s.opts.Timeout, s.opts.MaxConcurrent)}
	}
}

func (s *Server) readBody(ctx context.Context, w http.ResponseWriter, r *http.Request) ([]byte, error) {
	// Best effort: a recorder in a test has no deadlines.
	conn := http.NewResponseController(w)
	deadline, _ := ctx.Deadline()
	_ = conn.SetReadDeadline(deadline)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opts.MaxBody))
	_ = conn.SetReadDeadline(time.Time{})
	if err == nil {
		return body, nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &requestError{http.StatusRequestEntityTooLarge,
			fmt.Errorf("the request's body has more than the %d bytes that are accepted", s.opts.MaxBody)}
	}
	return nil, badRequest("the request's body did not arrive: %w", err)
}

// run calls f in a goroutine of its own, so that Docker, which waits without a limit, gets an answer even if f
// disregards its context. f keeps its slot until it returns.
func (s *Server) run(ctx context.Context, name string, f func() (any, error)) (any, error) {
	type result struct {
		answer any
		err    error
	}
	done := make(chan result, 1)
	go func() {
		// Stays if f ends by a panic or by runtime.Goexit.
		res := result{err: fmt.Errorf("%s failed by a defect of SocketPlane; the agent's log has the details", name)}
		defer func() {
			if p := recover(); p != nil {
				s.opts.Logger.Error("panic in a handler", "method", name, "panic", p, "stack", string(debug.Stack()))
			}
			done <- res
		}()
		answer, err := f()
		res = result{answer, err}
	}()

	deadline, _ := ctx.Deadline()
	grace := time.NewTimer(time.Until(deadline) + s.opts.Timeout/10)
	defer grace.Stop()
	select {
	case res := <-done:
		return res.answer, res.err
	case <-grace.C:
		s.opts.Logger.Error("a handler disregards its deadline and keeps its slot", "method", name,
			slog.Duration("limit", s.opts.Timeout))
		return nil, s.explain(ctx, name, context.DeadlineExceeded)
	}
}

// explain says in the error what the end of the context meant.
func (s *Server) explain(ctx context.Context, name string, err error) error {
	switch {
	case err == nil || ctx.Err() == nil:
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s was not done within its limit of %s (%w); see what it waits for with `socketplane doctor`, "+
			"then repeat the command", name, s.opts.Timeout, err)
	case errors.Is(err, context.Canceled):
		return &requestError{http.StatusServiceUnavailable,
			fmt.Errorf("%s was cut off because SocketPlane's agent stops (%w); repeat the command when it runs again", name, err)}
	}
	return err
}

func (s *Server) stoppingError(name string) error {
	return &requestError{http.StatusServiceUnavailable,
		fmt.Errorf("%s is refused because SocketPlane's agent stops; repeat the command when it runs again", name)}
}
