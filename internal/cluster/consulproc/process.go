package consulproc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/internal/retry"
)

// Options of New; all fields must be set.
type Options struct {
	Binary string
	// Dir is the process's own directory; it is made.
	Dir    string
	Logger *slog.Logger
}

// Times of the process.
const (
	stopPatience = 5 * time.Second
	leastPause   = 500 * time.Millisecond
	mostPause    = 15 * time.Second
	// steady is how long a process must have run for the next pause to be the least again.
	steady = 30 * time.Second
)

const configFlag = "-config-file="

// Process keeps a Consul process as it is wanted. Its methods may be called from any goroutine.
type Process struct {
	opts Options
	wake chan struct{}

	mu     sync.Mutex
	want   *Spec // nil: none
	set    bool  // want was said
	again  bool  // the process is to be started anew in any case
	status Status
}

// Status is how the process does.
type Status struct {
	Running bool
	Pid     int
	// Config identifies what it runs with; it changes when the process is started with other settings.
	Config string
	// Agrees says that it is as the last Set wanted it.
	Agrees bool
	// Starts counts the starts by this program.
	Starts int
	// Err is why it does not run, nil if it does.
	Err error
}

// New describes a process; Run keeps it.
func New(opts Options) *Process {
	return &Process{opts: opts, wake: make(chan struct{}, 1)}
}

// Set says how the process is wanted; nil means not at all. Run sees to it.
func (p *Process) Set(want *Spec) {
	p.say(func() { p.want, p.set = want, true })
}

// Restart lets the process begin anew: with gossip keys and addresses to join that it reads at its start only.
func (p *Process) Restart() {
	p.say(func() { p.again = true })
}

func (p *Process) say(change func()) {
	p.mu.Lock()
	change()
	p.status.Agrees = false
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Status tells how the process does.
func (p *Process) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// wish is what was said of the process.
type wish struct {
	want  *Spec
	set   bool
	again bool
}

func (p *Process) wished() wish {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := wish{p.want, p.set, p.again}
	p.again = false
	return w
}

func (p *Process) note(change func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.status)
}

// Run keeps the process as wanted until ctx ends. The process then runs on.
func (p *Process) Run(ctx context.Context) error {
	logs := newTail(filepath.Join(p.opts.Dir, logFile), p.opts.Logger)
	logDone := make(chan struct{})
	go func() {
		defer close(logDone)
		logs.run(ctx)
	}()
	defer func() { <-logDone }()

	k := keeper{
		p: p, pause: leastPause, failing: retry.Pause{First: leastPause, Last: mostPause},
		trouble: retry.Trouble{Logger: p.opts.Logger, Level: slog.LevelError, Text: "Consul does not run as wanted", Over: "Consul runs as wanted again"},
		ends:    retry.Trouble{Logger: p.opts.Logger, Level: slog.LevelWarn, Text: "Consul ended by itself and is started again"},
	}
	defer k.letGo()
	for ctx.Err() == nil {
		ended, again := k.pass(ctx)
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-ended:
		case <-again:
		}
	}
	return nil
}

// keeper is Run's memory: the process that is there, and the pause before the next start.
type keeper struct {
	p     *Process
	now   *running
	since time.Time
	pause time.Duration
	next  time.Time
	// failing is the pause after what could not even be tried, as on a full disk; trouble logs it.
	failing retry.Pause
	trouble retry.Trouble
	// ends logs unexpected exits of Consul.
	ends retry.Trouble
	// reload says that the process may not know the files that lie there.
	reload bool
}

// pass makes the process agree with what is wanted. It returns what to wait for.
func (k *keeper) pass(ctx context.Context) (ended <-chan struct{}, again <-chan time.Time) {
	w := k.p.wished()
	if !w.set {
		return nil, nil
	}
	want := w.want
	err := k.agree(ctx, w)
	if k.now != nil {
		ended = k.now.ended
	}
	k.trouble.Note(err)
	switch {
	case err != nil:
		again = time.After(max(time.Until(k.next), k.failing.Next(0)))
	case k.now == nil && want != nil:
		again = time.After(max(time.Until(k.next), leastPause))
	default:
		k.failing.Reset()
	}
	k.p.note(func(st *Status) {
		if err != nil || k.now != nil {
			st.Err = err
		}
		st.Running, st.Pid, st.Config = k.now != nil, 0, ""
		if k.now != nil {
			st.Pid, st.Config = k.now.pid, filepath.Base(k.now.config)
		}
		// Set may have been called meanwhile.
		st.Agrees = err == nil && k.p.want == want && (k.now != nil) == (want != nil)
	})
	return ended, again
}

func (k *keeper) agree(ctx context.Context, w wish) error {
	p, want := k.p, w.want
	if k.now != nil && !k.now.alive() {
		k.buried(want == nil)
	}
	if k.now == nil {
		if err := k.adopt(ctx); err != nil {
			return err
		}
	}
	if want == nil {
		return k.stop()
	}
	_, hash, err := want.render(p.opts.Dir)
	if err != nil {
		return err
	}
	if k.now != nil && !w.again && filepath.Base(k.now.config) == configName(hash) {
		return k.refresh(want)
	}
	if k.now != nil {
		if err := k.stop(); err != nil {
			return err
		}
	} else if time.Now().Before(k.next) {
		return nil
	}
	return k.start(ctx, want)
}

