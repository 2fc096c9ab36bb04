package logging_test

import (
	"encoding/json"
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
