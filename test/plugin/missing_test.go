package plugin

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// promptly is how soon the plugin answers after docker plugin enable, whatever is missing: sooner than anything gives up that waits for it. On a
// machine that is busy it is given some tries: whatever waited for what is missing would be late in each.
const (
	promptly = 4 * time.Second
	tries    = 4
)

// TestNothingThere: on a host without Open vSwitch the plugin listens at once, whatever else is missing or silent, and says in Docker's log what it is;
// without address and default route, too, and works when these come.
func TestNothingThere(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	w := prepare(ctx, t, lab.Options{Hosts: 1, NoOVS: true})
	h := w.Hosts[0]
	if err := h.CreatePlugin(ctx, w.dir); err != nil {
		t.Fatal(err)
	}
	// It takes connections, and never says a word.
	silent, err := net.Listen("unix", filepath.Join(h.Dir, "run/silent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	consul := "SOCKETPLANE_CONSUL_ADDR=" + w.Consul.Addr
	for _, missing := range []struct {
		name       string
		settings   []string
		restore    []string
		disconnect bool
	}{
		{name: "nothing"},
		{name: "consul_refuses", settings: []string{"SOCKETPLANE_CONSUL_ADDR=" + h.Addr.String() + ":8500"}},
		{name: "consul_is_unreachable", settings: []string{"SOCKETPLANE_CONSUL_ADDR=10.99.9.9:8500"}},
		{name: "consul_has_no_address", settings: []string{"SOCKETPLANE_CONSUL_ADDR=consul.invalid:8500"}},
		{name: "consul_is_silent", settings: []string{"SOCKETPLANE_CONSUL_ADDR=unix:///host/run/silent.sock"}, restore: []string{consul}},
		{name: "switch_is_away", settings: []string{"SOCKETPLANE_OVSDB=unix:/host/run/away.sock"}},
		{name: "switch_is_silent", settings: []string{"SOCKETPLANE_OVSDB=unix:/host/run/silent.sock"}, restore: []string{"SOCKETPLANE_OVSDB="}},
		{name: "docker_is_away", settings: []string{"SOCKETPLANE_DOCKER_HOST=unix:///host/run/away.sock"}},
		{name: "docker_is_silent", settings: []string{"SOCKETPLANE_DOCKER_HOST=unix:///host/run/silent.sock"}, restore: []string{"SOCKETPLANE_DOCKER_HOST="}},
		{name: "address", settings: []string{"args=--mirror=false"}, disconnect: true},
	} {
		t.Run(missing.name, func(t *testing.T) {
			set(ctx, t, h, missing.settings)
			if missing.disconnect {
				disconnect(ctx, t, h)
			}
			answersPromptly(ctx, t, h)
			if !missing.disconnect {
				docker(ctx, t, h, "plugin", "disable", "-f", lab.PluginName)
				set(ctx, t, h, missing.restore)
			}
		})
	}
	if _, err := h.Docker(ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", "10.61.0.0/24", "web"); err == nil ||
		!strings.Contains(err.Error(), "--advertise") {
		t.Errorf("without an address a network was made, or nobody says why not: %v", err)
	}
	w.until(ctx, t, "Docker's log says what is missing", func() error {
		if log := h.LogTail("dockerd", 1<<20); !strings.Contains(log, "no underlay address") {
			return errors.New("it does not")
		}
		return nil
	})
	if _, err := h.Exec(ctx, "ip", "address", "add", h.Addr.String()+"/16", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := h.WaitPluginReady(ctx); err != nil {
		t.Fatal(err)
	}
	docker(ctx, t, h, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", "10.61.0.0/24", "web")
	docker(ctx, t, h, "run", "--rm", "--network", "web", lab.ImageName, "true")
}

// set changes settings of the plugin, which is disabled.
func set(ctx context.Context, t *testing.T, h *lab.Host, settings []string) {
	t.Helper()
	for _, s := range settings {
		docker(ctx, t, h, "plugin", "set", lab.PluginName, s)
	}
}

// disconnect takes the host's addresses, and with them its routes.
func disconnect(ctx context.Context, t *testing.T, h *lab.Host) {
	t.Helper()
	for _, args := range [][]string{{"address", "flush", "dev", "eth0"}, {"link", "set", "docker0", "down"}} {
		if _, err := h.Exec(ctx, append([]string{"ip"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
}

// answersPromptly enables the plugin until it has answered in time once, and leaves it enabled.
func answersPromptly(ctx context.Context, t *testing.T, h *lab.Host) {
	t.Helper()
	for try := range tries {
		if try > 0 {
			docker(ctx, t, h, "plugin", "disable", "-f", lab.PluginName)
		}
		answer, enabled, err := h.TimePlugin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("the first call was answered after %v, docker plugin enable ended after %v", answer.Round(time.Millisecond), enabled.Round(time.Millisecond))
		if answer <= promptly {
			return
		}
	}
	t.Errorf("in %d tries the plugin did not answer within %v", tries, promptly)
}