// refresh makes a process that runs as wanted take up what it can without a restart.
func (k *keeper) refresh(want *Spec) error {
	changed, err := k.p.writeKeys(want)
	k.reload = k.reload || changed
	if err == nil {
		// Tokens are in the configuration. With its name unchanged, nothing is that needs a restart.
		var text []byte
		if text, _, err = want.render(k.p.opts.Dir); err == nil {
			changed, err = writeFile(k.now.config, text)
			k.reload = k.reload || changed
		}
	}
	if err != nil || !k.reload {
		return err
	}
	if err := k.now.signal(unix.SIGHUP); err != nil {
		return err
	}
	k.reload = false
	k.p.opts.Logger.Debug("Consul rereads its certificates and tokens")
	return nil
}

// buried notes the end of a process, which mostly nobody had asked to end.
func (k *keeper) buried(wanted bool) {
	k.now.close()
	pid := k.now.pid
	k.now = nil
	if wanted {
		return
	}
	if time.Since(k.since) > steady {
		k.pause = leastPause
		k.ends.Note(nil)
	}
	k.next = time.Now().Add(k.pause)
	err := errors.New("consul ended by itself: see its lines in the log")
	k.ends.Note(err, "pid", pid, "pause", k.pause)
	k.p.note(func(st *Status) { st.Err = err })
	k.pause = min(2*k.pause, mostPause)
}

// Kill ends what runs with a configuration in dir, whoever has started it.
func Kill(dir string) error { return end(dir, unix.SIGTERM, unix.SIGKILL) }

// KillAtOnce is Kill without waiting for an end in good order, which takes seconds after the process's address has gone.
func KillAtOnce(dir string) error { return end(dir, unix.SIGKILL) }

func end(dir string, signals ...unix.Signal) error {
	found, err := look(dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, r := range found {
		watchErr := r.watch(ctx)
		if watchErr == nil {
			watchErr = r.end(stopPatience, signals...)
		}
		err = errors.Join(err, watchErr)
		r.close()
	}
	return err
}

// adopt takes over what an earlier agent has left. There should be one at most; more are ended.
func (k *keeper) adopt(ctx context.Context) error {
	found, err := look(k.p.opts.Dir)
	if err != nil {
		return err
	}
	for _, r := range found {
		if watchErr := r.watch(ctx); watchErr != nil {
			err = errors.Join(err, watchErr)
			r.close()
			continue
		}
		if k.now == nil {
			k.now, k.since, k.reload = r, time.Now(), true
			k.p.opts.Logger.Info("Consul runs already", "pid", r.pid)
			continue
		}
		err = errors.Join(err, r.stop(stopPatience))
		r.close()
	}
	return err
}

func (k *keeper) stop() error {
	if k.now == nil {
		return nil
	}
	k.p.opts.Logger.Info("Consul is stopped", "pid", k.now.pid)
	if err := k.now.stop(stopPatience); err != nil {
		return err
	}
	k.now.close()
	k.now = nil
	return nil
}

func (k *keeper) start(ctx context.Context, want *Spec) error {
	p := k.p
	config, err := p.prepare(want)
	if err != nil {
		return err
	}
	// Not a pipe to this program: with that gone, the process would die of its next line.
	crashpoint.Hit("files of Consul: open the log")
	out, err := os.OpenFile(filepath.Join(p.opts.Dir, logFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of Consul: %w", err)
	}
	defer out.Close()
	argv := []string{"agent", configFlag + config}
	if want.Server && want.Bootstrap {
		argv = append(argv, "-bootstrap-expect=1")
	}
	cmd := exec.Command(p.opts.Binary, argv...) // not CommandContext: it outlives this program
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Env = out, out, p.opts.Dir, environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		k.next = time.Now().Add(mostPause)
		return fmt.Errorf("start Consul: %w", err)
	}
	r := &running{pid: cmd.Process.Pid, config: config, ended: make(chan struct{})}
	if r.fd, err = unix.PidfdOpen(r.pid, 0); err != nil {
		err = errors.Join(fmt.Errorf("start Consul: %w: Linux 5.3 is needed", err), cmd.Process.Kill(), cmd.Wait())
		return err
	}
	go func() {
		_ = cmd.Wait() // that it ended is all that matters; the log says why
		close(r.ended)
	}()
	k.now, k.since, k.reload = r, time.Now(), false
	p.note(func(st *Status) { st.Starts++ })
	level := slog.LevelInfo
	if k.pause > leastPause { // it ends again and again
		level = slog.LevelDebug
	}
	p.opts.Logger.Log(ctx, level, "Consul is started", "pid", r.pid, "server", want.Server, "program", p.opts.Binary)
	return ctx.Err()
}

// environment is what the process needs of ours. Variables of Consul's own must not change what the configuration says.
func environment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// letGo lets the process run on.
func (k *keeper) letGo() {
	if k.now != nil {
		k.now.close()
	}
}
