// Package vm runs one command on Debian's own kernel, which has what the machine's kernel may lack: Open vSwitch's datapath
// above all. The kernel boots in an emulated machine (qemu, no virtualisation needed) over this machine's file system,
// which it sees read-only with memory on top.
//
// Inside, /tmp, /var/tmp, /run and /var/lib/docker are empty; there is no network but the loopback. It needs root (to
// read all files) and test/tools/install.sh vm. The kernel is unpacked into the tool cache, never installed.
//
// It owns its directory in the tool cache and the emulator's process. It may import internal/testenv, and must know
// nothing of SocketPlane.
package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/vm/spec"
)

// Failed is the exit status when the VM itself did not work.
const Failed = 125

// InsideVar is set in the environment of what runs inside.
const InsideVar = "SOCKETPLANE_INSIDE_VM"

// Options of a run. The zero value of each field means its default.
type Options struct {
	// Memory in MiB, 3072 by default; files that are written inside count, too.
	Memory int
	// CPUs is the number of processors, 2 by default.
	CPUs int
	// Timeout ends the VM; 15 minutes by default.
	Timeout time.Duration
	// Out is a directory of this machine that the command can write to as /out; by default there is none.
	Out string
	// Env is added to the command's environment.
	Env []string
	// Stdout gets what the command writes to its standard output and error; by default os.Stdout.
	Stdout io.Writer
	// Log gets a line for each step; nil drops them.
	Log func(format string, args ...any)
}

func (o Options) complete() Options {
	if o.Memory == 0 {
		o.Memory = 3072
	}
	if o.CPUs == 0 {
		o.CPUs = 2
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Minute
	}
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	return o
}

// Run runs a command and returns its exit status; with an error that is Failed, and the error has the end of the
// VM's console. The command's working directory is the caller's, its environment what decides about tools and tests.
func Run(ctx context.Context, o Options, argv ...string) (int, error) {
	o = o.complete()
	if os.Geteuid() != 0 {
		return Failed, errors.New("needs root: the VM's file system is this machine's, read as who runs this")
	}
	k, err := findKernel(ctx, cacheDir())
	if err != nil {
		//lint:ignore ST1005 a name
		return Failed, fmt.Errorf("Debian's kernel: %w", err)
	}
	dir, err := runDir()
	if err != nil {
		return Failed, err
	}
	defer os.RemoveAll(dir)
	guest := filepath.Join(dir, "guest")
	if err := buildGuest(ctx, guest); err != nil {
		return Failed, err
	}
	s := spec.Spec{Argv: argv, ModuleTree: k.modules, Release: k.release, Out: o.Out != "", Env: append(environment(), o.Env...)}
	if s.Dir, err = os.Getwd(); err != nil {
		return Failed, err
	}
	if err := writeInitrd(filepath.Join(dir, "initrd"), guest, k, s); err != nil {
		return Failed, err
	}
	began := time.Now()
	status, err := boot(ctx, o, k, dir)
	o.Log("kernel %s ran for %.1f s", k.release, time.Since(began).Seconds())
	return status, err
}

// Inside says whether this program runs in the VM.
func Inside() bool { return os.Getenv(InsideVar) != "" }

func cacheDir() string { return filepath.Join(testenv.CacheDir(), "vm") }

// runDir makes a directory that can be seen inside, as /tmp can't.
func runDir() (string, error) {
	if err := os.MkdirAll(cacheDir(), 0o755); err != nil {
		return "", err
	}
	return os.MkdirTemp(cacheDir(), "run-")
}

// environment is the command's: what decides where tools, caches and tests' settings are, and nothing else of the caller's.
func environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8", "TERM=dumb", InsideVar + "=1"}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "SOCKETPLANE_") || strings.HasPrefix(v, "XDG_CACHE_HOME=") || strings.HasPrefix(v, "CI=") {
			env = append(env, v)
		}
	}
	return env
}

// buildGuest builds the first process from this checkout.
func buildGuest(ctx context.Context, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s", "-o", to, "github.com/socketplane/socketplane/test/vm/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest: %w: %s", err, text)
	}
	return nil
}

// output runs a program in a directory and returns what it printed.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	text, err := cmd.Output()
	if err != nil {
		var why string
		if e := (&exec.ExitError{}); errors.As(err, &e) {
			why = string(e.Stderr)
		}
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, why)
	}
	return string(text), nil
}
