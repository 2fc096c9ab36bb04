package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

func (w *once) conflicts(ctx context.Context, t *testing.T) {
	h1, h2, h3 := w.Hosts[0], w.Hosts[1], w.Hosts[2]
	w.docker(ctx, t, h2, "network", "create", "odd")
	// What a host uses is refused at once, so it gets its own while nobody tells the others.
	if err := h3.StopAgent(); err != nil {
		t.Fatal(err)
	}
	w.docker(ctx, t, h3, "network", "create", "--subnet", "10.95.0.0/24", "mine")
	_, err := h1.SocketPlane(ctx, "network", "create", "--wait", "10s", "odd", "10.95.0.0/16")
	// h3's agent is stopped: it counts as alive for up to 15 s more, which may end before the command does.
	if err == nil || !strings.Contains(err.Error(), "not yet on h2") {
		t.Errorf("create: %v", err)
	}
	if err := h3.StartAgent(ctx); err != nil {
		t.Fatal(err)
	}
	for h, words := range map[*lab.Host]string{h2: "driver bridge", h3: "overlaps 10.95.0.0/24"} {
		eventually(ctx, t, 30*time.Second, func(ctx context.Context) error {
			for _, args := range [][]string{{"network", "inspect", "odd", "--format", "json"}, {"doctor", "--quiet", "--format", "json"}} {
				out, err := h.SocketPlane(ctx, args...)
				if !strings.Contains(out, words) {
					return fmt.Errorf("%s %v: %w %s", h.Name, args, err, out)
				}
			}
			return nil
		})
	}
	w.have(ctx, t, 30*time.Second, []*lab.Host{h3})
	w.docker(ctx, t, h2, "network", "rm", "odd")
	w.docker(ctx, t, h3, "network", "rm", "mine")
	w.have(ctx, t, 30*time.Second, w.Hosts, "odd")
	w.finds(ctx, t, h2, "networks", "ok") // its trouble is over a moment after Docker has the network
	if _, err := h1.SocketPlane(ctx, "network", "rm", "odd"); err != nil {
		t.Fatal(err)
	}
	w.only(ctx, t, 30*time.Second)
}
