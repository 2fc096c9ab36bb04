package metrics

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Answers are what the metrics' server answers with. Its functions may be called concurrently.
type Answers struct {
	// Gather gives the metrics, and done, which is called when they are written.
	Gather func() (g prometheus.Gatherer, done func())
	// Ready is nil while containers can be attached.
	Ready func(context.Context) error
	// Pprof adds Go's profiles.
	Pprof bool
}

// Serve serves /metrics, /healthz, /readyz and, if that is set, Go's profiles until ctx ends. It closes l.
func (a Answers) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // a scrape is not worth waiting for
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// metricsLimit is how long an answer of /metrics may take until it is read: its handler keeps the agent from ending.
const metricsLimit = 30 * time.Second

// writeWithin gives up an answer that is not written and read in time.
func writeWithin(limit time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setWriteDeadline(w, time.Now().Add(limit))
		h.ServeHTTP(w, r)
	})
}

// setWriteDeadline bounds the writing of an answer; the zero time is no limit. It stays for later requests of the connection.
func setWriteDeadline(w http.ResponseWriter, at time.Time) {
	_ = http.NewResponseController(w).SetWriteDeadline(at) // every connection of a server has one
}

func (a Answers) handler() http.Handler {
	mux, profiles := http.NewServeMux(), http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		gatherer, done := a.Gather()
		defer done()
		promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := a.Ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	if a.Pprof {
		profiles.HandleFunc("GET /debug/pprof/", pprof.Index)
		profiles.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		profiles.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		profiles.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		profiles.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	all := http.NewServeMux()
	all.Handle("/", writeWithin(metricsLimit, mux))
	all.HandleFunc("/debug/pprof/", func(w http.ResponseWriter, r *http.Request) {
		setWriteDeadline(w, time.Time{}) // a profile takes as long as it was asked to, and holds nothing of the agent
		profiles.ServeHTTP(w, r)
	})
	return all
}
