package users

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// TestCoreOptions: what users ask for by options is there or refused with the cure, a second engine on a host loses nothing, and
// addresses that only Docker knows work.
func TestCoreOptions(t *testing.T) {
	ctx := limit(t, 4*time.Minute)
	w := fresh(ctx, t, func(o *lab.Options) { o.Hosts = 2 })
	w.each(func(h *lab.Host) error { return h.WaitReady(ctx) })
	w.docker(ctx, w.Hosts[0], "network", "create", "-d", "socketplane", "--subnet", "10.71.0.0/24", "web")
	w.arrives(ctx, "web")
	for _, c := range []struct {
		name string
		do   func(context.Context, *testing.T, *world)
	}{
		{"networks", networkOptions}, {"interface names", interfaceNames}, {"second engine", secondEngine},
		{"link-local addresses", linkLocal}, {"copied machine", copiedMachine},
	} {
		t.Run(c.name, func(t *testing.T) { c.do(ctx, t, &world{Lab: w.Lab, t: t, engine: w.engine}) })
	}
}

// networkOptions covers users who take a network for isolated that is not (moby#26724, docker/docs#21634), by options of the bridge driver.
func networkOptions(ctx context.Context, t *testing.T, w *world) {
	h := w.Hosts[0]
	w.arrives(ctx, "socketplane") // the agent creates the default network on its own, at any moment after it is ready
	before := w.docker(ctx, h, "network", "ls", "-q")
	for option, cure := range map[string]string{
		"com.docker.network.bridge.enable_icc=false":             "networks of their own",
		"com.docker.network.bridge.gateway_mode_ipv4=isolated":   "--internal",
		"com.docker.network.bridge.gateway_mode_ipv6=routed":     "--internal",
		"com.docker.network.bridge.enable_ip_masquerade=false":   "--internal",
		"com.docker.network.bridge.host_binding_ipv4=127.0.0.1":  "-p",
		"com.docker.network.bridge.trusted_host_interfaces=eth0": "leave it out",
		"com.docker.network.bridge.some_future_isolation=on":     "leave it out",
		"encrypted=":      "does not encrypt",
		"parent=eth0":     "macvlan or ipvlan",
		"ipvlan_mode=l3s": "macvlan or ipvlan",
	} {
		key, _, _ := strings.Cut(option, "=")
		w.refused(ctx, h, []string{key, cure}, "network", "create", "-d", "socketplane", "--subnet", "10.72.0.0/24", "-o", option, "no")
		if out, err := h.SocketPlane(ctx, "network", "create", "-o", option, "no", "10.72.0.0/24"); err == nil || !strings.Contains(err.Error(), cure) {
			t.Errorf("socketplane network create -o %s: %s, %v", option, out, err)
		}
	}
	w.refused(ctx, h, []string{"--ipam-opt", "colour"}, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--ipam-opt", "colour=red", "no")
	if after := w.docker(ctx, h, "network", "ls", "-q"); after != before {
		t.Errorf("networks before %q, and now %q", before, after)
	}
	w.docker(ctx, h, "network", "create", "-d", "socketplane", "--subnet", "10.72.0.0/24", "-o", "com.docker.network.bridge.enable_icc=true",
		"-o", "com.docker.network.driver.mtu=1300", "-o", "com.docker.network.container_iface_prefix=app", "fine")
	w.arrives(ctx, "fine")
	c := w.run(ctx, w.Hosts[1], "fine1", "--network", "fine")
	if out, err := c.exec(ctx, "ip", "-o", "link", "show", "app0"); err != nil || !strings.Contains(out, "mtu 1300") {
		t.Errorf("the copy's container has %q, %v", out, err)
	}
	w.docker(ctx, w.Hosts[1], "rm", "-f", "fine1")
}

// interfaceNames covers moby#52865 and docker/compose#12740: the name that was asked for was ignored for plugins.
func interfaceNames(ctx context.Context, t *testing.T, w *world) {
	h := w.Hosts[0]
	const key = "com.docker.network.endpoint.ifname"
	with := func(name string) []string {
		return []string{"run", "-d", "--name", "named", "--network", "name=web,driver-opt=" + key + "=" + name, lab.ImageName}
	}
	if w.engine != lab.EngineCurrent {
		w.refused(ctx, h, []string{key, "upgrade Docker"}, with("foo0")...)
		w.docker(ctx, h, "rm", "-f", "named")
		return
	}
	w.docker(ctx, h, with("foo0")...)
	out := w.docker(ctx, h, "exec", "named", "ip", "-o", "addr", "show", "foo0")
	if !strings.Contains(out, "10.71.0.") {
		t.Errorf("foo0: %s", out)
	}
	w.docker(ctx, h, "restart", "-t", "0", "named")
	w.docker(ctx, h, "exec", "named", "ip", "link", "show", "foo0")
	w.docker(ctx, h, "rm", "-f", "named")
	for _, name := range []string{"lo", "a/b", "..", "all", "sixteen-bytes-16", "eth%d"} {
		w.refused(ctx, h, []string{key}, with(name)...)
		w.docker(ctx, h, "rm", "-f", "named")
	}
	other := w.run(ctx, h, "later", "--network", "none")
	w.docker(ctx, h, "network", "disconnect", "none", "later")
	w.docker(ctx, h, "network", "connect", "--driver-opt", key+"=bar0", "web", "later")
	if out, err := other.exec(ctx, "ip", "-o", "addr", "show", "bar0"); err != nil || !strings.Contains(out, "10.71.0.") {
		t.Errorf("bar0: %s, %v", out, err)
	}
	w.docker(ctx, h, "rm", "-f", "later")
}

// secondEngine covers moby#20223 and moby#22763: two engines share the directory of plugin sockets. The agent's own goes on; the
// other one is told why it can have no network here.
func secondEngine(ctx context.Context, t *testing.T, w *world) {
	h := w.Hosts[0]
	c := w.run(ctx, h, "first1", "--network", "web")
	second, err := h.StartSecondDocker(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for _, args := range [][]string{
		{"--subnet", "10.73.0.0/24"}, {"--subnet", "10.73.0.0/24", "--ipam-driver", "socketplane"}, {"--ipam-driver", "socketplane"},
		{"--subnet", "10.71.0.0/24"},
	} {
		out, err := second.Docker(ctx, append(append([]string{"network", "create", "-d", "socketplane"}, args...), "theirs")...)
		if err == nil {
			t.Fatalf("the second engine has a network: %s", out)
		}
		for _, text := range []string{"another Docker Engine", "/run/docker.sock", "--plugin-socket"} {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%v: the error does not say %q: %v", args, text, err)
			}
		}
	}
	// Nothing of it is left in the cluster, and the first engine goes on.
	out, err := h.SocketPlane(ctx, "network", "ls")
	if err != nil || strings.Contains(out, "10.73.") {
		t.Errorf("networks: %s, %v", out, err)
	}
	w.docker(ctx, h, "network", "create", "-d", "socketplane", "--subnet", "10.73.0.0/24", "ours")
	w.arrives(ctx, "ours")
	far := w.run(ctx, w.Hosts[1], "first2", "--network", "web")
	c.reaches(ctx, t, far.addr)
	w.docker(ctx, h, "rm", "-f", "first1")
	w.docker(ctx, w.Hosts[1], "rm", "-f", "first2")
	if state := fmt.Sprint(w.docker(ctx, h, "network", "ls", "--format", "{{.Name}}")); !strings.Contains(state, "ours") {
		t.Errorf("networks of the first engine: %s", state)
	}
}
