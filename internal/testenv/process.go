package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a daemon of a test: its output goes to a log file, it can be ended and started again, and it dies
// with the test program. Its methods may be called from any goroutine.
type Process struct {
	// Detached lets the process outlive this program.
	Detached bool
	// Env replaces the environment, when it is not nil.
	Env []string
	// Forks says that the program is a wrapper (nsenter into a PID namespace) around one child which is the
	// daemon: signals and Pid mean that child.
	Forks bool

	log  string
	argv []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// NewProcess describes a process; Start starts it. Its output is appended to the file log.
func NewProcess(log string, argv ...string) *Process {
	return &Process{log: log, argv: argv}
}

// Start starts the process, unless it runs.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.runningLocked() {
		return nil
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("log of %s: %w", p.argv[0], err)
	}
	defer out.Close()
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, p.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // A terminal's ^C and hangup are not for it.
	if !p.Detached {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	done, started := make(chan struct{}), make(chan error)
	go func() {
		// The kernel sends the death signal when the starting thread ends, not the program: keep that thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // The exit status of a daemon that a test ends says nothing.
			close(done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.argv[0], err)
	}
	p.cmd, p.done = cmd, done
	return nil
}

// Pid is the process id, 0 when it does not run.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.runningLocked() {
		return 0
	}
	return p.targetLocked()
}

// Running says whether the process was started and has not ended.
func (p *Process) Running() bool { return p.Pid() != 0 }

// Signal sends a signal to a running process; nothing happens to one that has ended.
func (p *Process) Signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.runningLocked() {
		return
	}
	_ = syscall.Kill(p.targetLocked(), sig) // It may end by itself in this moment.
	if p.Forks && sig != syscall.SIGSTOP {
		// nsenter stops itself when its child is stopped, and would not see the child's end.
		_ = syscall.Kill(p.cmd.Process.Pid, syscall.SIGCONT)
	}
}

// targetLocked is the daemon's process id: until a wrapper has its child, the wrapper itself.
func (p *Process) targetLocked() int {
	pid := p.cmd.Process.Pid
	if !p.Forks {
		return pid
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return pid
	}
	if child, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		return child
	}
	return pid
}

// Stop sends SIGTERM, waits, and kills what is still there after the patience. It reports whether SIGTERM was enough.
func (p *Process) Stop(patience time.Duration) bool {
	p.Signal(syscall.SIGTERM)
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return true
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		p.Kill()
		return false
	}
}

// Kill ends the process with SIGKILL and waits for its end.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done != nil {
		<-done
	}
}

// Log is the path of the log file.
func (p *Process) Log() string { return p.log }

// Tail gives the last lines of the log.
func (p *Process) Tail(lines int) string { return TailFile(p.log, lines) }

// TailFile gives the last lines of a file, or says why it can't.
func TailFile(path string, lines int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (p *Process) runningLocked() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}
