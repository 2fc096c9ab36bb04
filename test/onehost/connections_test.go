package onehost

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store/consul"
)

const (
	// fewConnections is what an agent may hold to Consul, which allows 200 for all of a host by default.
	fewConnections = 20
	manyNetworks   = 150
)

// TestFewConnections: an agent with containers on 150 networks has few connections to Consul, and hears of other hosts' containers on all
// of them.
func TestFewConnections(t *testing.T) {
	server := testenv.Consul(t)
	h := newHost(t, "--store", "consul", "--consul-addr", "unix://"+server.Socket)
	h.start()
	ctx := h.Deadline(3 * patience)
	kv, err := consul.Open(consul.Options{Address: server.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for i := range manyNetworks {
		g.Go(func() error {
			n, err := h.Docker().Network(gctx, id("net", i), subnet(i).String(), "")
			if err == nil {
				_, err = n.Join(gctx, id("ep", i), mac(i))
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	heard := func(networks int) {
		t.Helper()
		h.Eventually("the other hosts' endpoints are known", func() error {
			want := float64(networks * largeRemote / largeNetworks / 4)
			if got := h.metric("socketplane_peer_endpoints"); got != want {
				return fmt.Errorf("%v of %v", got, want)
			}
			return nil
		})
	}
	some := []int{0, manyNetworks / 2, manyNetworks - 1}
	for k, network := range some {
		if err := elsewhere(ctx, kv, network, 0); err != nil {
			t.Fatal(err)
		}
		heard(k + 1)
	}
	few := func() {
		t.Helper()
		h.Eventually("there are few connections", func() error { // those of calls that came all at once are idle, and end
			n := h.connections(server.Socket)
			if n == 0 || n > fewConnections {
				return fmt.Errorf("%d connections", n)
			}
			t.Logf("%d connections", n)
			return nil
		})
	}
	few()
	// A new watch of each of them begins.
	h.kill()
	h.start()
	heard(len(some))
	few()
}

// connections counts the agent's to a server's unix socket: their other ends have the socket's path, and are in the network namespace of
// the one who connects. ss tells the number of each end's peer, 0 if that is closed: Consul keeps its end of a killed agent's watch until
// the watch would have ended, some minutes.
func (h *host) connections(socket string) (n int) {
	h.T.Helper()
	out, err := exec.Command("nsenter", "--net=/run/netns/"+h.NS, "ss", "-xH", "state", "connected").CombinedOutput()
	if err != nil {
		h.T.Fatalf("ss: %v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		// Netid State Recv-Q Send-Q Local-Path Local-Number Peer-Path Peer-Number
		if f := strings.Fields(line); len(f) == 8 && f[1] == "ESTAB" && f[4] == socket && f[7] != "0" {
			n++
		}
	}
	return n
}
