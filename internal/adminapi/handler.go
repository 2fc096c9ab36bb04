package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// answerTimeout bounds each question to the agent: a stuck store must not leave the operator without an answer.
const answerTimeout = 5 * time.Second

// drainTimeout is how long Serve waits for running answers; each ends within answerTimeout.
const drainTimeout = answerTimeout + time.Second

// writeTimeout is how long a client may take to read its answer: until then the agent that gives it can't end.
const writeTimeout = 30 * time.Second

// maxHeader is the largest request header that is read, in bytes; ours are far below.
const maxHeader = 16 << 10

// Handler answers the requests that the package comment lists. It is safe for concurrent use.
func Handler(a Agent) http.Handler {
	mux := http.NewServeMux()
	health(mux, a)
	if o, ok := a.(Operator); ok {
		operate(mux, o)
	}
	if s, ok := a.(Supporter); ok {
		support(mux, s)
	}
	if o, ok := a.(ClusterOperator); ok {
		operateCluster(mux, o)
	}
	if o, ok := a.(LayoutOperator); ok {
		operateLayout(mux, o)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusNotFound, failure{fmt.Sprintf("this agent does not know %s %s", r.Method, r.URL.Path)})
	})
	return timed(mux)
}

// health adds what every agent answers.
func health(mux *http.ServeMux, a Agent) {
	mux.HandleFunc("GET "+pathInfo, func(w http.ResponseWriter, r *http.Request) {
		info, err := a.Info(r.Context())
		if err != nil {
			reply(w, http.StatusInternalServerError, failure{err.Error()})
			return
		}
		reply(w, http.StatusOK, info.normal())
	})
	mux.HandleFunc("GET "+pathHealth, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, status{"ok"}) })
	mux.HandleFunc("GET "+pathReady, func(w http.ResponseWriter, r *http.Request) {
		if err := a.Ready(r.Context()); err != nil {
			reply(w, http.StatusServiceUnavailable, failure{err.Error()})
			return
		}
		reply(w, http.StatusOK, status{"ok"})
	})
}

// timed gives each question its deadline.
func timed(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timeout := answerTimeout
		switch r.URL.Path {
		case pathEndpoints, pathNetworks:
			timeout = listTimeout
		case pathDoctor:
			timeout = doctorTimeout
		case pathSupport:
			timeout = supportTimeout
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout + writeTimeout)) // every connection of a server has one
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		mux.ServeHTTP(w, r.WithContext(ctx))
	})
}

// Serve answers on l by h, a [Handler] or [Starting], until ctx is done, lets running answers end, and closes l. It returns nil after such an end.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: answerTimeout,
		ReadTimeout:       answerTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the admin socket %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := srv.Shutdown(drain)
	if err != nil {
		err = fmt.Errorf("drain the admin socket %s: %w", l.Addr(), errors.Join(err, srv.Close()))
	}
	<-served // http.ErrServerClosed, as asked
	return err
}

// normal sets the schema, and turns absent lists into empty ones so that programs need not tell null from [].
func (i Info) normal() Info {
	i.Schema = Schema
	if i.Networks == nil {
		i.Networks = []Network{}
	}
	if i.Hosts == nil {
		i.Hosts = []Member{}
	}
	return i
}

func reply(w http.ResponseWriter, code int, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		code, raw = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(raw, '\n')) // the client has gone; there is nobody left to tell
}
