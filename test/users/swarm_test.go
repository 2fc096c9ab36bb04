package users

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

// TestSwarmOverlayBeside: Swarm's own overlay networks and ours use the same UDP port of the kernel side by side, whichever comes first.
// Reports: moby#22424, libnetwork#945 (VXLAN port or VNI in use).
func TestSwarmOverlayBeside(t *testing.T) {
	ctx := limit(t, 2*time.Minute)
	w := fresh(ctx, t, func(o *lab.Options) { o.Hosts, o.NoAgent = 2, true })
	h1, h2 := w.Hosts[0], w.Hosts[1]
	w.docker(ctx, h1, "swarm", "init", "--advertise-addr", h1.Addr.String())
	token := w.docker(ctx, h1, "swarm", "join-token", "-q", "worker")
	w.docker(ctx, h2, "swarm", "join", "--advertise-addr", h2.Addr.String(), "--token", token, h1.Addr.String()+":2377")
	w.docker(ctx, h1, "network", "create", "-d", "overlay", "--attachable", "--subnet", "10.80.0.0/24", "swarmed")
	before := w.swarmed(ctx, "swarmed", "before")
	w.talk(ctx, before)
	w.startAgents(ctx)
	w.docker(ctx, h1, "network", "create", "-d", "socketplane", "--subnet", "10.70.0.0/24", "web")
	w.arrives(ctx, "web")
	ours := w.runOnEach(ctx, "web", "c1")
	w.talk(ctx, ours)
	w.docker(ctx, h1, "network", "create", "-d", "overlay", "--attachable", "--subnet", "10.81.0.0/24", "later")
	after := w.swarmed(ctx, "later", "after")
	w.talk(ctx, after)
	w.talk(ctx, before)
	w.talk(ctx, ours)
	out, _ := h1.SocketPlane(ctx, "doctor") // it fails for warnings, of which a lab has some
	if text := strings.Join(strings.Fields(out), " "); !strings.Contains(text, "Docker's swarm and this host's tunnels share UDP port 4789") {
		t.Errorf("doctor does not say who shares the tunnels' port:\n%s", out)
	}
}

// swarmed starts a container on a network of Swarm's on each host; a worker knows the network from its first task on.
func (w *world) swarmed(ctx context.Context, network, name string) []*container {
	w.t.Helper()
	all := make([]*container, len(w.Hosts))
	var group errgroup.Group
	for i, h := range w.Hosts {
		group.Go(func() error {
			var err error
			for ctx.Err() == nil {
				if all[i], err = run(ctx, h, fmt.Sprint(name, i), "--network", network); err == nil {
					return nil
				}
				_, _ = h.Docker(ctx, "rm", "-f", fmt.Sprint(name, i))
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		w.t.Fatal(err)
	}
	return all
}
