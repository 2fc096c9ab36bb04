package users

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// TestCoreAutomaticSubnets: the bridge that Weave leaves on one host, and a VPN client's halves of a default route on another, change
// which subnet is chosen, and nothing else: the first network is made, networks are copied to all hosts, and containers talk. Then
// subnets that have room for two containers. Reports: weaveworks/weave#1871, weaveworks/weave#2736, docker/compose#6153, docker/for-linux#418.
func TestCoreAutomaticSubnets(t *testing.T) {
	ctx := limit(t, 4*time.Minute)
	w := fresh(ctx, t, func(o *lab.Options) { o.NoAgent = true })
	h1, h2, vpn := w.Hosts[0], w.Hosts[1], w.Hosts[2]
	w.ip(ctx, h2, "link add weave type bridge", "addr add 10.32.0.1/12 dev weave", "link set weave up")
	w.ip(ctx, vpn, "link add tun0 type bridge", "addr add 10.8.0.2/24 dev tun0", "link set tun0 up",
		"route add 0.0.0.0/1 dev tun0", "route add 128.0.0.0/1 dev tun0", "-6 route add ::/1 dev tun0", "-6 route add 8000::/1 dev tun0")
	// The first network is made three seconds after the first agent's start, so on a busy machine it would be made before h2 has told
	// what it uses, if all started at once.
	start := func(h *lab.Host) error {
		if err := h.StartAgent(ctx); err != nil {
			return err
		}
		return h.WaitReady(ctx)
	}
	if err := start(h2); err != nil {
		t.Fatal(err)
	}
	w.each(func(h *lab.Host) error {
		if h == h2 {
			return nil
		}
		return start(h)
	})
	if got := w.arrives(ctx, "socketplane"); strings.Join(got, " ") != "10.64.0.0/20" {
		t.Errorf("the first network has %v", got)
	}
	w.talk(ctx, w.runOnEach(ctx, "socketplane", "first"))

	w.docker(ctx, h1, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "chosen")
	w.arrives(ctx, "chosen")
	w.docker(ctx, h1, "network", "create", "-d", "socketplane", "docker")
	w.arrives(ctx, "docker")
	if out, err := vpn.SocketPlane(ctx, "network", "create", "vpn"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	w.arrives(ctx, "vpn")
	// Where Docker declines each choice, it is told why, at once.
	out, err := vpn.Docker(ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "declined")
	if err != nil && (!strings.Contains(err.Error(), "VPN") || !strings.Contains(err.Error(), "--subnet")) {
		t.Errorf("%v %s", err, out)
	}
	w.talk(ctx, w.runOnEach(ctx, "vpn", "vpn"))

	for i, c := range []struct{ v4, v6 string }{{v4: "10.71.0.0/31"}, {v4: "10.71.1.0/30"}, {"10.71.2.0/31", "fd71::/127"}} {
		w.pair(ctx, fmt.Sprintf("pair%d", i), c.v4, c.v6)
	}
	w.refused(ctx, h1, []string{"10.71.9.1/32", "/31"}, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane",
		"--subnet", "10.71.9.1/32", "one")
}

// pair demands that two containers on different hosts, and no third, are on an internal network so small.
func (w *world) pair(ctx context.Context, name, v4, v6 string) {
	w.t.Helper()
	args := []string{"network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--internal", "--subnet", v4}
	if v6 != "" {
		args = append(args, "--ipv6", "--subnet", v6)
	}
	w.docker(ctx, w.Hosts[0], append(args, name)...)
	w.arrives(ctx, name)
	a := w.run(ctx, w.Hosts[0], name, "--network", name)
	b := w.run(ctx, w.Hosts[1], name, "--network", name)
	w.talk(ctx, []*container{a, b})
	w.refused(ctx, w.Hosts[2], []string{"no free address"}, "run", "-d", "--name", name, "--network", name, lab.ImageName)
}

// ip runs lines of the ip command in a host.
func (w *world) ip(ctx context.Context, h *lab.Host, lines ...string) {
	w.t.Helper()
	for _, line := range lines {
		if _, err := h.Exec(ctx, append([]string{"ip"}, strings.Fields(line)...)...); err != nil {
			w.t.Fatal(err)
		}
	}
}
