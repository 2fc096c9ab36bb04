package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/metrics"
	"github.com/socketplane/socketplane/plugin"
)

// door is one socket that is served for as long as the process runs.
type door struct {
	name   string
	listen func() (net.Listener, error)
	// serve ends with ctx, or with the listener's failure; it closes the listener.
	serve func(context.Context, net.Listener) error
	first net.Listener // nil if the first attempt to listen failed
	given bool         // by systemd: it can't be made again
}

// Pauses between attempts to open a socket.
const (
	listenSoon = 250 * time.Millisecond
	listenLate = 3 * time.Second
)

// open opens the sockets, Docker's first: whoever calls early waits, and is not refused. One that can't be opened is tried again by serve. It is an
// error that another agent serves all of them: this process would be of no use to anybody.
func (s *supervisor) open() (doors []*door, err error) {
	defer func() {
		if err != nil {
			for _, d := range doors {
				if d.first != nil {
					err = errors.Join(err, d.first.Close())
				}
			}
		}
	}()
	if doors, err = s.dockerDoors(); err != nil {
		return doors, err
	}
	admin, err := s.adminDoor()
	if err != nil {
		return doors, err
	}
	doors = append(doors, admin)
	var inUse []error
	for _, d := range doors {
		if d.given {
			continue
		}
		var failed error
		if d.first, failed = d.listen(); failed != nil {
			d.first = nil // not a nil pointer in an interface
			s.trouble(d.name, failed)
			if errors.Is(failed, plugin.ErrInUse) {
				inUse = append(inUse, failed)
			}
		}
	}
	if len(inUse) == len(doors) {
		return doors, errors.Join(inUse...)
	}
	if s.cfg.MetricsAddr != "" {
		doors = append(doors, &door{name: "metrics", serve: s.metricsAnswers().Serve, listen: func() (net.Listener, error) {
			l, err := net.Listen("tcp", s.cfg.MetricsAddr)
			if err != nil {
				return nil, fmt.Errorf("metrics: %w: free the port or give another --metrics-addr", err)
			}
			return l, nil
		}})
	}
	return doors, nil
}

// metricsAnswers are what is answered at --metrics-addr, with and without an agent.
func (s *supervisor) metricsAnswers() metrics.Answers {
	return metrics.Answers{Ready: s.ready, Pprof: s.cfg.Pprof, Gather: func() (prometheus.Gatherer, func()) {
		a, done, err := s.current()
		if err != nil {
			return s.metrics.Gatherer(nil), func() {}
		}
		return s.metrics.Gatherer(a.collected), done
	}}
}

// dockerDoors are the sockets that Docker calls. systemd may have opened the plugin's already.
func (s *supervisor) dockerDoors() ([]*door, error) {
	activated, err := plugin.Activated("socketplane.socket")
	if err != nil {
		return nil, err
	}
	serve := func(ctx context.Context, l net.Listener) error {
		server := plugin.New(front{s}, front{s}, plugin.Options{
			Scope: string(s.cfg.Scope), Logger: s.log, Observe: s.metrics.Observe, Caller: callerOf,
		})
		defer s.metrics.Serving(server)()
		return server.Serve(ctx, l)
	}
	var doors []*door
	var paths []string
	if s.opts.V1Socket != "" {
		// First: Docker waits for a managed plugin's own socket, and then boots with networks that need this one.
		paths = append(paths, s.opts.V1Socket)
	}
	for _, l := range activated {
		doors = append(doors, &door{name: "socket for Docker", serve: serve, first: l, given: true})
	}
	if len(activated) == 0 {
		paths = append(paths, s.cfg.PluginSocket)
	}
	for _, path := range paths {
		doors = append(doors, &door{name: "socket for Docker " + path, serve: serve,
			listen: func() (net.Listener, error) { return plugin.Listen(path) }})
	}
	return doors, nil
}

// adminDoor is the command line's socket, which systemd may have opened; then it also says who may use it.
func (s *supervisor) adminDoor() (*door, error) {
	d := &door{name: "socket for the command line", serve: func(ctx context.Context, l net.Listener) error {
		return adminapi.Serve(ctx, l, s, s.log)
	}, listen: func() (net.Listener, error) { return plugin.Listen(s.cfg.AdminSocket) }}
	activated, err := plugin.Activated("socketplane-admin.socket")
	if err == nil && len(activated) > 0 {
		d.first, d.given = activated[0], true
	}
	return d, err
}

// serve serves a door until ctx ends, and opens it again when it fails.
func (s *supervisor) serve(ctx context.Context, d *door) error {
	l := d.first
	for pause := listenSoon; ; pause = min(2*pause, listenLate) {
		if l == nil {
			var err error
			if l, err = d.listen(); err != nil {
				l = nil
				s.trouble(d.name, err)
			}
		}
		if l != nil {
			s.trouble(d.name, nil)
			err := d.serve(ctx, l)
			if ctx.Err() != nil || d.given {
				return err
			}
			s.trouble(d.name, err)
			l, pause = nil, listenSoon
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// troubles are what is wrong beside the agent's start, by what has it.
type troubles map[string]*cause

// trouble notes what is wrong with a part, or nil that it is well. Each cause is logged once.
func (s *supervisor) trouble(part string, err error) {
	s.mu.Lock()
	was := s.troubles[part]
	var now *cause
	if err == nil {
		delete(s.troubles, part)
	} else {
		now = causeOf(err, s.cfg.StateDir)
		s.troubles[part] = now
	}
	s.mu.Unlock()
	switch {
	case now == nil && was != nil:
		s.log.Info("it works now", "part", part)
	case now != nil && (was == nil || was.Error() != now.Error()):
		s.log.Error("a part does not work; it is tried again", "part", part, "err", oneLine(now))
	}
}

// served is nil if all sockets are served, and whatever else the process needs beside the agent works.
func (s *supervisor) served() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, part := range slices.Sorted(maps.Keys(s.troubles)) {
		errs = append(errs, fmt.Errorf("%s: %w", part, s.troubles[part]))
	}
	return errors.Join(errs...)
}
