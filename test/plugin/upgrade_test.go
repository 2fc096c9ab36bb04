package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// TestThreeHosts: the plugin's whole life on the hosts of one cluster, with containers on all of them that reach each other before, meanwhile and after:
// created, set, enabled, disabled on all at once, upgraded from a registry one host after the other, and removed. It keeps settings, identity and
// networks, no container is restarted, and in the end nothing is left.
func TestThreeHosts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if _, err := testenv.Tool("registry"); err != nil {
		testenv.Missing(t, err.Error())
	}
	w := start(ctx, t, lab.Options{Hosts: 3}, "SOCKETPLANE_VXLAN_PORT=4790", "SOCKETPLANE_LOG_FORMAT=json")
	w.web(ctx, t)
	w.talk(ctx, t)
	next := w.push(ctx, t)
	before := map[*lab.Host]identity{}
	for _, h := range w.Hosts {
		before[h] = identify(ctx, t, h)
	}
	watched := w.watch(ctx, t)
	disable := func(h *lab.Host) error {
		_, err := h.Docker(ctx, "plugin", "disable", "-f", lab.PluginName)
		return err
	}
	set := func(h *lab.Host) error {
		_, err := h.Docker(ctx, "plugin", "set", lab.PluginName, "SOCKETPLANE_LOG_FORMAT=text")
		return err
	}
	w.each(t, disable)
	answered(ctx, t, w)
	w.each(t, set)
	w.each(t, func(h *lab.Host) error { return errors.Join(h.EnablePlugin(ctx), h.WaitPluginReady(ctx)) })
	for _, h := range w.Hosts {
		// As docs/operations.md tells.
		w.documented(ctx, t, h, "../../docs/operations.md", "plugin-upgrade", "registry.example.com/socketplane/plugin:next", next)
		if got := docker(ctx, t, h, "plugin", "inspect", "-f", "{{.Config.Description}}", lab.PluginName); got != "the next one" {
			t.Fatalf("the plugin of %s is %q after the upgrade", h.Name, got)
		}
		if err := h.WaitPluginReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	watched()
	w.talk(ctx, t)
	for _, h := range w.Hosts {
		had, has := before[h], identify(ctx, t, h)
		had.settings = strings.Replace(had.settings, "SOCKETPLANE_LOG_FORMAT=json", "SOCKETPLANE_LOG_FORMAT=text", 1)
		if had != has {
			t.Errorf("%s was %+v and is %+v", h.Name, had, has)
		}
		docker(ctx, t, h, "run", "--rm", "--network", "web", lab.ImageName, "true")
	}
	w.gone(ctx, t)
	for _, prefix := range []string{"networks", "pools", "blocks", "vnis", "endpoints", "parts", "heads"} {
		if keys, err := w.Consul.Keys(ctx, "socketplane/v1/"+prefix+"/"); err != nil || len(keys) > 0 {
			t.Errorf("the cluster still has %s: %v, %v", prefix, keys, err)
		}
	}
}

// push brings the next version into a registry on each host, and gives its name.
func (w *world) push(ctx context.Context, t *testing.T) (next string) {
	t.Helper()
	dir := w.changed(t)
	for _, h := range w.Hosts {
		registry, err := h.StartRegistry(ctx)
		if err != nil {
			t.Fatal(err)
		}
		next = registry + "/socketplane/plugin:next"
	}
	w.each(t, func(h *lab.Host) error {
		for _, args := range [][]string{{"create", next, dir}, {"push", next}, {"rm", next}} {
			if _, err := h.Docker(ctx, append([]string{"plugin"}, args...)...); err != nil {
				return err
			}
		}
		return nil
	})
	return next
}

// identity is what a host and its container are told apart by from what they would be after a loss.
type identity struct{ host, settings, started, address string }

func identify(ctx context.Context, t *testing.T, h *lab.Host) identity {
	t.Helper()
	var info struct{ Host struct{ ID string } }
	out, err := h.SocketPlane(ctx, "info", "--format", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &info)
	}
	if err != nil || info.Host.ID == "" {
		t.Fatalf("the agent's info: %v: %s", err, out)
	}
	return identity{
		host:     info.Host.ID,
		settings: docker(ctx, t, h, "plugin", "inspect", "-f", "{{.Settings.Env}} {{.Settings.Args}}", lab.PluginName),
		started:  docker(ctx, t, h, "inspect", "-f", "{{.State.StartedAt}}", "web"),
		address:  address(ctx, t, h, "web"),
	}
}

// answered demands that each container reaches the next one at once.
func answered(ctx context.Context, t *testing.T, w *world) {
	t.Helper()
	for i, h := range w.Hosts {
		to := w.Hosts[(i+1)%len(w.Hosts)]
		if _, err := h.Docker(ctx, "exec", "web", "ping", "-n", "-c", "3", "-W", "5", address(ctx, t, to, "web")); err != nil {
			t.Errorf("with the plugin disabled containers don't talk: %v", err)
		}
	}
}

// watch sends pings from each container to the next host's until it is ended, which demands that at most one was lost: by the machine, as a gap would be many.
func (w *world) watch(ctx context.Context, t *testing.T) (end func()) {
	t.Helper()
	done := make(chan struct{})
	var watchers sync.WaitGroup
	for i, h := range w.Hosts {
		to := address(ctx, t, w.Hosts[(i+1)%len(w.Hosts)], "web")
		pid := docker(ctx, t, h, "inspect", "-f", "{{.State.Pid}}", "web")
		watchers.Go(func() {
			sent, lost := 0, 0
			ticker := time.NewTicker(100 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-done:
					if t.Logf("%s sent %d pings, %d were lost", h.Name, sent, lost); lost > 1 || sent == 0 {
						t.Errorf("of %d pings from %s to %s %d were lost", sent, h.Name, to, lost)
					}
					return
				case <-ticker.C:
				}
				sent++
				if _, err := h.Exec(ctx, "nsenter", "--target", pid, "--net", "ping", "-n", "-c", "1", "-W", "3", to); err != nil {
					lost++
				}
			}
		})
	}
	stop := sync.OnceFunc(func() { close(done); watchers.Wait() })
	t.Cleanup(stop)
	return stop
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
