package plugin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/internal/fences"
	"github.com/socketplane/socketplane/test/lab"
)

// tasks is where dockerd's containerd has a directory for each plugin that runs.
const tasks = "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/plugins.moby/"

// TestStuck: containerd and Docker died while they ended the plugin or started it. What they left is removed, by the plugin where it can run, else by what
// docs/operations.md tells.
func TestStuck(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	w := start(ctx, t, lab.Options{})
	h := w.Hosts[0]
	id := docker(ctx, t, h, "plugin", "inspect", "-f", "{{.ID}}", lab.PluginName)
	t.Run("a_removal_was_cut_off", func(t *testing.T) {
		stopped(t, h)
		inside(ctx, t, h, "mkdir -p "+tasks+"."+id+"/rootfs && touch "+tasks+"."+id+"/config.json")
		if err := errors.Join(h.StartDocker(ctx), h.WaitPluginReady(ctx)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(h.Dir, tasks, "."+id)); err == nil {
			t.Error("the plugin runs, and what an earlier process of it left is still there")
		}
		h.KillDocker()
		if err := errors.Join(h.StartDocker(ctx), h.WaitPluginReady(ctx)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a_directory_is_left", func(t *testing.T) {
		stopped(t, h)
		for _, dir := range []string{id, "." + id} {
			inside(ctx, t, h, "mkdir -p "+tasks+dir+"/rootfs && touch "+tasks+dir+"/config.json")
		}
		w.stuck(ctx, t, h, id)
	})
	if os.Getenv("SOCKETPLANE_E2E_ENGINE") == string(lab.EngineCurrent) {
		return // its containerd ends a shim that has no task
	}
	t.Run("a_shim_has_no_task", func(t *testing.T) {
		stopped(t, h)
		const shim = "containerd-shim-runc-v2"
		inside(ctx, t, h, "mkdir -p "+tasks+id+" && cd "+tasks+id+" && echo '{}' >config.json && printf %s \"$(command -v "+shim+")\" >shim-binary-path && "+
			"mkfifo log && { setsid sleep 600 <>log >/dev/null 2>&1 & } && "+
			shim+" -namespace plugins.moby -id "+id+" -address /run/docker/containerd/containerd.sock start </dev/null >/dev/null 2>&1")
		w.stuck(ctx, t, h, id)
	})
}

func stopped(t *testing.T, h *lab.Host) {
	t.Helper()
	if err := h.StopDocker(); err != nil {
		t.Fatal(err)
	}
}

// inside runs a shell's commands on a host.
func inside(ctx context.Context, t *testing.T, h *lab.Host, commands string) {
	t.Helper()
	if _, err := h.Exec(ctx, "sh", "-ec", commands); err != nil {
		t.Fatal(err)
	}
}

// stuck starts Docker, which fails until the documented commands are run, and the plugin works.
func (w *world) stuck(ctx context.Context, t *testing.T, h *lab.Host, id string) {
	t.Helper()
	var stuck *lab.StuckPluginError
	if err := h.StartDocker(ctx); !errors.As(err, &stuck) || stuck.Plugin != id {
		t.Fatalf("Docker is not stuck over plugin %s: %v", id, err)
	}
	commands, err := fences.Commands("../../docs/operations.md", "plugin-stuck")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range commands {
		line = strings.ReplaceAll(line, "PLUGIN_ID", id)
		switch {
		case strings.HasPrefix(line, "systemctl stop"): // it has ended, and its containerd with it
		case strings.HasPrefix(line, "systemctl start docker"):
			err = h.StartDocker(ctx)
		case strings.HasPrefix(line, "pkill"):
			_, err = h.Exec(ctx, "sh", "-c", line+" || [ $? = 1 ]") // there is none
		default:
			_, err = h.Exec(ctx, "sh", "-c", line)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	if err := h.WaitPluginReady(ctx); err != nil {
		t.Fatal(err)
	}
}
