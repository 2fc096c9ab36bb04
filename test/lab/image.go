package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/socketplane/socketplane/internal/testenv"
)

// imagePrograms are put into the image with their libraries; those marked optional only where the machine has them.
var imagePrograms = []struct {
	name     string
	optional bool
}{
	{"busybox", false}, {"ip", false}, {"ping", false}, {"iperf3", false}, {"tcpdump", true}, {"arping", true}, {"socat", true},
}

// Image makes the test image's root file system, once, and returns the path of its tar file. It has busybox, the
// real ping, ip, iperf3 and labprobe.
func Image(ctx context.Context, probe string) (string, error) {
	programs := map[string]string{"labprobe": probe}
	for _, p := range imagePrograms {
		path, err := exec.LookPath(p.name)
		switch {
		case err == nil:
			programs[p.name] = path
		case !p.optional:
			return "", fmt.Errorf("the test image needs %s: run test/tools/install.sh docker: %w", p.name, err)
		}
	}
	stamp, err := stampOf(programs)
	if err != nil {
		return "", fmt.Errorf("test image: %w", err)
	}
	tar := filepath.Join(testenv.CacheDir(), "lab", "rootfs-"+stamp+".tar")
	if _, err := os.Stat(tar); err == nil {
		return tar, nil
	}
	if err := makeRootfs(ctx, programs, tar); err != nil {
		return "", fmt.Errorf("test image: %w", err)
	}
	return tar, nil
}

// stampOf tells images apart by what is in them.
func stampOf(programs map[string]string) (string, error) {
	sum := sha256.New()
	for _, p := range append(imagePrograms, struct {
		name     string
		optional bool
	}{name: "labprobe"}) {
		path, ok := programs[p.name]
		if !ok {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(sum, p.name)
		_, err = io.Copy(sum, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

func makeRootfs(ctx context.Context, programs map[string]string, tar string) error {
	if err := os.MkdirAll(filepath.Dir(tar), 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(tar), "rootfs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, d := range []string{"bin", "sbin", "usr/bin", "usr/sbin", "etc", "tmp", "proc", "sys", "dev", "root", "var/run"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	applets, err := run(ctx, programs["busybox"], "--list")
	if err != nil {
		return err
	}
	for _, applet := range strings.Fields(applets) {
		if _, real := programs[applet]; real {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil {
			return err
		}
	}
	for name, path := range programs {
		if err := copyProgram(ctx, path, dir, name); err != nil {
			return err
		}
	}
	tmp := fmt.Sprintf("%s.%d", tar, os.Getpid())
	if _, err := run(ctx, "tar", "-C", dir, "--numeric-owner", "--owner=0", "--group=0", "-cf", tmp, "."); err != nil {
		return err
	}
	return os.Rename(tmp, tar)
}

// copyProgram copies a program to /bin, and the libraries that ldd names to where they are here.
func copyProgram(ctx context.Context, path, dir, name string) error {
	if err := copyFile(path, filepath.Join(dir, "bin", name)); err != nil {
		return err
	}
	libs, err := run(ctx, "ldd", path)
	if err != nil {
		return nil // ldd fails for a static program, which needs none.
	}
	for _, word := range strings.Fields(libs) {
		if !filepath.IsAbs(word) {
			continue
		}
		to := filepath.Join(dir, word)
		if _, err := os.Stat(to); err == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := copyFile(word, to); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
