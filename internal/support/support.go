package support

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/bundle"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/version"
	"github.com/socketplane/socketplane/store"
)

var _ adminapi.Supporter = (*Writer)(nil)

// consulAuth is a secret that Consul's client takes from the environment by itself.
const consulAuth = "CONSUL_HTTP_AUTH"

// Sources are what a bundle is made of, with and without an agent. Its functions may be called concurrently.
type Sources struct {
	Config  config.Config
	Version version.Info
	// Started is when the process did.
	Started time.Time
	// Recent gives the last lines of the log; nil if they are not kept.
	Recent  func() []byte
	Metrics func() prometheus.Gatherer
	Info    func(context.Context) (adminapi.Info, error)
	Doctor  func(context.Context) ([]adminapi.Check, error)
	// Parts are those of the agent that runs; nil while none does.
	Parts *Parts
}

// Writer writes bundles. Its methods may be called concurrently.
type Writer struct{ sources Sources }

// New returns what writes bundles of these sources.
func New(sources Sources) *Writer { return &Writer{sources} }

// Support writes what a bug report needs. What can't be had says so in its file.
func (w *Writer) Support(ctx context.Context, to io.Writer) error {
	var parts []bundle.Part
	p := w.sources.Parts
	if p != nil {
		parts = append(parts, bundle.Part{Name: "versions.txt", Read: w.tellVersions})
	}
	parts = append(parts,
		bundle.Part{Name: "settings.txt", Read: w.tellSettings},
		bundle.Part{Name: "info.json", Read: func(ctx context.Context) ([]byte, error) { return told(w.sources.Info(ctx)) }},
		bundle.Part{Name: "doctor.json", Read: func(ctx context.Context) ([]byte, error) { return told(w.sources.Doctor(ctx)) }})
	if p != nil {
		parts = append(parts, bundle.Part{Name: "networks.json", Read: func(ctx context.Context) ([]byte, error) { return told(p.allNetworks(ctx)) }})
	}
	parts = append(parts,
		bundle.Part{Name: "log.txt", Read: w.tellLog},
		bundle.Part{Name: "metrics.txt", Read: w.tellMetrics},
		bundle.Part{Name: "goroutines.txt", Read: tellGoroutines})
	if p != nil {
		parts = append(parts, p.files()...)
	}
	return bundle.Write(ctx, to, w.secrets(), parts)
}

// secrets are what is blanked wherever it appears.
func (w *Writer) secrets() []string {
	secrets := w.sources.Config.Secrets()
	if auth := os.Getenv(consulAuth); auth != "" {
		secrets = append(secrets, auth)
	}
	if token, err := os.ReadFile(w.sources.Config.JoinTokenFile); err == nil {
		secrets = append(secrets, strings.TrimSpace(string(token)))
	}
	return secrets
}

// told is a value as JSON, unless it could not be had.
func told[T any](value T, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return bundle.JSON(value)
}

func (w *Writer) tellVersions(ctx context.Context) ([]byte, error) {
	v := w.sources.Version
	var out bytes.Buffer
	fmt.Fprintf(&out, "socketplane %s, commit %s, %s, %s\nstarted %s, now %s\nOpen vSwitch %s\nrecords of schema %d\n", v.Version, v.Commit, v.Go,
		v.Platform, w.sources.Started.Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339), w.sources.Parts.Switch.Version(ctx), store.Schema)
	kernel, err := os.ReadFile("/proc/version")
	out.Write(kernel)
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, m := range build.Deps {
			fmt.Fprintf(&out, "%s %s\n", m.Path, m.Version)
		}
	}
	return out.Bytes(), err
}

func (w *Writer) tellSettings(context.Context) ([]byte, error) {
	var out bytes.Buffer
	for _, setting := range config.Settings() {
		fmt.Fprintf(&out, "%s=%s\n", setting.Env[0], setting.Value(w.sources.Config))
	}
	return out.Bytes(), nil
}

func (w *Writer) tellLog(context.Context) ([]byte, error) {
	if w.sources.Recent == nil {
		return nil, errors.New("the log is not kept")
	}
	return w.sources.Recent(), nil
}

func (w *Writer) tellMetrics(context.Context) ([]byte, error) {
	families, err := w.sources.Metrics().Gather()
	var out bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
			return out.Bytes(), err
		}
	}
	return out.Bytes(), err
}

func tellGoroutines(context.Context) ([]byte, error) {
	const stacks = 1 // those that are alike together
	var out bytes.Buffer
	err := pprof.Lookup("goroutine").WriteTo(&out, stacks)
	return out.Bytes(), err
}
