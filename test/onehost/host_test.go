package onehost

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/bare"
)

const (
	underlay = "192.0.2.1"
	// patience bounds whatever has no limit of its own.
	patience = 60 * time.Second
)

// host is a host without Docker.
type host struct {
	*bare.Host
	proc *testenv.Process
	// flags come after those that every agent of the tests has.
	flags []string
	// env is added to the agent's environment.
	env []string
	// wrap is a program and its arguments that runs the agent.
	wrap []string
}

// newHost makes a host whose agent is not started yet.
func newHost(t *testing.T, flags ...string) *host {
	t.Helper()
	return &host{Host: bare.New(t, netip.MustParsePrefix(underlay+"/24"), patience), flags: flags}
}

// start starts the agent and waits until it is ready; stop or kill end it, at the latest with the test.
func (h *host) start() {
	h.T.Helper()
	h.begin()
	h.ready()
}

// begin starts the agent.
func (h *host) begin() {
	h.T.Helper()
	flags := h.flags
	if !slices.Contains(flags, "--store") {
		flags = append([]string{"--store", "bolt"}, flags...)
	}
	h.proc = h.Start(bare.Agent{Wrap: h.wrap, Env: h.env, Flags: flags})
}

func (h *host) ready() {
	h.T.Helper()
	h.Eventually("the agent is ready", func() error {
		if !h.proc.Running() {
			h.T.Fatalf("the agent ended:\n%s", h.log())
		}
		ctx, cancel := context.WithTimeout(h.T.Context(), 5*time.Second)
		defer cancel()
		if err := h.admin().Ready(ctx); err != nil {
			return err
		}
		_, _, err := h.Get("/healthz") // it listens there a moment after its sockets
		return err
	})
}

func (h *host) stop() {
	h.T.Helper()
	if !h.proc.Stop(20 * time.Second) {
		h.T.Fatalf("the agent does not end:\n%s", h.log())
	}
}

func (h *host) kill() { h.proc.Kill() }

func (h *host) log() string { return testenv.TailFile(h.Path("agent.log"), 1000) }

func (h *host) admin() *adminapi.Client { return adminapi.NewClient(h.Path("admin.sock")) }

// metrics gives the text that the agent serves.
func (h *host) metrics() string {
	h.T.Helper()
	status, text, err := h.Get("/metrics")
	if err != nil || status != http.StatusOK {
		h.T.Fatalf("metrics: %d %v", status, err)
	}
	return text
}

// metric is the value of one metric, by its name and labels as they are written; 0 if there is none.
func (h *host) metric(name string) float64 {
	h.T.Helper()
	return bare.Value(h.metrics(), name)
}

// errNotYet says that what is awaited is not there yet.
var errNotYet = errors.New("not yet")
