package consulproc

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
)

// TestTailSaysOnce: what Consul says each second for an hour is logged a few times, with how often it was said; other messages are not held back.
func TestTailSaysOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "consul.log")
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tail := newTail(path, slog.New(slog.NewTextHandler(&out, nil)))
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for i := range 3600 {
			fmt.Fprintf(f, `{"@level":"error","@message":"failed to make requestVote RPC","@module":"agent.server.raft","error":"dial tcp 10.0.0.2:%d: refused"}`+"\n", i)
			fmt.Fprintf(f, "==> Error: the port is in use\n")
			if i == 1800 {
				fmt.Fprintln(f, `{"@level":"error","@message":"another one","@module":"agent.server.raft"}`)
			}
			tail.read(t.Context())
			retry.Sleep(t.Context(), time.Second)
		}
		text := out.String()
		for part, most := range map[string]int{"requestVote": 6, "Error: the port": 6, "another one": 1} {
			if n := strings.Count(text, part); n < 1 || n > most {
				t.Errorf("%q is logged %d times", part, n)
			}
		}
		if !strings.Contains(text, "times=600") {
			t.Errorf("it does not say how often:\n%s", text)
		}
		for i := range 10 * maxSaid {
			tail.once(t.Context(), slog.LevelInfo, "m", fmt.Sprint(i), nil)
		}
		if len(tail.said) > maxSaid {
			t.Errorf("%d messages are remembered", len(tail.said))
		}
	})
}
