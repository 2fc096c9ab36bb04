// VM runs one command on Debian's own kernel, which has what the machine's kernel may lack: Open vSwitch's datapath above
// all. The kernel boots in an emulated machine (qemu, no virtualisation needed) over this machine's file system, which it
// sees read-only with memory on top. The command's output and exit status are this program's.
//
//	go run ./test/vm [flags] COMMAND [ARG…]
//
// Inside, /tmp, /var/tmp, /run and /var/lib/docker are empty; there is no network but the loopback. Needs root (to read
// all files) and test/tools/install.sh vm. The kernel is unpacked into the tool cache, never installed.
//
// It owns its directory in the tool cache and the emulator's process; it must know nothing of SocketPlane.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/vm/spec"
)

// failed is the exit status when the VM itself did not work.
const failed = 125

// options are the flags.
type options struct {
	memory, cpus int
	timeout      time.Duration
	out          string
	verbose      bool
}

func main() {
	var o options
	flag.IntVar(&o.memory, "memory", 3072, "memory of the VM in MiB; files written inside count, too")
	flag.IntVar(&o.cpus, "cpus", 2, "processors of the VM")
	flag.DurationVar(&o.timeout, "timeout", 15*time.Minute, "the VM is ended after this time")
	flag.StringVar(&o.out, "out", "", "directory of this machine that the command can write to as "+spec.OutDir)
	flag.BoolVar(&o.verbose, "v", false, "say how long the steps took")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: vm [flags] COMMAND [ARG…]")
		flag.PrintDefaults()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := run(ctx, o, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
	}
	os.Exit(status)
}

func run(ctx context.Context, o options, argv []string) (int, error) {
	if os.Geteuid() != 0 {
		return failed, errors.New("needs root: the VM's file system is this machine's, read as who runs this")
	}
	cache := filepath.Join(testenv.CacheDir(), "vm")
	k, err := findKernel(ctx, cache)
	if err != nil {
		return failed, fmt.Errorf("Debian's kernel: %w", err)
	}
	guest := filepath.Join(cache, "guest")
	if err := buildGuest(ctx, guest); err != nil {
		return failed, err
	}
	dir, err := os.MkdirTemp(cache, "run-")
	if err != nil {
		return failed, err
	}
	s := spec.Spec{Argv: argv, ModuleTree: k.modules, Release: k.release, Out: o.out != "", Env: environment()}
	if s.Dir, err = os.Getwd(); err != nil {
		return failed, err
	}
	if err := writeInitrd(filepath.Join(dir, "initrd"), guest, k, s); err != nil {
		return failed, err
	}
	began := time.Now()
	status, err := boot(ctx, o, k, dir)
	if o.verbose {
		fmt.Fprintf(os.Stderr, "vm: %s took %.1f s\n", k.release, time.Since(began).Seconds())
	}
	return status, errors.Join(err, os.RemoveAll(dir))
}

// environment is the command's: what decides where tools, caches and tests' settings are, and nothing else of the caller's.
func environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8", "TERM=dumb"}
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
