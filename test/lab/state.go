package lab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// state is what is written about a lab, so that any program can use, close or sweep it.
type state struct {
	Name     string
	Dir      string
	Detached bool
	Owner    process
	Engine   Engine
	Tunnel   Tunnel
	Agent    string
	Hosts    []hostState
	Consuls  []process
	Cluster  bool
}

type hostState struct {
	Name string
	Init process
}

// process is a process id that can't be mistaken for a later process with the same number.
type process struct {
	Pid int
	// Start is the time since boot at which it started, in clock ticks (proc(5), stat, field 22).
	Start string
}

func newSuffix() string {
	b := make([]byte, 2)
	_, _ = rand.Read(b) // It never fails (crypto/rand).
	return fmt.Sprintf("%x", b)[:2]
}

func identify(pid int) process { return process{Pid: pid, Start: startTime(pid)} }

func (p process) alive() bool {
	return p.Pid > 0 && p.Start != "" && startTime(p.Pid) == p.Start
}

// age is how long ago the process started, to a hundredth of a second.
func (p process) age() time.Duration {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0
	}
	var up, started float64
	_, _ = fmt.Sscan(string(text), &up)
	_, _ = fmt.Sscan(p.Start, &started)
	const ticks = 100 // a second, in what Linux tells (USER_HZ)
	return time.Duration((up - started/ticks) * float64(time.Second))
}

// kill ends the process and waits for its end.
func (p process) kill(ctx context.Context) error {
	if !p.alive() {
		return nil
	}
	if err := syscall.Kill(p.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process %d: %w", p.Pid, err)
	}
	return testenv.Poll(ctx, 10*time.Millisecond, func() bool { return !p.alive() })
}

// startTime is "" for a process that does not exist or is dead and waits for its parent.
func startTime(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is the program's name in brackets, which may hold anything.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

func statePath(dir string) string { return filepath.Join(dir, "lab.json") }

func (s state) save() error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("state of lab %s: %w", s.Name, err)
	}
	if err := os.WriteFile(statePath(s.Dir), text, 0o600); err != nil {
		return fmt.Errorf("state of lab %s: %w", s.Name, err)
	}
	return nil
}

// load reads a lab's state; the error wraps fs.ErrNotExist where there is no lab.
func load(dir string) (state, error) {
	var s state
	text, err := os.ReadFile(statePath(dir))
	if err != nil {
		return s, fmt.Errorf("no lab in %s: %w", dir, err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("state of the lab in %s: %w", dir, err)
	}
	return s, nil
}

// sweep removes the labs whose program died without closing them.
func sweep(ctx context.Context, log func(string, ...any)) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for crashed labs: %w", err)
	}
	for _, e := range entries {
		s, err := load(filepath.Join(root, e.Name()))
		if err != nil || s.Detached || s.Owner.alive() {
			continue
		}
		log("removing what the crashed lab %s left", s.Name)
		if err := s.remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// remove ends and deletes everything of a lab; what is gone already is no error.
func (s state) remove(ctx context.Context) error {
	var errs []error
	for _, h := range s.Hosts {
		// The first process takes the host's whole PID namespace with it, and the last process its mounts.
		errs = append(errs, h.Init.kill(ctx))
	}
	for _, c := range s.Consuls {
		errs = append(errs, c.kill(ctx))
	}
	errs = append(errs, removeNetns(ctx, s.Name), removeCgroups(ctx, s.Name))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close lab %s: %w", s.Name, err)
	}
	if err := os.RemoveAll(s.Dir); err != nil {
		return fmt.Errorf("close lab %s: %w", s.Name, err)
	}
	return nil
}

func removeNetns(ctx context.Context, name string) error {
	entries, err := os.ReadDir("/run/netns")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), name+"-") {
			_, err := run(ctx, "ip", "netns", "delete", e.Name())
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// cgroupParent is below the root of each hierarchy; the hosts' containers are below it.
func cgroupParent(name string) string { return "/socketplane-lab-" + name }

// removeCgroups removes the empty groups that killed containers leave. The kernel needs a moment after the last
// process of a group.
func removeCgroups(ctx context.Context, name string) error {
	var last error
	err := testenv.Poll(ctx, 20*time.Millisecond, func() bool {
		last = nil
		parents, err := filepath.Glob("/sys/fs/cgroup/*" + cgroupParent(name))
		if err != nil {
			last = err
			return true
		}
		for _, parent := range append(parents, "/sys/fs/cgroup"+cgroupParent(name)) {
			last = errors.Join(last, removeTree(parent))
		}
		return last == nil
	})
	return errors.Join(err, last)
}

// removeTree removes directories only, as cgroups are: their files can't be.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return syscall.Rmdir(dir)
}
