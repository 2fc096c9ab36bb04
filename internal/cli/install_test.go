package cli_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/cli"
	"github.com/socketplane/socketplane/internal/config"
)

// TestCleanAsks: whoever does not agree has lost nothing. That clean does its work is shown on hosts of their own (test/packages).
func TestCleanAsks(t *testing.T) {
	tests := []struct{ name, answer, want string }{
		{"no", "no\n", "socketplane: nothing was done\n"},
		{"nothing said", "\n", "socketplane: nothing was done\n"},
		{"nobody there", "", "socketplane: nothing was done: there is nobody to ask; --yes answers in advance\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			removed := false
			code := cli.Run(t.Context(), cli.Deps{
				Stdout: &stdout, Stderr: &stderr, Stdin: strings.NewReader(tt.answer),
				Env: func(name string) (string, bool) { return "/tmp/state", name == "SOCKETPLANE_STATE_DIR" },
				Clean: func(_ context.Context, cfg config.Config, confirm func([]string) error) error {
					err := confirm([]string{"the state in " + cfg.StateDir})
					removed = err == nil
					return err
				},
			}, []string{"clean"})
			if code != cli.ExitFailed || removed || stderr.String() != tt.want {
				t.Errorf("exit code %d, removed %t, stderr %q", code, removed, stderr.String())
			}
			if want := "This is going to be removed:\n  - the state in /tmp/state\nGo on? [y/N] \n"; stdout.String() != want {
				t.Errorf("stdout %q, want %q", stdout.String(), want)
			}
		})
	}
}

// TestCleanRefused: what the agent's package says is told as it is.
func TestCleanRefused(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := cli.Run(t.Context(), cli.Deps{
		Stdout: &stdout, Stderr: &stderr, Env: func(string) (string, bool) { return "", false },
		Clean: func(context.Context, config.Config, func([]string) error) error { return errors.New("the agent runs") },
	}, []string{"clean", "--yes"})
	if code != cli.ExitFailed || stderr.String() != "socketplane: the agent runs\n" {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
}
