package scale

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/bare"
	"github.com/socketplane/socketplane/test/internal/tally"
	"github.com/socketplane/socketplane/test/lab"
)

// calls are the most requests to Docker, and bytes of its answers, that an event may cost in a cluster of any size, on a host with any number
// of containers. For a Join Docker is asked which container has the endpoint: with the container's events, and up to eight times within five seconds, with
// growing pauses, as it tells of an endpoint before it notes it (internal/mirror); then for that container.
var calls = []struct {
	event           string
	requests, bytes int64
}{
	{peerChange, 0, 0},
	{localJoin, 14, 12 << 10},
	{hostJoins, 0, 0},
	{minute, 4, 8 << 10},
}

// byClock are the requests that the agent makes by its clock, for its checks of this host. They are counted in a minute at rest only.
var byClock = []string{"GET /info", "GET /networks/docker_gwbridge"}

// crowd is how many further containers the host has when the cluster is large.
const crowd = 12

// engine is a host with a real Docker Engine, which its agent asks through a proxy that counts.
type engine struct {
	t     *testing.T
	host  *lab.Host
	peers *peers
	tally *tally.Counter
	costs map[string]tally.Counts
}

// TestDockerCalls: what the agent asks of Docker for one change has the same bounds in a small cluster and in a large one, and with few and many
// containers here.
func TestDockerCalls(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	e := newEngine(ctx, t)
	var table strings.Builder
	for i, hosts := range []int{fewHosts, manyHosts} {
		e.grow(ctx, hosts)
		if i > 0 {
			for range crowd {
				e.docker(ctx, "run", "-d", "--network", "none", lab.ImageName)
			}
		}
		e.change(ctx)
		for _, c := range calls {
			got := e.costs[c.event]
			bytes := got.Sum("", ": bytes")
			requests := got.Sum("", "") - bytes
			fmt.Fprintf(&table, "%-34s %4d hosts: %3d requests of %d, %6d bytes of %d\n", c.event, hosts, requests, c.requests, bytes, c.bytes)
			if requests > c.requests || bytes > c.bytes {
				t.Errorf("%s, %d other hosts: %d requests to Docker and %d bytes, at most %d and %d are right:\n%s", c.event, hosts, requests, bytes,
					c.requests, c.bytes, got)
			}
		}
	}
	t.Logf("asked of Docker, and the bounds:\n%s", table.String())
}

// newEngine starts a lab of one host, whose agent reaches Docker by the proxy, with a container on the network that the peers have.
func newEngine(ctx context.Context, t *testing.T) *engine {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "dockerd", "docker", "ip", "nsenter", "busybox", "consul")
	const socket = "counted.sock"
	l, err := lab.Start(ctx, lab.Options{Consul: true, NoAgent: true, Log: t.Logf,
		AgentFlags: []string{"--docker-host", "unix:///run/" + socket, "--default-network", "none"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	e := &engine{t: t, host: l.Hosts[0], costs: map[string]tally.Counts{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent:\n%s", e.host.LogTail("agent", 30))
		}
	})
	docker := strings.TrimPrefix(e.host.DockerHost(), "unix://")
	listener, err := net.Listen("unix", filepath.Join(filepath.Dir(docker), socket))
	if err != nil {
		t.Fatal(err)
	}
	e.tally = tally.HTTP(t, listener, to("unix", docker))
	if e.peers, err = newPeers(ctx, t, "unix://"+l.Consul.Socket, 1, fewEach); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.host.StartAgent(ctx), e.host.WaitReady(ctx)); err != nil {
		t.Fatal(err)
	}
	e.docker(ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", wide.String(), "--ip-range", local.String(), "wide")
	e.docker(ctx, "run", "-d", "--network", "wide", lab.ImageName)
	return e
}

// grow lets other hosts join the network until there are so many, and waits for their flows.
func (e *engine) grow(ctx context.Context, hosts int) {
	e.t.Helper()
	for len(e.peers.all) < hosts {
		if err := e.peers.add(ctx, 1); err != nil {
			e.t.Fatal(err)
		}
	}
	e.forwards(ctx, e.peers.all[hosts-1])
}

// change makes each change once, and counts.
func (e *engine) change(ctx context.Context) {
	e.t.Helper()
	e.during(ctx, peerChange, func() {
		if _, err := e.peers.all[3].update(ctx); err != nil {
			e.t.Fatal(err)
		}
		e.forwards(ctx, e.peers.all[3])
	})
	e.during(ctx, localJoin, func() { e.docker(ctx, "run", "-d", "--network", "wide", lab.ImageName) })
	e.during(ctx, hostJoins, func() { e.grow(ctx, len(e.peers.all)+1) })
	e.during(ctx, minute, func() {
		over := time.NewTimer(time.Minute)
		defer over.Stop()
		select {
		case <-over.C:
		case <-ctx.Done():
			e.t.Fatal(ctx.Err())
		}
	})
}

// forwards waits until the switch has a flow to a host's newest endpoint.
func (e *engine) forwards(ctx context.Context, p *peer) {
	e.t.Helper()
	mac := p.endpoints[len(p.endpoints)-1].MAC
	err := testenv.Await(ctx, patience, 50*time.Millisecond, func(ctx context.Context) error {
		out, err := e.host.Exec(ctx, "ovs-ofctl", "-O", "OpenFlow14", "dump-flows", bare.Bridge, "dl_dst="+mac)
		if err == nil && !strings.Contains(out, mac) {
			err = fmt.Errorf("the switch has no flow to %s", mac)
		}
		return err
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

// during counts what the agent asks of Docker because of something, and until it rests again. The stream of events is left out: what it has of a
// container does not grow, and it is one request that never ends.
func (e *engine) during(ctx context.Context, event string, do func()) {
	e.t.Helper()
	e.settle(ctx)
	before := e.tally.Counts()
	do()
	e.settle(ctx)
	costs := e.tally.Counts().Since(before)
	delete(costs, "GET /events: bytes")
	if event != minute {
		for _, kind := range byClock {
			delete(costs, kind)
			delete(costs, kind+": bytes")
		}
	}
	e.costs[event] = costs
}

// settle waits until the agent has asked nothing of Docker for a while.
func (e *engine) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	last, since := e.tally.Counts(), time.Now()
	_ = testenv.Poll(ctx, 50*time.Millisecond, func() bool { // an agent that never rests is measured as it is
		now := e.tally.Counts()
		if len(now.Since(last)) > 0 {
			last, since = now, time.Now()
		}
		return time.Since(since) > quiet
	})
}

func (e *engine) docker(ctx context.Context, args ...string) {
	e.t.Helper()
	if _, err := e.host.Docker(ctx, args...); err != nil {
		e.t.Fatal(err)
	}
}
