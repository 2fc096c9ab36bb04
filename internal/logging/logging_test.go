package logging_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/logging"
)

func TestNew(t *testing.T) {
	tests := []struct {
		name   string
		format config.LogFormat
		ok     func(line string) bool
	}{
		{"text", config.LogText, func(l string) bool { return strings.Contains(l, `level=WARN msg="a b" key=1`) }},
		{"json", config.LogJSON, func(l string) bool { return json.Valid([]byte(l)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			log := logging.New(&out, slog.LevelWarn, tt.format)
			log.Info("below the level")
			log.Warn("a b", "key", 1)
			if got := out.String(); strings.Count(got, "\n") != 1 || !tt.ok(got) {
				t.Errorf("log is %q", got)
			}
		})
	}
}

// TestRecent: the last lines are kept, within bounds, whatever the writer does.
func TestRecent(t *testing.T) {
	log, recent := logging.Recording(failing{}, slog.LevelInfo, config.LogText)
	log.Info("first")
	if got := string(recent.Bytes()); !strings.Contains(got, "msg=first") {
		t.Errorf("kept %q", got)
	}
	long := strings.Repeat("x", 1000)
	for i := range 2000 {
		log.Info(long, "i", i)
	}
	log.Debug("below the level")
	log.Info("last")
	got := string(recent.Bytes())
	if len(got) > 512<<10 || len(got) < 500<<10 {
		t.Errorf("%d bytes are kept", len(got))
	}
	if strings.Contains(got, "msg=first") || !strings.HasPrefix(got, "time=") || !strings.HasSuffix(got, "msg=last\n") || strings.Contains(got, "below") {
		t.Errorf("kept %.100q … %q", got, got[len(got)-100:])
	}
	log.Info(strings.Repeat("y", 1<<20))
	if got := recent.Bytes(); len(got) > 512<<10 {
		t.Errorf("%d bytes are kept of a huge line", len(got))
	}
}

// failing is a standard error that was closed.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("closed") }
