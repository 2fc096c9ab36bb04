// Package dockerwatch is the agent's only way to Docker's API: it tells that something about networks or containers
// has changed, what Docker has, and makes and removes networks.
//
// It owns the connection: its version is negotiated (API 1.40 to 1.56, which are Docker Engine 19.03 to 29), and it is made
// anew whenever Docker was restarted. It imports Docker's client only; it knows neither stores nor Open vSwitch.
//
// Nothing here may be called from within a handler of Docker's plugin calls: Docker holds locks while it
// waits for these, and serves no API while it boots.
package dockerwatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/socketplane/socketplane/internal/retry"
)

// Errors of the API. They are matched with errors.Is.
var (
	// ErrUnavailable says that Docker does not answer.
	ErrUnavailable = errors.New("docker does not answer")
	// ErrNotTried says that Docker has not been asked yet: Run has not begun, or its first connection is being made.
	ErrNotTried = fmt.Errorf("%w: not tried yet", ErrUnavailable)
	// ErrNotFound says that Docker has no such thing.
	ErrNotFound = errors.New("docker does not have it")
	// ErrRefused is any other answer; it wraps Docker's own words.
	ErrRefused = errors.New("docker refuses")
)

// Bounds of the pause before the connection is tried again, and how long one must have lasted for the pause to be the shortest again.
const (
	retryFirst = 100 * time.Millisecond
	retryLast  = 2 * time.Second
	steady     = 5 * time.Second
)

// askTimeout bounds a question; changes take longer, as Docker calls our plugin, whose deadline is 10 s, several times.
const (
	askTimeout    = 10 * time.Second
	changeTimeout = 60 * time.Second
)

// Options are the settings of a Watcher.
type Options struct {
	// Driver is the name under which Docker knows our network and IPAM driver.
	Driver string
	// Heard is called with each event, and with the zero Event after each connection, from one goroutine at a time; it must not block.
	Heard  func(Event)
	Logger *slog.Logger
}

// Watcher watches one Docker Engine. It is safe for concurrent use.
type Watcher struct {
	host    string
	opts    Options
	greeted string // the version that was logged last; only Run uses it

	mu    sync.Mutex // guards what follows
	api   *client.Client
	heard time.Time // since when this connection is there
	err   error     // why there is no connection
	// version is the API version of the last connection, "" before the first.
	version string
}

// New returns a watcher of the engine at host (unix://PATH or tcp://HOST:PORT). Nothing is dialled before Run.
func New(host string, opts Options) *Watcher {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Heard == nil {
		opts.Heard = func(Event) {}
	}
	return &Watcher{host: host, opts: opts, err: ErrNotTried}
}

// Ready is nil while Docker's events are heard, else it says why not.
func (w *Watcher) Ready() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Run hears Docker's events until ctx ends. After each connection Heard is called with the zero Event, as something may have
// been missed.
func (w *Watcher) Run(ctx context.Context) error {
	pause := retry.Pause{First: retryFirst, Last: retryLast, Steady: steady}
	trouble := retry.Trouble{
		Logger: w.opts.Logger, Text: "docker's events are not heard; networks here are followed again when they are", Over: "docker's events are heard again",
	}
	for ctx.Err() == nil {
		heard, err := w.listen(ctx, func() { trouble.Note(nil) })
		if ctx.Err() != nil {
			break
		}
		w.set(nil, fmt.Errorf("%w at %s: %w: start it, or give its address with --docker-host", ErrUnavailable, w.host, err))
		trouble.Note(err)
		pause.Wait(ctx, heard)
	}
	w.set(nil, fmt.Errorf("%w: the agent is stopping", ErrUnavailable))
	return nil
}

// listen hears events over one connection; heard is for how long. It calls lasts once that has been long.
func (w *Watcher) listen(ctx context.Context, lasts func()) (heard time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	api, err := client.New(client.WithHost(w.host), client.WithTLSClientConfigFromEnv())
	if err != nil {
		return 0, err
	}
	defer api.Close()
	pingCtx, stop := context.WithTimeout(ctx, askTimeout)
	_, err = api.Ping(pingCtx, client.PingOptions{NegotiateAPIVersion: true})
	stop()
	if err != nil {
		return 0, err
	}
	// Docker answers before it subscribes us: what happens in between is in the past that we ask for.
	since := time.Now().Add(-time.Second)
	stream := api.Events(ctx, client.EventsListOptions{
		Since: unix(since),
		Filters: client.Filters{}.Add("type", KindNetwork, KindContainer).
			Add("event", ActionCreate, ActionDestroy, ActionConnect, ActionDisconnect, ActionRename, ActionStart, actionDie),
	})
	select {
	case err := <-stream.Err:
		return 0, err
	default:
	}
	w.set(api, nil)
	w.greet(api.ClientVersion())
	w.opts.Heard(Event{})
	began, steadily := time.Now(), time.NewTimer(steady)
	defer steadily.Stop()
	for {
		select {
		case <-steadily.C:
			lasts()
		case m := <-stream.Messages:
			w.opts.Heard(event(m))
		case err := <-stream.Err:
			return time.Since(began), err
		}
	}
}

// greet logs the first connection, and each with another version: Docker was upgraded.
func (w *Watcher) greet(version string) {
	if w.greeted != version {
		w.opts.Logger.Info("docker's events are heard", "address", w.host, "api", version)
	}
	w.greeted = version
}

func (w *Watcher) set(api *client.Client, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.api, w.err, w.heard = api, err, time.Now()
	if api != nil {
		w.version = api.ClientVersion()
	}
}

// APIVersion is the version of the API that was negotiated with the engine last, "" before it was ever there. It is not newer than
// the newest that this program knows, and never waits for Docker.
func (w *Watcher) APIVersion() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.version
}

// connected returns the client while there is a connection.
func (w *Watcher) connected() (*client.Client, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.api, w.err
}

// failed classifies an error of Docker's client and keeps Docker's words.
func failed(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%s: %w: %s", what, ErrNotFound, words(err))
	case client.IsErrConnectionFailed(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w: %s", what, ErrUnavailable, words(err))
	}
	return fmt.Errorf("%s: %w: %s", what, ErrRefused, words(err))
}

func words(err error) string { return strings.TrimPrefix(err.Error(), "Error response from daemon: ") }
