package agent

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/support"
)

// starting is what the command line is answered while no agent runs.
type starting struct{ s *supervisor }

var _ adminapi.Starter = starting{}

// firstWait is how long the command line waits for the end of the first attempt to start.
const firstWait = 3 * time.Second

// ServeHTTP answers the command line: by the agent that runs, or by why none does.
func (s *supervisor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// As short as a command's patience with an agent that reads its state for the first time.
	ctx, cancel := context.WithTimeout(r.Context(), firstWait)
	a, done, err := s.use(ctx, 0)
	cancel()
	if err != nil {
		adminapi.Starting(starting{s}).ServeHTTP(w, r)
		return
	}
	defer done()
	a.admin.ServeHTTP(w, r)
}

// ready is nil while containers can be attached.
func (s *supervisor) ready(ctx context.Context) error {
	a, done, err := s.current()
	if err != nil {
		return starting{s}.Ready(ctx)
	}
	defer done()
	return a.Ready(ctx)
}

// Info tells what is known without an agent.
func (t starting) Info(ctx context.Context) (adminapi.Info, error) {
	v := t.s.opts.Version
	info := adminapi.Info{
		Version: v.Version, Commit: v.Commit, Go: v.Go, Started: t.s.started, Host: adminapi.Host{Name: t.s.cfg.Name},
		Store: adminapi.Store{Kind: string(t.s.cfg.Store)},
	}
	if err := t.Ready(ctx); err != nil {
		info.Trouble = err.Error()
	}
	return info, nil
}

// Ready says why no agent runs.
func (t starting) Ready(context.Context) error {
	_, done, err := t.s.current()
	if err == nil { // since a moment
		done()
		return nil
	}
	return errors.Join(notReady(err), t.s.served())
}

// Doctor tells why no agent runs, and looks at what can be looked at without one.
func (t starting) Doctor(ctx context.Context) ([]adminapi.Check, error) {
	_, done, err := t.s.current()
	if err == nil {
		done()
		return nil, errors.New("the agent has just started: repeat the command")
	}
	start := t.s.startCheck(err)
	c := t.s.cfg
	return doctor.Run(ctx, doctor.Local{
		Links: doctor.HostLinks, AdminSocket: c.AdminSocket, PluginSocket: c.PluginSocket, OVSDB: c.OVSDB, Bridge: config.Bridge,
		DockerHost: c.DockerHost, StateDir: c.StateDir, Unit: doctor.Unit, Managed: t.s.opts.V1Socket != "", Start: &start,
	}.Checks()), nil
}

// startCheck tells why no agent runs, or which socket can't be served.
func (s *supervisor) startCheck(err error) doctor.Check {
	return doctor.Start("it answers, but can't start: "+oneLine(errors.Join(err, s.served())),
		"as said; it is tried again every few seconds, without a restart")
}

// Support writes what can be had without an agent.
func (t starting) Support(ctx context.Context, w io.Writer) error {
	return support.New(support.Sources{
		Config: t.s.cfg, Version: t.s.opts.Version, Started: t.s.started, Recent: t.s.opts.Recent, Info: t.Info, Doctor: t.Doctor,
		Metrics: func() prometheus.Gatherer { return t.s.metrics.Gatherer(nil) },
	}).Support(ctx, w)
}
