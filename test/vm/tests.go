package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

// Main is for TestMain of packages whose tests run inside: there it runs them, and elsewhere it boots the VM with this test
// program and its flags, so that `go test` shows and counts the tests as if they had run here. prepare runs before the
// boot, for what takes too long inside, such as building; dir is a directory of this run that can be seen inside. It may
// be nil. Main does not return.
func Main(m *testing.M, o Options, prepare func(ctx context.Context, dir string, o *Options) error) {
	if Inside() {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := runTests(ctx, o, prepare)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
	}
	os.Exit(status)
}

func runTests(ctx context.Context, o Options, prepare func(context.Context, string, *Options) error) (int, error) {
	dir, err := runDir()
	if err != nil {
		return Failed, err
	}
	defer os.RemoveAll(dir)
	if prepare != nil {
		if err := prepare(ctx, dir, &o); err != nil {
			return Failed, err
		}
	}
	// `go test` builds programs below /tmp.
	program := filepath.Join(dir, "tests")
	if err := copyProgram(program); err != nil {
		return Failed, err
	}
	return Run(ctx, o, append([]string{program}, os.Args[1:]...)...)
}

func copyProgram(to string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	in, err := os.Open(self)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
