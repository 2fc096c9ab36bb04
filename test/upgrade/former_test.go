package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// former is the commit of the release before this one, whose clusters are upgraded: the last one that knows the first layout of the cluster's
// records only (docs/design/0020-layout.md).
const former = "8bf7cee3bb4b1e377e4ccddae8111dceb38e685d"

// formerVersion is how the former release's program calls itself.
const formerVersion = "v0.0.0-former"

// formerAgent builds the former release's program into the tool cache, unless it is there. The sources come from this clone's history; they are
// fetched where it does not reach back that far. There is no doing without: a test that is skipped would show nothing.
func formerAgent(ctx context.Context, t *testing.T) string {
	t.Helper()
	testenv.Need(t, "git", "go", "tar")
	dir := filepath.Join(testenv.CacheDir(), "lab", "former-"+former)
	binary := filepath.Join(dir, "socketplane")
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := formerSources(ctx); err != nil {
		t.Fatal(err)
	}
	sources := t.TempDir()
	archive := filepath.Join(sources, "former.tar")
	if err := errors.Join(git(ctx, "archive", "--output", archive, former), program(ctx, sources, "tar", "-xf", archive)); err != nil {
		t.Fatal(err)
	}
	// It may be built by another test run at the same time: a program is put in its place at once.
	built := filepath.Join(dir, fmt.Sprintf("socketplane.%d", os.Getpid()))
	if err := program(ctx, sources, "go", "build", "-trimpath", "-ldflags", "-X github.com/socketplane/socketplane/internal/version.version="+formerVersion,
		"-o", built, "./cmd/socketplane"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(built, binary); err != nil {
		t.Fatal(err)
	}
	return binary
}

// formerSources sees to it that the commit is in this clone.
func formerSources(ctx context.Context) error {
	has := func() error { return git(ctx, "cat-file", "-e", former+"^{commit}") }
	missing := has()
	if missing == nil {
		return nil
	}
	// A shallow clone, such as some CI systems make.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	fetched := git(ctx, "fetch", "--quiet", "--unshallow")
	if has() == nil {
		return nil
	}
	return fmt.Errorf("this clone lacks commit %s, whose agent this test upgrades: run 'git fetch --unshallow' or test in a full clone: %w",
		former, errors.Join(missing, fetched))
}

// git runs git in the checkout, whoever owns its files.
func git(ctx context.Context, args ...string) error {
	return program(ctx, filepath.Join("..", ".."), append([]string{"git", "-c", "safe.directory=*"}, args...)...)
}

func program(ctx context.Context, dir string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off", "GIT_TERMINAL_PROMPT=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}
