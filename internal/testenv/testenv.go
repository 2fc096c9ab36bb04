// Package testenv owns what tests need from the machine: root, programs, the cache of built tools and a
// real Consul server. It decides whether a missing prerequisite skips a test (a developer's machine) or
// fails it (CI), so that nothing is skipped silently.
//
// It may import the standard library only, and must know nothing of the packages under test.
package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// ErrNoTool is returned for a program that is not in the tool cache.
var ErrNoTool = errors.New("not in the tool cache")

// Strict says whether a missing prerequisite fails a test: so it is where CI or SOCKETPLANE_TEST_STRICT is set.
func Strict() bool {
	return os.Getenv("CI") != "" || os.Getenv("SOCKETPLANE_TEST_STRICT") != ""
}

// Real skips a test with -short, as `make unit` does: it is for what needs root or other programs, and takes its time. `make test`,
// which CI runs, leaves nothing out.
func Real(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("real parts are left out with -short")
	}
}

// Root demands that the test runs as root.
func Root(t testing.TB) {
	t.Helper()
	Real(t)
	if os.Geteuid() != 0 {
		Missing(t, "needs root: run it as root, or use `make unit` for the tests that do without")
	}
}

// Need demands that all the programs can be run by name. Those of the tool cache come first on the test's
// PATH, so the test can't be parallel to others (testing.T.Setenv).
func Need(t testing.TB, programs ...string) {
	t.Helper()
	Real(t)
	t.Setenv("PATH", BinDir()+string(os.PathListSeparator)+os.Getenv("PATH"))
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			Missing(t, fmt.Sprintf("needs the program %s: run test/tools/install.sh", name))
		}
	}
}

// CacheDir is where built tools are kept: $SOCKETPLANE_CACHE, else $XDG_CACHE_HOME/socketplane, else
// ~/.cache/socketplane. test/tools/install.sh follows the same rule.
func CacheDir() string {
	if dir := os.Getenv("SOCKETPLANE_CACHE"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "socketplane")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/root"
	}
	return filepath.Join(home, ".cache", "socketplane")
}

// BinDir holds the tools that may come first on anybody's PATH.
func BinDir() string { return filepath.Join(CacheDir(), "bin") }

// EngineDir holds the current Docker Engine: dockerd, containerd, its shim and runc. Only that dockerd has it
// on its PATH, as Debian's engine does not run with the newer parts.
func EngineDir() string { return filepath.Join(CacheDir(), "engine", "bin") }

// Tool finds a program that test/tools/install.sh made, such as consul or a current dockerd.
// The error wraps ErrNoTool.
func Tool(name string) (string, error) {
	for _, dir := range []string{BinDir(), EngineDir()} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w %s: run test/tools/install.sh", name, ErrNoTool, CacheDir())
}

// Missing skips a test for what this machine lacks, or fails it where nothing may be skipped.
func Missing(t testing.TB, why string) {
	t.Helper()
	if Strict() {
		t.Fatalf("%s (this fails instead of skipping, as CI or SOCKETPLANE_TEST_STRICT is set)", why)
	}
	t.Skip(why)
}
