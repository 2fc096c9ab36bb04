package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// StuckPluginError says that dockerd can't start, as containerd keeps remains of a plugin. They are left when both end in the moment in which Docker
// starts a plugin again that has just crashed: a shim without a task (containerd 1.6, containerd#6860), or the directory of a task whose removal was
// cut off (any containerd; internal/agent removes what it can of that). Then containerd refuses to start the plugin; Docker up to 29.8 keeps
// it as enabled, without a client (plugin.Manager.reload), and libnetwork, which asks each enabled plugin for its capabilities, asks that (drivers/remote): dockerd
// ends by a panic, at each of its starts. Nothing of the plugin's runs meanwhile, so it can't help; an operator can, as docs/operations.md tells.
type StuckPluginError struct {
	// Plugin is its id.
	Plugin string
	err    error
}

func (e *StuckPluginError) Error() string {
	return fmt.Sprintf("containerd keeps remains of plugin %s, at which Docker panics: %v", e.Plugin, e.err)
}

func (e *StuckPluginError) Unwrap() error { return e.err }

// stuckPlugin is what dockerd writes then, before its panic.
var stuckPlugin = regexp.MustCompile(`msg="failed to enable plugin" error="[^"]*(?:task [0-9a-f]{64}: already exists|mkdir [^ "]+: file exists|id already in use)[^"]*" id=([0-9a-f]{64})`)

// recognised gives a dockerd's failure to start its name, if it is that one. The log is this start's.
func recognised(err error, log string) error {
	found := stuckPlugin.FindStringSubmatch(log)
	_, trace, panicked := strings.Cut(log, "panic: ")
	if found == nil || !panicked || !strings.Contains(trace, "libnetwork/drivers/remote") {
		return err
	}
	return &StuckPluginError{Plugin: found[1], err: err}
}

// ReviveDocker is StartDocker for an engine that was killed just after its plugin was: where it can't start for that, it does what an operator does.
func (h *Host) ReviveDocker(ctx context.Context, flags ...string) error {
	err := h.StartDocker(ctx, flags...)
	var stuck *StuckPluginError
	if !errors.As(err, &stuck) {
		return err
	}
	h.lab.opts.Log("%s: dockerd panicked over what containerd keeps of plugin %.12s: that is removed and dockerd started again, as docs/operations.md tells", h.Name, stuck.Plugin)
	for _, argv := range [][]string{
		{"sh", "-c", "pkill -KILL -f '[p]lugins.moby -id " + stuck.Plugin + "' || [ $? = 1 ]"}, // 1: there is none
		{"find", "/run", "-xdev", "-path", "*/plugins.moby/*" + stuck.Plugin, "-prune", "-exec", "rm", "-rf", "{}", "+"},
	} {
		if _, err := h.Exec(ctx, argv...); err != nil {
			return err
		}
	}
	return h.StartDocker(ctx, flags...)
}

// size is that of a log, 0 without one.
func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// written is what a log has from an offset on.
func written(path string, from int64) string {
	text, err := os.ReadFile(path)
	if err != nil || int64(len(text)) < from {
		return ""
	}
	return string(text[from:])
}
