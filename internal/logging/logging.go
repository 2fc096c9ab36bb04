// Package logging owns how the program's logger is made from its settings.
//
// It imports internal/config and the standard library only, and must not know what is logged.
package logging

import (
	"io"
	"log/slog"

	"github.com/socketplane/socketplane/internal/config"
)

// New returns a logger that writes to w. A record is one Write, so w needs no lock of its own among users of the logger.
func New(w io.Writer, level slog.Level, format config.LogFormat) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
