package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
)

// PluginName is the managed plugin on every host that has it.
const PluginName = "socketplane/plugin:latest"

// BuildPlugin makes the managed plugin of this checkout in dir, as `docker plugin create` takes it: config.json and rootfs. It leaves
// Consul out, which the lab's hosts reach elsewhere, unless its program is given.
func BuildPlugin(ctx context.Context, dir string, consul ...string) error {
	binary, err := BuildAgent(ctx)
	if err != nil {
		return err
	}
	mod, err := run(ctx, "go", "env", "GOMOD")
	if err != nil {
		return err
	}
	checkout := filepath.Dir(mod)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("build the plugin: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("build the plugin: %w", err)
	}
	if err := copyFile(filepath.Join(checkout, "config.json"), filepath.Join(dir, "config.json")); err != nil {
		return fmt.Errorf("build the plugin: %w", err)
	}
	_, err = run(ctx, append([]string{filepath.Join(checkout, "internal/ownovs/rootfs.sh"), filepath.Join(dir, "rootfs"), binary}, consul...)...)
	return err
}

// startPlugins makes the managed plugin and starts it on every host.
func (l *Lab) startPlugins(ctx context.Context) error {
	dir := filepath.Join(l.opts.Dir, "plugin")
	if err := BuildPlugin(ctx, dir); err != nil {
		return err
	}
	plugins, ctx := errgroup.WithContext(ctx)
	for _, h := range l.Hosts {
		plugins.Go(func() error {
			if err := h.CreatePlugin(ctx, dir); err != nil {
				return err
			}
			if err := h.EnablePlugin(ctx); err != nil {
				return err
			}
			return h.WaitPluginReady(ctx)
		})
	}
	return plugins.Wait()
}

// CreatePlugin installs the managed plugin from what BuildPlugin made, and sets the settings that the lab gives its agents, but for
// paths. EnablePlugin starts it.
func (h *Host) CreatePlugin(ctx context.Context, dir string) error {
	if _, err := h.Docker(ctx, "plugin", "create", PluginName, dir); err != nil {
		return err
	}
	return h.SetPlugin(ctx)
}

// SetPlugin sets what CreatePlugin sets, for a plugin that came another way.
func (h *Host) SetPlugin(ctx context.Context) error {
	args := fmt.Sprintf("args=--advertise %s --tunnel %s --name %s --mirror=false", h.Addr, h.lab.opts.Tunnel, h.Name)
	if flags := h.lab.opts.AgentFlags; len(flags) > 0 {
		args += " " + strings.Join(flags, " ")
	}
	set := []string{"plugin", "set", PluginName, args, "SOCKETPLANE_LOG_LEVEL=debug"}
	if h.lab.Consul != nil {
		set = append(set, "SOCKETPLANE_CONSUL_ADDR="+h.lab.Consul.Addr)
	}
	_, err := h.Docker(ctx, set...)
	return err
}

// EnablePlugin starts the managed plugin; WaitPluginReady waits for more.
func (h *Host) EnablePlugin(ctx context.Context) error {
	_, err := h.Docker(ctx, "plugin", "enable", PluginName)
	return err
}

// TimePlugin is EnablePlugin, and tells when the first call of Docker's protocol was answered and when the command ended.
func (h *Host) TimePlugin(ctx context.Context) (answer, enabled time.Duration, err error) {
	began := time.Now()
	err = h.EnablePluginAsking(ctx, func() { answer = time.Since(began) }, func() { enabled = time.Since(began) })
	return answer, enabled, err
}

// EnablePluginAsking is EnablePlugin, and asks the plugin meanwhile; it calls answered at the first answer of Docker's protocol and enabled when the
// command ends. Each is called by a goroutine of its own, at most once, before this returns.
func (h *Host) EnablePluginAsking(ctx context.Context, answered, enabled func()) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := unixClient(h.runPath(strings.TrimPrefix(PluginSocket, "/run/")))
	asked := make(chan error, 1)
	go func() {
		err := testenv.Poll(ctx, time.Millisecond, func() bool {
			resp, err := client.Post("http://plugin/NetworkDriver.GetCapabilities", "", nil)
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
		if err == nil {
			answered()
		}
		asked <- err
	}()
	err := h.EnablePlugin(ctx)
	enabled()
	return errors.Join(err, <-asked)
}

// PluginPid is the process id, on the machine, of the plugin's first process, which is the agent; 0 when it does not run.
func (h *Host) PluginPid() int { return h.managed().Pid }

// WaitPluginReady waits until the plugin's agent says that networks work on this host.
func (h *Host) WaitPluginReady(ctx context.Context) error {
	ready := func() bool {
		return unixStatus(ctx, h.runPath(strings.TrimPrefix(AdminSocket, "/run/")), "/readyz") == http.StatusOK
	}
	return h.await(ctx, "the plugin (in Docker's log)", h.dockerd, ready)
}
