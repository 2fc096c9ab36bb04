package plugin

import (
	"log/slog"
	"net"
	"time"

	"github.com/docker/go-plugins-helpers/network"
)

// The defaults of [Options].
const (
	// DefaultTimeout stays below the ~15 s for which dockerd retries a lost connection.
	DefaultTimeout       = 10 * time.Second
	DefaultDrain         = 5 * time.Second
	DefaultMaxBody       = 1 << 20
	DefaultMaxConcurrent = 256
)

// Options are the settings of a [Server]; the zero value of each field stands for its default.
type Options struct {
	// Scope is what GetCapabilities announces: "local" (default), or "global" for Swarm, where Docker gives a network
	// the same id on every host. Serve refuses any other value.
	Scope string
	// Timeout is the deadline of one request, counted from its arrival; default DefaultTimeout.
	// A handler that disregards it is answered for after a tenth more.
	Timeout time.Duration
	// Drain bounds how long Serve waits for running handlers at its end; default DefaultDrain.
	Drain time.Duration
	// MaxBody is the largest accepted request body, in bytes; default DefaultMaxBody.
	MaxBody int64
	// MaxConcurrent is how many handlers run at once; more wait, within their deadline. Default DefaultMaxConcurrent.
	MaxConcurrent int
	// Logger gets one line for each failed request, and stacks of panics; default: nothing is logged.
	Logger *slog.Logger
	// Observe is told of each answered request, concurrently. The method is a known one ("NetworkDriver.Join")
	// or "unknown", so that it can label a metric. err is nil for a success.
	Observe func(method string, took time.Duration, err error)
	// Caller tells which process a connection comes from, 0 if it can't be told. Handlers find it with netapi.Caller.
	Caller func(net.Conn) int
}

func (o Options) withDefaults() Options {
	if o.Scope == "" {
		o.Scope = network.LocalScope
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Drain <= 0 {
		o.Drain = DefaultDrain
	}
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.MaxConcurrent <= 0 {
		o.MaxConcurrent = DefaultMaxConcurrent
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(string, time.Duration, error) {}
	}
	if o.Caller == nil {
		o.Caller = func(net.Conn) int { return 0 }
	}
	return o
}
