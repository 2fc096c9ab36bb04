package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// run runs a program to its end; its output is in the error, too.
func run(ctx context.Context, argv ...string) (string, error) {
	return runInput(ctx, "", nil, argv...)
}

// runInput is run with a standard input and, when it is not nil, an environment. When the context ends, the
// program's children end with it: they are what nsenter wraps.
func runInput(ctx context.Context, input string, env []string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = env
	cmd.WaitDelay = 2 * time.Second
	cmd.Cancel = func() error {
		for _, pid := range children(cmd.Process.Pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return cmd.Process.Kill()
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		text := strings.TrimSpace(stderr.String())
		if text == "" {
			text = strings.TrimSpace(stdout.String())
		}
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, text)
	}
	return stdout.String(), nil
}

// ipBatch runs lines of `ip` in a network namespace.
func ipBatch(ctx context.Context, netns string, lines ...string) error {
	_, err := runInput(ctx, strings.Join(lines, "\n")+"\n", nil, "ip", "-n", netns, "-batch", "-")
	if err != nil {
		return fmt.Errorf("network of %s: %w", netns, err)
	}
	return nil
}

func children(pid int) []int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}
