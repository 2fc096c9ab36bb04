package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// soon is how quickly a network that was created on one host must be on the others.
const soon = time.Second

// TestOnce: create once, use everywhere. It has a lab of its own, whose agents follow the cluster's networks.
func TestOnce(t *testing.T) {
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "dockerd", "docker", "ip", "nsenter", "busybox", "iperf3", "ping", "ethtool", "consul")
	ctx := deadline(t, 35*time.Minute)
	l, err := lab.Start(ctx, lab.Options{
		Hosts: 3, Consul: true, Engine: lab.Engine(os.Getenv("SOCKETPLANE_E2E_ENGINE")), Tunnel: lab.Tunnel(os.Getenv("SOCKETPLANE_E2E_TUNNEL")),
		AgentFlags: []string{"--mirror=true"}, Plugin: asPlugin(), Log: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &once{&world{Lab: l, tunnel: lab.Tunnel(os.Getenv("SOCKETPLANE_E2E_TUNNEL"))}}
	for _, test := range []struct {
		name string
		run  func(context.Context, *testing.T)
	}{
		{"the_first_network", w.firstNetwork},
		{"docker_network_create", w.dockerCreates},
		{"socketplane_network_create", w.commandCreates},
		{"removed_where_it_is_not_used", w.removed},
		{"let_go_where_others_use_it", w.away},
		{"one_name_on_all_hosts_at_once", w.oneName},
		{"conflicts_are_told_and_mended", w.conflicts},
		{"a_host_that_was_away", w.wasAway},
		{"doctor", w.doctor},
		{"containers_are_told", w.told},
		{"compose", w.compose},
		{"restart_always", w.restartAlways},
		{"docker_restarts", w.dockerRestarts},
		{"hosts_reboot", w.hostsReboot},
		{"killed_in_the_middle", w.killed},
		{"fifty_at_once", w.fifty},
	} {
		if !t.Run(test.name, func(t *testing.T) {
			t.Cleanup(func() { w.report(t) })
			test.run(deadline(t, 15*time.Minute), t)
		}) {
			return // what follows would fail for this one's reason
		}
	}
}

// once is a world whose agents make networks everywhere.
type once struct{ *world }

// dockerNetwork is what `docker network inspect` says.
type dockerNetwork struct {
	Name, Driver         string
	Internal, EnableIPv6 bool
	Labels, Options      map[string]string
	IPAM                 struct {
		Driver string
		Config []map[string]any
	}
}

func (w *once) inspect(ctx context.Context, h *lab.Host, name string) (n dockerNetwork, err error) {
	out, err := h.Docker(ctx, "network", "inspect", name)
	if err != nil {
		return n, err
	}
	var all []dockerNetwork
	if err = json.Unmarshal([]byte(out), &all); err != nil {
		return n, err
	}
	return all[0], nil
}

// names are the networks of our driver on a host.
func (w *once) names(ctx context.Context, h *lab.Host) ([]string, error) {
	out, err := h.Docker(ctx, "network", "ls", "--filter", "driver=socketplane", "--format", "{{.Name}}")
	names := strings.Fields(out)
	slices.Sort(names)
	return names, err
}

// have waits until every host has exactly these networks beside the first one.
func (w *once) have(ctx context.Context, t *testing.T, limit time.Duration, hosts []*lab.Host, want ...string) {
	t.Helper()
	want = append([]string{"socketplane"}, want...)
	slices.Sort(want)
	eventually(ctx, t, limit, func(ctx context.Context) error {
		for _, h := range hosts {
			got, err := w.names(ctx, h)
			if err != nil {
				return err
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("%s has %v, not %v", h.Name, got, want)
			}
		}
		return nil
	})
}

// only waits until nothing but the first network is left on any host, and nothing of others in Consul.
func (w *once) only(ctx context.Context, t *testing.T, limit time.Duration) {
	t.Helper()
	w.have(ctx, t, limit, w.Hosts)
	eventually(ctx, t, limit, func(ctx context.Context) error {
		keys, err := w.Consul.Keys(ctx, "socketplane/")
		if err != nil {
			return err
		}
		count := map[string]int{}
		for key := range keys {
			if strings.HasSuffix(key, "/permanent") { // so that a watched prefix is not empty
				continue
			}
			switch parts := strings.Split(key, "/"); parts[2] {
			case "schema", "identity", "layout": // of the cluster's data, for ever
			case "use": // what hosts told of it, some seconds ago
			case "janitor", "hostheads", "hostshards": // of the hosts, whose number is demanded below; shards stay
			case "gone": // since when a host was away, until the others look again, once a minute
			case "shards": // of a network that is there; they stay when its containers go
				if _, is := keys["socketplane/v1/networks/"+parts[3]]; !is {
					count["shards of "+parts[3]]++
				}
			case "blocks": // of which the first network has as many as its hosts keep spare addresses in
				count["blocks of "+parts[3]] = 1
			default:
				count[parts[2]]++
			}
		}
		for key := range keys {
			if pool, ok := strings.CutPrefix(key, "socketplane/v1/pools/"); ok {
				delete(count, "blocks of "+pool) // there is one pool, as is demanded below
			}
		}
		hosts := len(w.Hosts)
		want := map[string]int{"declared": 1, "default-made": 1, "hosts": hosts, "alive": hosts, "bound": hosts, "holders": hosts, "names": 1, "networks": 1,
			"pools": 1, "pools-revision": 1, "vnis": 1}
		if !maps.Equal(count, want) {
			return fmt.Errorf("consul has %v, not %v: %v", count, want, slices.Sorted(maps.Keys(keys)))
		}
		return nil
	})
	for _, h := range w.Hosts {
		out, err := h.Exec(ctx, "ovs-vsctl", "list-ports", "socketplane0")
		ports := strings.Fields(out)
		if w.tunnel == lab.TunnelOVS { // one port for all networks, which stays
			ports = slices.DeleteFunc(ports, func(p string) bool { return p == "socketplane-vx" })
		}
		if err != nil || len(ports) > 0 {
			t.Errorf("%s has ports: %v %s", h.Name, err, out)
		}
	}
}

// talk demands that a container of each host on a network reaches the others'.
func (w *once) talk(ctx context.Context, t *testing.T, network string, hosts ...*lab.Host) {
	t.Helper()
	var all []*container
	for _, h := range hosts {
		c, err := w.run(ctx, h, "talk-"+network, "--network", network)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	for _, c := range all[1:] {
		all[0].reachable(ctx, t, c.addr)
		c.reachable(ctx, t, all[0].addr)
		if c.addr6.IsValid() {
			all[0].reachable(ctx, t, c.addr6)
		}
	}
	for _, c := range all {
		if err := remove(ctx, c.h, c.name); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *once) docker(ctx context.Context, t *testing.T, h *lab.Host, args ...string) string {
	t.Helper()
	out, err := h.Docker(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// endpoints waits until the cluster has so many endpoints on a network.
func (w *once) endpoints(ctx context.Context, t *testing.T, network string, n int) {
	t.Helper()
	w.endpointsWithin(ctx, t, 30*time.Second, network, n)
}

func (w *once) endpointsWithin(ctx context.Context, t *testing.T, limit time.Duration, network string, n int) {
	t.Helper()
	eventually(ctx, t, limit, func(ctx context.Context) error {
		out, err := w.Hosts[0].SocketPlane(ctx, "endpoint", "ls", "--quiet", "--network", network)
		if err != nil || len(strings.Fields(out)) != n {
			return fmt.Errorf("endpoints are not %d: %v %s", n, err, out)
		}
		return nil
	})
}
