package consulproc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// running is a process that lives now: a child, or what an earlier agent has left.
type running struct {
	pid    int
	fd     int // a pidfd: it never means another process
	config string
	ended  chan struct{}
}

// look finds the processes that run with a configuration in dir. Their arguments tell; the directory is compared as they
// see it, because hosts that share a process table (containers, tests) may have directories of the same name.
func look(dir string) ([]*running, error) {
	here, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for Consul: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for Consul: %w: mount /proc", err)
	}
	// Every one of found is to be closed.
	var found []*running
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		config := configOf(pid, dir)
		if config == "" {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has just ended
		}
		there, err := os.Stat(filepath.Join("/proc", e.Name(), "root", dir))
		if err != nil || !os.SameFile(here, there) || configOf(pid, dir) != config {
			unix.Close(fd)
			continue
		}
		found = append(found, &running{pid: pid, fd: fd, config: config, ended: make(chan struct{})})
	}
	return found, nil
}

// configOf returns the configuration below dir with which a process runs; "" if it is none of Consul's.
func configOf(pid int, dir string) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	for arg := range strings.SplitSeq(string(text), "\x00") {
		path, ok := strings.CutPrefix(arg, configFlag)
		if !ok || filepath.Dir(path) != dir {
			continue
		}
		if match, err := filepath.Match(configPattern, filepath.Base(path)); err == nil && match {
			return path
		}
	}
	return ""
}

// pollEvery bounds how long watch outlives its context.
const pollEvery = 2000 // ms

// watch closes ended when a process that is no child has ended, or gives up with ctx. It has a descriptor of its own, as it may go on for a while
// after close: the number of a closed one may be another file's by then.
func (r *running) watch(ctx context.Context) error {
	fd, err := unix.FcntlInt(uintptr(r.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("watch Consul (pid %d): %w", r.pid, err)
	}
	go func() {
		defer unix.Close(fd)
		for ctx.Err() == nil {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, pollEvery)
			if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
				close(r.ended)
				return
			}
		}
	}()
	return nil
}

// close lets go of the process, which runs on if it has not ended.
func (r *running) close() { unix.Close(r.fd) }

func (r *running) alive() bool {
	select {
	case <-r.ended:
		return false
	default:
		return true
	}
}

func (r *running) signal(sig unix.Signal) error {
	if err := unix.PidfdSendSignal(r.fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal to Consul (pid %d): %w", r.pid, err)
	}
	return nil
}

// stop ends the process: with SIGTERM, which takes it 40 ms, and in the end without asking.
func (r *running) stop(patience time.Duration) error {
	return r.end(patience, unix.SIGTERM, unix.SIGKILL)
}

// end sends one signal after the other until the process has ended.
func (r *running) end(patience time.Duration, signals ...unix.Signal) error {
	for _, sig := range signals {
		if err := r.signal(sig); err != nil {
			return err
		}
		timer := time.NewTimer(patience)
		select {
		case <-r.ended:
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
	return fmt.Errorf("consul (pid %d) does not end", r.pid)
}
