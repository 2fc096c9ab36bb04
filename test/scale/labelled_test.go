package scale

import (
	"fmt"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/test/internal/libnetwork"
)

// TestLabelledContainersAreReached: another host has 1,500 containers on the network, each with labels as large as Compose makes them. The agent here has a flow to each
// of them in the switch. That the agent of the other host publishes so many is shown in internal/netview (TestManyHere).
func TestLabelledContainersAreReached(t *testing.T) {
	const many, labels = 1500, 4000
	h, ctx := newHost(t), t.Context()
	p, err := newPeers(ctx, t, h.server.Addr, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	other := p.all[0]
	for i := range many {
		e := other.endpoint(macPeer)
		e.Container = &store.Container{
			ID: libnetwork.ID("container", i), Name: fmt.Sprintf("shop-web-%d", i),
			Labels: map[string]string{"com.docker.compose.config-hash": strings.Repeat("x", labels)},
		}
		other.endpoints = append(other.endpoints, e)
	}
	if err := other.publish(ctx, 0); err != nil {
		t.Fatal(err)
	}
	p.first = many
	h.start()
	w := &world{host: h, peers: p}
	if w.net, err = newSegment(ctx, h.Docker(), libnetwork.ID("net", 1), wide.String(), local.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.net.join(ctx); err != nil {
		t.Fatal(err)
	}
	w.complete()
	if got := w.flowsTo(macPeer); got != many {
		t.Errorf("%d flows to the other host's %d containers", got, many)
	}
	out, err := h.cli(ctx, "endpoint", "ls", "--format", "json")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out, "shop-web-"); got < many {
		t.Errorf("'endpoint ls' tells of %d of %d containers", got, many)
	}
}
