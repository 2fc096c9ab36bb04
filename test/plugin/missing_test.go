package plugin

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// TestNothingThere: on a host without address, Open vSwitch, Consul and default route the plugin listens at once and says in Docker's log what is
// missing, and works when that comes.
func TestNothingThere(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	w := prepare(ctx, t, lab.Options{Hosts: 1, NoOVS: true})
	h := w.Hosts[0]
	if err := h.CreatePlugin(ctx, w.dir); err != nil {
		t.Fatal(err)
	}
	docker(ctx, t, h, "plugin", "set", lab.PluginName, "args=--mirror=false")
	for _, args := range [][]string{{"address", "flush", "dev", "eth0"}, {"link", "set", "docker0", "down"}} {
		if _, err := h.Exec(ctx, append([]string{"ip"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if err := h.EnablePlugin(ctx); err != nil {
		t.Fatal(err)
	}
	// Docker looks for the socket, and asks; what it takes to start a container comes before.
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("docker plugin enable took %v", took)
	}
	if _, err := h.Docker(ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", "10.61.0.0/24", "web"); err == nil ||
		!strings.Contains(err.Error(), "--advertise") {
		t.Errorf("without an address a network was made, or nobody says why not: %v", err)
	}
	if log := h.LogTail("dockerd", 1<<20); !strings.Contains(log, "has no address for tunnels") {
		t.Error("Docker's log does not say what is missing")
	}
	if _, err := h.Exec(ctx, "ip", "address", "add", h.Addr.String()+"/16", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := h.WaitPluginReady(ctx); err != nil {
		t.Fatal(err)
	}
	docker(ctx, t, h, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", "10.61.0.0/24", "web")
	docker(ctx, t, h, "run", "--rm", "--network", "web", lab.ImageName, "true")
}
