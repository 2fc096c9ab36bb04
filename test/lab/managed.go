package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// pluginTasks is where dockerd's containerd keeps what it knows of running plugins, below a host's /run: a directory each.
const pluginTasks = "docker/containerd/daemon/io.containerd.runtime.v2.task/plugins.moby"

// startManaged waits until Docker has started the plugin, after enabling it if StopAgent disabled it. Docker itself starts a plugin again that was
// killed, and all that are enabled with its own start.
func (h *Host) startManaged(ctx context.Context, flags []string) error {
	if len(flags) > 0 {
		return fmt.Errorf("flags %q for the plugin of %s: docker plugin set gives them", flags, h.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, h.lab.opts.Patience)
	defer cancel()
	if h.disabled {
		if err := testenv.Poll(ctx, 25*time.Millisecond, func() bool { return h.DockerReady(ctx) }); err != nil {
			return fmt.Errorf("enable the plugin of %s: Docker does not answer: %w", h.Name, err)
		}
		if err := h.EnablePlugin(ctx); err != nil {
			return err
		}
		h.disabled = false
	}
	if err := testenv.Poll(ctx, 25*time.Millisecond, func() bool { return h.managed().alive() && h.Listening(PluginSocket) }); err != nil {
		return fmt.Errorf("the plugin on %s does not run: %w; the end of Docker's log:\n%s", h.Name, err, h.LogTail("dockerd", 25))
	}
	return nil
}

// dialled is the age at which Docker has found a plugin that listens: it dials half a second after the start. If the plugin ends before that, Docker dials
// for 12 s more, and till then takes no notice of its end (plugin.Manager.pluginPostStart, in all engines): disable lasts so long, and who enables it
// next may be told "id already in use".
const dialled = time.Second

// stopManaged ends the plugin until startManaged, not before Docker has found it. Without force Docker refuses, as networks use it.
func (h *Host) stopManaged() error {
	ctx, cancel := context.WithTimeout(context.Background(), h.lab.opts.Patience)
	defer cancel()
	if err := testenv.Poll(ctx, 25*time.Millisecond, func() bool { p := h.managed(); return !p.alive() || p.age() >= dialled }); err != nil {
		return err
	}
	_, err := h.Docker(ctx, "plugin", "disable", "-f", PluginName)
	h.disabled = h.disabled || err == nil
	return err
}

// killManaged ends the plugin's process as a crash would.
func (h *Host) killManaged() {
	ctx, cancel := context.WithTimeout(context.Background(), h.lab.opts.Patience)
	defer cancel()
	if err := h.managed().kill(ctx); err != nil {
		h.lab.opts.Log("kill the plugin of %s: %v", h.Name, err)
	}
}

// managed is the plugin's first process, which is the agent, on the machine. containerd says which it is on the host: the machine's process in that
// one's PID namespace whose number is 1 there is the same.
func (h *Host) managed() process {
	// A name with a dot before it is a task that ended while containerd did.
	files, err := filepath.Glob(h.runPath(pluginTasks + "/[0-9a-f]*/init.pid"))
	if err != nil || len(files) != 1 {
		return process{}
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return process{}
	}
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/root/proc/%s/ns/pid", h.initPid(), strings.TrimSpace(string(text))))
	if err != nil {
		return process{}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return process{}
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if has, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err == nil && has == namespace && firstOfItsNamespace(pid) {
			return identify(pid)
		}
	}
	return process{}
}

func firstOfItsNamespace(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), "NSpid:")
	numbers, _, _ := strings.Cut(rest, "\n")
	return strings.HasSuffix(numbers, "\t1")
}

// managedLog is what the plugin has written, which is in Docker's log: a message each.
func (h *Host) managedLog(lines int) string {
	var all []string
	for line := range strings.Lines(h.LogTail("dockerd", 1<<20)) {
		if !strings.Contains(line, " plugin=") {
			continue
		}
		_, rest, found := strings.Cut(line, ` msg="`)
		quoted, err := strconv.QuotedPrefix(`"` + rest)
		if !found || err != nil {
			continue
		}
		if text, err := strconv.Unquote(quoted); err == nil {
			all = append(all, strings.TrimRight(text, "\n"))
		}
	}
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// PowerOff stops Docker and the agent in an orderly way, as a host's shutdown does. A plugin ends with Docker, and stays enabled.
func (h *Host) PowerOff() error {
	if h.lab.opts.Plugin {
		return h.StopDocker()
	}
	return errors.Join(h.StopAgent(), h.StopDocker())
}
