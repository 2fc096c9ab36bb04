package ownovs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// daemon is a running program whose output goes to our standard error, and so to Docker's log.
type daemon struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed at its end; err is set then
	err   error
}

var errEnded = errors.New("it ended by itself")

func start(argv ...string) (*daemon, error) {
	d := &daemon{name: argv[0], cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = os.Stderr, os.Stderr
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The kernel sends the death signal when the starting thread ends, not the program: keep that thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := d.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		if d.err = d.cmd.Wait(); d.err == nil {
			d.err = errEnded
		}
		close(d.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", d.name, err)
	}
	return d, nil
}

// await waits until the daemon serves its socket.
func (d *daemon) await(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		conn, err := net.DialTimeout("unix", socket, probeTimeout)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-d.ended:
			return fmt.Errorf("%s: %w", d.name, d.err)
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve %s: %w", d.name, socket, err)
		case <-ticker.C:
		}
	}
}

// stop ends the daemon and waits for its end.
func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // It may have ended by itself.
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-d.ended:
	case <-timer.C:
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
}

// output runs a program to its end; what it says on its standard error is in the error.
func output(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", argv[0], err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
