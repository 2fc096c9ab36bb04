package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/test/lab"
)

// promptly is how soon after its start the plugin's process answers, whatever is missing: sooner than anything gives up that waits for it. What Docker
// and containerd do before does not count: a busy machine takes seconds for that.
const promptly = 4 * time.Second

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
	silent := beSilent(t, h)
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
			silent.reset()
			answersPromptly(ctx, t, h)
			if strings.HasSuffix(missing.name, "_silent") {
				w.until(ctx, t, "the plugin comes to the silent part", silent.came)
				silent.check(t)
			}
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

// answersPromptly enables the plugin, which answers Docker soon after its process has begun.
func answersPromptly(ctx context.Context, t *testing.T, h *lab.Host) {
	t.Helper()
	began := time.Now()
	var answered, enabled time.Time
	if err := h.EnablePluginAsking(ctx, func() { answered = time.Now() }, func() { enabled = time.Now() }); err != nil {
		t.Fatal(err)
	}
	start, err := startOf(h.PluginPid())
	if err != nil {
		t.Fatal(err)
	}
	took := answered.Sub(start)
	t.Logf("the first call was answered %v after the process's start, that is %v after the command's, which ended after %v", took.Round(time.Millisecond),
		answered.Sub(began).Round(time.Millisecond), enabled.Sub(began).Round(time.Millisecond))
	if took > promptly {
		t.Errorf("the plugin answered %v after its start, want at most %v", took, promptly)
	}
}

// startOf is when a process began, as the kernel tells it: 22nd field of proc(5)'s stat, in hundredths of a second since the machine's start.
func startOf(pid int) (time.Time, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return time.Time{}, fmt.Errorf("the plugin does not run: %w", err)
	}
	// The second field is a name in brackets, and may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const stat, hundredth = 22 - 3, 10 * time.Millisecond
	if len(fields) <= stat {
		return time.Time{}, fmt.Errorf("process %d has %d fields of state", pid, len(fields))
	}
	since, err := strconv.ParseInt(fields[stat], 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Time{}, err
	}
	return time.Now().Add(time.Duration(since)*hundredth - time.Duration(now.Nano())), nil
}
