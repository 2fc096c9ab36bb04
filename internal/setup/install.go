package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Plan is what Install is going to do, a line each. self is the path of the running binary.
func Plan(self string) ([]string, error) {
	binary, copied := target(self)
	list, err := filesFor(binary, copied)
	if err != nil {
		return nil, err
	}
	var steps []string
	if copied {
		steps = append(steps, "copy this program to "+binary)
	}
	for _, f := range list {
		if _, err := os.Stat(f.path); err == nil && f.keep {
			continue
		}
		steps = append(steps, "write "+f.path)
	}
	return append(steps, "make the group socketplane", "enable and start "+strings.Join(units(), ", ")), nil
}

// target is the binary that the service is to run: self where programs lie, else a copy.
func target(self string) (path string, copied bool) {
	if slices.Contains([]string{"/usr/bin", "/usr/sbin", "/usr/local/sbin", "/opt/socketplane/bin"}, filepath.Dir(self)) {
		return self, false
	}
	return BinaryPath, true
}

// Install sets the service up. It may be called again, with a newer binary say: the agent is then restarted, and the sockets stay.
// An error leaves what was done; Uninstall undoes it.
func Install(ctx context.Context, self string) error {
	binary, copied := target(self)
	list, err := filesFor(binary, copied)
	if err != nil {
		return err
	}
	if copied && self != binary {
		if err := replace(binary, 0o755, func(w io.Writer) error { return copyTo(w, self) }); err != nil {
			return err
		}
	}
	for _, f := range list {
		if _, err := os.Stat(f.path); err == nil && f.keep {
			continue
		}
		if err := replace(f.path, 0o644, func(w io.Writer) error { _, err := io.WriteString(w, f.text); return err }); err != nil {
			return err
		}
	}
	if err := command(ctx, "systemd-sysusers", "--inline", group); err != nil {
		return err
	}
	if err := command(ctx, "systemctl", append([]string{"enable"}, units()...)...); err != nil {
		return err
	}
	return Start(ctx)
}

// Start starts or restarts the service, whoever set it up. Without a running systemd there is nothing to do.
func Start(ctx context.Context) error {
	if !running() {
		return nil
	}
	// Managers of networks read their files again. It is no error that they do not run.
	_ = command(ctx, "systemctl", "reload", "NetworkManager.service")
	_ = command(ctx, "networkctl", "reload")
	all := units()
	return errors.Join(
		command(ctx, "systemctl", "daemon-reload"),
		command(ctx, "systemctl", append([]string{"start"}, all[:2]...)...),
		command(ctx, "systemctl", "restart", all[2]))
}

// Uninstall stops the service and removes what Install wrote. State, bridge and links stay; so do settings, and the group.
func Uninstall(ctx context.Context, s Service) error {
	var errs []error
	if running() {
		errs = append(errs, command(ctx, "systemctl", append([]string{"stop"}, units()...)...))
		// A Consul that the agent ran outlives it, for restarts only. It is no error that there is none.
		_ = command(ctx, "systemctl", "kill", "--kill-who=all", "socketplane.service")
	}
	errs = append(errs, command(ctx, "systemctl", append([]string{"disable"}, units()...)...))
	list, err := filesFor(BinaryPath, false)
	errs = append(errs, err)
	for _, f := range list {
		if text, err := os.ReadFile(f.path); err == nil && !f.keep && strings.HasPrefix(string(text), mark) {
			errs = append(errs, os.Remove(f.path), removeEmpty(f.path))
		}
	}
	if s.Copied != "" {
		if err := os.Remove(s.Copied); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if running() {
		errs = append(errs, command(ctx, "systemctl", "daemon-reload"))
	}
	return errors.Join(errs...)
}

// Forget removes what Uninstall leaves, once the service is gone: settings and group.
func Forget(ctx context.Context) error {
	s, err := Look()
	if err != nil || s.Origin != None {
		return err
	}
	if err := os.Remove(defaultFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("setup: %w", err)
	}
	if exec.CommandContext(ctx, "getent", "group", "socketplane").Run() != nil {
		return nil // there is none
	}
	return command(ctx, "groupdel", "socketplane")
}

func running() bool { _, err := os.Stat(stateOfRun); return err == nil }

func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// replace writes a file beside its place and moves it there: a running program can't be written, and half a unit must not be seen.
func replace(path string, mode fs.FileMode, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".socketplane-*")
	if err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("setup: write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	if err := errors.Join(write(f), f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func copyTo(w io.Writer, path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	_, err = io.Copy(w, from)
	return err
}

// removeEmpty removes the directories of NetworkManager's drop-in if nothing else is in them: install made them on a host without it.
func removeEmpty(path string) error {
	if !strings.HasPrefix(path, "/etc/NetworkManager/") {
		return nil
	}
	for dir := filepath.Dir(path); dir != "/etc"; dir = filepath.Dir(dir) {
		if err := os.Remove(dir); err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) {
				return nil
			}
			return err
		}
	}
	return nil
}
