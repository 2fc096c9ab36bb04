package testenv_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(clockEnv) != "" {
		tellTime()
		return
	}
	os.Exit(m.Run())
}

// clockEnv makes the test's program tell the time, once a line on its standard input arrives.
const clockEnv = "SOCKETPLANE_TESTENV_CLOCK"

func tellTime() {
	var line string
	for {
		if _, err := fmt.Scanln(&line); err != nil {
			return
		}
		fmt.Println(time.Now().Unix())
	}
}

// TestClockIsSet: the fault is one.
func TestClockIsSet(t *testing.T) {
	testenv.Root(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), clockEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	for _, offset := range []time.Duration{0, time.Hour, -time.Hour, 0} {
		if err := testenv.SetClock(ctx, cmd.Process.Pid, offset); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(in, "now"); err != nil {
			t.Fatal(err)
		}
		var told int64
		if _, err := fmt.Fscan(out, &told); err != nil {
			t.Fatal(err)
		}
		if off := time.Until(time.Unix(told, 0)) - offset; off.Abs() > 5*time.Second {
			t.Errorf("with an offset of %v the process is %v off", offset, off)
		}
	}
}
