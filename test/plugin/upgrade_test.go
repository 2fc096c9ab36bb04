package plugin

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// TestUpgrade: pushed to a registry and upgraded from it, the plugin keeps settings, identity and networks; containers are not restarted, and talk.
func TestUpgrade(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	if _, err := testenv.Tool("registry"); err != nil {
		testenv.Missing(t, err.Error())
	}
	w := start(ctx, t, lab.Options{})
	w.web(ctx, t)
	w.talk(ctx, t)
	h := w.Hosts[0]
	registry, err := h.StartRegistry(ctx)
	if err != nil {
		t.Fatal(err)
	}
	next := registry + "/socketplane/plugin:next"
	docker(ctx, t, h, "plugin", "create", next, w.changed(t))
	docker(ctx, t, h, "plugin", "push", next)
	docker(ctx, t, h, "plugin", "rm", next)

	id := func() string {
		var info struct{ Host struct{ ID string } }
		out, err := h.SocketPlane(ctx, "info", "--format", "json")
		if err == nil {
			err = json.Unmarshal([]byte(out), &info)
		}
		if err != nil || info.Host.ID == "" {
			t.Fatalf("the agent's info: %v: %s", err, out)
		}
		return info.Host.ID
	}
	settings := func() string {
		return docker(ctx, t, h, "plugin", "inspect", "-f", "{{.Settings.Env}} {{.Settings.Args}}", lab.PluginName)
	}
	started := func() string { return docker(ctx, t, h, "inspect", "-f", "{{.State.StartedAt}}", "web") }
	beforeID, beforeSettings, beforeStart := id(), settings(), started()
	// As docs/operations.md tells.
	w.documented(ctx, t, h, "../../docs/operations.md", "plugin-upgrade", "registry.example.com/socketplane/plugin:next", next)
	if got := docker(ctx, t, h, "plugin", "inspect", "-f", "{{.Config.Description}}", lab.PluginName); got != "the next one" {
		t.Fatalf("the plugin is %q after the upgrade", got)
	}
	if err := h.WaitPluginReady(ctx); err != nil {
		t.Fatal(err)
	}
	w.talk(ctx, t)
	if got := id(); got != beforeID {
		t.Errorf("the host's id was %s and is %s", beforeID, got)
	}
	if got := settings(); got != beforeSettings {
		t.Errorf("settings were %s and are %s", beforeSettings, got)
	}
	if got := started(); got != beforeStart {
		t.Error("the container was restarted")
	}
	w.gone(ctx, t)
}

// changed is a copy of the plugin that differs by its description and a file.
func (w *world) changed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", filepath.Join(w.dir, "rootfs"), dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the plugin: %v: %s", err, out)
	}
	// Docker 20.10 refuses a second plugin with the same root file system.
	if err := os.WriteFile(filepath.Join(dir, "rootfs", "etc", "next"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(w.dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	config["description"] = "the next one"
	if raw, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
