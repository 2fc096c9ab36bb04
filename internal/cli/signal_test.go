package cli_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cli"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/version"
)

// childMode, when set, makes the test binary an agent that either drains at once or hangs while it drains.
const childMode = "SOCKETPLANE_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		os.Exit(child(mode))
	}
	os.Exit(m.Run())
}

func child(mode string) int {
	return cli.Run(context.Background(), cli.Deps{
		Stdout: os.Stdout, Stderr: os.Stderr, Version: version.Get(),
		Env: func(string) (string, bool) { return "", false },
		RunAgent: func(ctx context.Context, _ config.Config) error {
			fmt.Println("up")
			<-ctx.Done()
			fmt.Println("draining")
			if mode == "hang" {
				select {}
			}
			return nil
		},
	}, []string{"agent", "--name=a"})
}

func TestSignals(t *testing.T) {
	tests := []struct {
		name, mode string
		sig        syscall.Signal
		second     bool
		want       string // of exec.Cmd's ProcessState
	}{
		{"TERM drains", "drain", syscall.SIGTERM, false, "exit status 0"},
		{"INT drains", "drain", syscall.SIGINT, false, "exit status 0"},
		{"second TERM kills", "hang", syscall.SIGTERM, true, "signal: terminated"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), childMode+"="+tt.mode)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var line string
			expect := func(want string) {
				t.Helper()
				if _, err := fmt.Fscanln(out, &line); err != nil || line != want {
					t.Fatalf("child says %q (%v), want %q", line, err, want)
				}
			}
			expect("up")
			if err := cmd.Process.Signal(tt.sig); err != nil {
				t.Fatal(err)
			}
			expect("draining")
			done := make(chan struct{})
			go func() { defer close(done); _ = cmd.Wait() }() // its verdict is in ProcessState
			if tt.second {
				repeat(cmd.Process, tt.sig, done)
			}
			<-done
			if got := cmd.ProcessState.String(); got != tt.want {
				t.Errorf("child ended with %s, want %s", got, tt.want)
			}
		})
	}
}

// repeat sends the second signal until the child is gone: one that comes before the child has restored the signal's default is
// the first one's.
func repeat(p *os.Process, sig syscall.Signal, done <-chan struct{}) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		_ = p.Signal(sig) // it fails once the child is gone, which done tells
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}
