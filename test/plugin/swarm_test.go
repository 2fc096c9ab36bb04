package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/fences"
	"github.com/socketplane/socketplane/test/lab"
)

// TestSwarm: with SCOPE=global the plugin's networks are Swarm's: one id everywhere, containers and a service's tasks on three hosts
// talk, and nothing is left when they are gone.
func TestSwarm(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	w := start(ctx, t, lab.Options{Hosts: 3}, "SCOPE=global")
	manager := w.Hosts[0]
	w.swarm(ctx, t)
	before := w.ours(ctx, t)
	// As docs/install.md tells, but for the first two lines, which start has done.
	commands, err := fences.Commands("../../docs/install.md", "swarm")
	if err != nil || len(commands) != 4 {
		t.Fatalf("documented are %q, %v", commands, err)
	}
	id := docker(ctx, t, manager, strings.Fields(commands[2])[1:]...)
	for _, h := range w.Hosts {
		w.until(ctx, t, "a container on "+h.Name+" is attached", func() error { // a worker hears of the network from the manager
			_, err := h.Docker(ctx, "run", "-d", "--name", "attached", "--network", "tasks", lab.ImageName)
			if err != nil {
				_, _ = h.Docker(ctx, "rm", "-f", "attached")
			}
			return err
		})
		if got := docker(ctx, t, h, "network", "inspect", "-f", "{{.Id}}", "tasks"); got != id {
			t.Errorf("network tasks is %s on %s, want %s", got, h.Name, id)
		}
	}
	docker(ctx, t, manager, strings.Fields(commands[3])[1:]...)
	containers, addrs := map[*lab.Host]string{}, map[*lab.Host]string{}
	for _, h := range w.Hosts {
		containers[h] = w.task(ctx, t, h)
		addrs[h] = strings.TrimSpace(docker(ctx, t, h, "inspect", "-f", `{{(index .NetworkSettings.Networks "tasks").IPAddress}}`, containers[h]))
	}
	var all []string
	for _, from := range w.Hosts {
		for _, to := range w.Hosts {
			pings(ctx, t, from, containers[from], addrs[to])
			attached := docker(ctx, t, to, "inspect", "-f", `{{(index .NetworkSettings.Networks "tasks").IPAddress}}`, "attached")
			pings(ctx, t, from, "attached", attached)
			if from == w.Hosts[0] {
				all = append(all, addrs[to], attached)
			}
		}
	}
	if slices.Sort(all); len(slices.Compact(all)) != 6 {
		t.Errorf("tasks and containers share addresses: %v", all)
	}
	docker(ctx, t, manager, "node", "update", "--availability", "drain", w.Hosts[2].Name)
	w.until(ctx, t, "the drained host has no task", func() error {
		out, err := w.Hosts[2].Docker(ctx, "ps", "-q", "--filter", "label=com.docker.swarm.service.name=svc")
		if err == nil && out != "" {
			err = fmt.Errorf("containers %q", out)
		}
		return err
	})
	pings(ctx, t, w.Hosts[0], containers[w.Hosts[0]], addrs[w.Hosts[1]])
	docker(ctx, t, manager, "service", "rm", "svc")
	for _, h := range w.Hosts {
		docker(ctx, t, h, "rm", "-f", "attached")
	}
	// Swarm never repeats what it releases while Consul is away: the plugin does.
	w.Consul.Stop()
	w.until(ctx, t, "the network can be removed", func() error { _, err := manager.Docker(ctx, "network", "rm", "tasks"); return err })
	w.until(ctx, t, "Swarm releases the subnet", func() error {
		if log := manager.LogTail("dockerd", 1<<20); !strings.Contains(log, "what Swarm has released stays claimed") {
			return errors.New("the manager's plugin has not said so")
		}
		return nil
	})
	if err := w.Consul.Start(ctx); err != nil {
		t.Fatal(err)
	}
	w.until(ctx, t, "nothing is left", func() error {
		if after := w.ours(ctx, t); after != before {
			return fmt.Errorf("left:\n%s\nwas:\n%s", after, before)
		}
		return nil
	})
}

// swarm makes the hosts one Swarm, the first its manager.
func (w *world) swarm(ctx context.Context, t *testing.T) {
	t.Helper()
	manager := w.Hosts[0]
	docker(ctx, t, manager, "swarm", "init", "--advertise-addr", manager.Addr.String())
	token := docker(ctx, t, manager, "swarm", "join-token", "-q", "worker")
	for _, h := range w.Hosts[1:] {
		_, err := h.Docker(ctx, "swarm", "join", "--token", token, "--advertise-addr", h.Addr.String(), manager.Addr.String())
		if err != nil && !strings.Contains(err.Error(), "Timeout was reached") { // then it goes on by itself
			t.Fatal(err)
		}
	}
	w.until(ctx, t, "all hosts are in the Swarm", func() error {
		out, err := manager.Docker(ctx, "node", "ls", "--format", "{{.Status}}")
		if err == nil && strings.Count(out, "Ready") != len(w.Hosts) {
			err = fmt.Errorf("nodes %q", out)
		}
		return err
	})
}

// task waits for the container of the service's task on a host.
func (w *world) task(ctx context.Context, t *testing.T, h *lab.Host) (id string) {
	t.Helper()
	w.until(ctx, t, "a task runs on "+h.Name, func() error {
		out, err := h.Docker(ctx, "ps", "-q", "--filter", "label=com.docker.swarm.service.name=svc")
		if id = strings.TrimSpace(out); err == nil && id == "" {
			tasks, _ := w.Hosts[0].Docker(ctx, "service", "ps", "--no-trunc", "svc")
			err = fmt.Errorf("there is none: %s", tasks)
		}
		return err
	})
	return id
}

// ours is what the cluster and the hosts have of networks: keys but for hosts' own, and ports.
func (w *world) ours(ctx context.Context, t *testing.T) string {
	t.Helper()
	keys, err := w.Consul.Keys(ctx, "socketplane/")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for key := range keys {
		if !strings.HasPrefix(key, "socketplane/v1/hosts/") && key != "socketplane/v1/janitor" { // of which one is the janitor
			lines = append(lines, key)
		}
	}
	for _, h := range w.Hosts {
		out, err := h.Exec(ctx, "ovs-vsctl", "--timeout=10", "list-ports", "socketplane0")
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, h.Name+" "+strings.ReplaceAll(strings.TrimSpace(out), "\n", " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (w *world) until(ctx context.Context, t *testing.T, what string, check func() error) {
	t.Helper()
	if err := testenv.Await(ctx, patience, 200*time.Millisecond, func(context.Context) error { return check() }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
