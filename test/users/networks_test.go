package users

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

// soon bounds what users expect within a second or two, on a machine whose cores several hosts share.
const soon = 5 * time.Second

// TestCoreNetworks: what becomes of networks that users create, name, prune and remove on several hosts.
func TestCoreNetworks(t *testing.T) {
	ctx := limit(t, 4*time.Minute)
	w := fresh(ctx, t, func(o *lab.Options) { o.AgentFlags = []string{"--mirror=true", "--default-network=none"} })
	for _, c := range []struct {
		name string
		do   func(context.Context, *testing.T, *world)
	}{
		{"names", oddNames}, {"connect", connectIsTold}, {"prune", pruned}, {"families", families}, {"one subnet in two projects", oneSubnet},
	} {
		if !t.Run(c.name, func(t *testing.T) {
			w := &world{Lab: w.Lab, t: t, engine: w.engine}
			c.do(ctx, t, w)
			w.only(ctx)
		}) {
			return // the next one would find what this one left
		}
	}
}

// networks are the names of our driver's networks on a host, sorted.
func networks(ctx context.Context, h *lab.Host) ([]string, error) {
	out, err := h.Docker(ctx, "network", "ls", "--filter", "driver=socketplane", "--format", "{{json .Name}}")
	var names []string
	for line := range strings.Lines(out) {
		var name string
		if err := json.Unmarshal([]byte(line), &name); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, err
}

// only waits until all hosts have exactly these networks of ours.
func (w *world) only(ctx context.Context, want ...string) {
	w.t.Helper()
	w.onlyOn(ctx, w.Hosts, want...)
}

func (w *world) onlyOn(ctx context.Context, hosts []*lab.Host, want ...string) {
	w.t.Helper()
	want = slices.Sorted(slices.Values(want))
	eventually(ctx, w.t, patience, func(ctx context.Context) error {
		for _, h := range hosts {
			if got, err := networks(ctx, h); err != nil || !slices.Equal(got, want) {
				return fmt.Errorf("%s has %.200q, want %.200q: %w", h.Name, got, want, err)
			}
		}
		return nil
	})
}

// inspected is what `socketplane network inspect` says on a host.
type inspected struct {
	ID, Trouble, Note string
	Containers        []struct{ Host, Container string }
}

func inspect(ctx context.Context, h *lab.Host, network string) (n inspected, err error) {
	out, err := h.SocketPlane(ctx, "network", "inspect", network, "--format", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &n)
	}
	return n, err
}

// oddNames covers networks whose names other plugins' stores and URLs choked on (moby#27449, moby#29829, moby#21401).
func oddNames(ctx context.Context, t *testing.T, w *world) {
	names := []string{"load 100%", "a//b", "x/../y", "trailing ", strings.Repeat("n", 600), "Größe", "web"}
	ids := map[string]string{}
	for i, name := range names {
		ids[name] = w.docker(ctx, w.Hosts[i%3], "network", "create", "-d", "socketplane", "--subnet", fmt.Sprintf("10.73.%d.0/24", i), name)
	}
	w.only(ctx, names...)
	n, err := inspect(ctx, w.Hosts[0], "web")
	if err != nil || n.Trouble != "" {
		t.Fatalf("%+v, %v", n, err)
	}
	// Another network's id is a name too, and says nothing any more to commands that take one.
	twin := w.docker(ctx, w.Hosts[1], "network", "create", "-d", "socketplane", "--subnet", "10.73.100.0/24", n.ID)
	w.only(ctx, append(names, n.ID)...)
	if out, err := w.Hosts[0].SocketPlane(ctx, "network", "rm", n.ID); err == nil || !strings.Contains(err.Error(), "the name of one network") {
		t.Errorf("a text that means two networks: %s, %v", out, err)
	}
	w.docker(ctx, w.Hosts[1], "network", "rm", twin)
	w.only(ctx, names...)
	for _, name := range names[:3] {
		if _, err := w.Hosts[2].SocketPlane(ctx, "network", "rm", name); err != nil {
			t.Error(err)
		}
	}
	for i, name := range names[3:] {
		w.docker(ctx, w.Hosts[(i+3)%3], "network", "rm", ids[name])
	}
}

// connectIsTold: who is connected to a network is known by name on other hosts within a second, as who is started on it.
func connectIsTold(ctx context.Context, t *testing.T, w *world) {
	h, other := w.Hosts[0], w.Hosts[1]
	w.docker(ctx, h, "network", "create", "-d", "socketplane", "--subnet", "10.74.0.0/24", "web")
	w.only(ctx, "web")
	told := func(want string) time.Duration {
		t.Helper()
		began := time.Now()
		eventually(ctx, t, patience, func(ctx context.Context) error {
			n, err := inspect(ctx, other, "web")
			if got := fmt.Sprint(n.Containers); err != nil || got != want {
				return fmt.Errorf("%s knows %s, want %s: %w", other.Name, got, want, err)
			}
			return nil
		})
		return time.Since(began)
	}
	for i := range 3 {
		name := fmt.Sprint("late", i)
		w.docker(ctx, h, "run", "-d", "--name", name, lab.ImageName)
		w.docker(ctx, h, "network", "connect", "web", name)
		if took := told(fmt.Sprintf("[{%s %s}]", h.Name, name)); took > time.Second {
			t.Errorf("it took %v until %s knew the name of %s", took, other.Name, name)
		}
		w.docker(ctx, h, "network", "disconnect", "web", name)
		told("[]")
		w.docker(ctx, h, "rm", "-f", name)
	}
	w.docker(ctx, other, "network", "rm", "web")
}

// pruned covers shared networks that a prune removes (dcos/dcos#6473, moby#33259): what only idles on a host is kept.
func pruned(ctx context.Context, t *testing.T, w *world) {
	h, other := w.Hosts[0], w.Hosts[1]
	for i, name := range []string{"idle", "used"} {
		w.docker(ctx, h, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", fmt.Sprintf("10.75.%d.0/24", i), name)
	}
	w.only(ctx, "idle", "used")
	there := w.run(ctx, other, "there", "--network", "used")
	for _, prune := range [][]string{{"network", "prune", "-f"}, {"system", "prune", "-f"}} {
		for _, network := range []string{"idle", "used"} {
			if n, err := inspect(ctx, other, network); err != nil {
				t.Fatalf("%+v, %v", n, err)
			}
		}
		out := w.docker(ctx, h, prune...)
		if !strings.Contains(out, "idle") || !strings.Contains(out, "used") {
			t.Errorf("docker %v: %s", prune, out)
		}
		w.only(ctx, "idle", "used")
		if n, err := inspect(ctx, h, "idle"); err != nil || !strings.Contains(n.Note, "docker pruned it on this host") {
			t.Errorf("inspect on the host that pruned: %+v, %v", n, err)
		}
		here := w.run(ctx, h, "here", "--network", "used")
		here.reaches(ctx, t, there.addr)
		w.docker(ctx, h, "rm", "-f", "here")
	}
	w.docker(ctx, other, "rm", "-f", "there")
	eventually(ctx, t, patience, func(ctx context.Context) error {
		n, err := inspect(ctx, h, "used")
		if err == nil && len(n.Containers) > 0 {
			err = fmt.Errorf("%v are on it", n.Containers)
		}
		return err
	})
	// A user's removal is everybody's, also right before a prune.
	began := time.Now()
	w.docker(ctx, h, "network", "rm", "idle")
	w.docker(ctx, h, "network", "prune", "-f")
	w.only(ctx, "used")
	if took := time.Since(began); took > soon {
		t.Errorf("it took %v until a removed network was gone from all hosts", took)
	}
	if _, err := other.SocketPlane(ctx, "network", "rm", "used"); err != nil {
		t.Error(err)
	}
}

// families covers networks without IPv4 (moby#32850, moby#37798, libnetwork#1731): a copy has the families of the original, and an engine that
// can't have it says so once.
func families(ctx context.Context, t *testing.T, w *world) {
	h := w.Hosts[0]
	w.docker(ctx, h, "network", "create", "-d", "socketplane", "--ipv6", "--subnet", "10.76.0.0/24", "--subnet", "fd00:76::/64", "both")
	w.docker(ctx, w.Hosts[1], "network", "create", "-d", "socketplane", "--subnet", "10.77.0.0/24", "four")
	if got := fmt.Sprint(w.arrives(ctx, "both")); got != "[10.76.0.0/24 fd00:76::/64]" {
		t.Errorf("both has %s", got)
	}
	if got := fmt.Sprint(w.arrives(ctx, "four")); got != "[10.77.0.0/24]" {
		t.Errorf("four has %s", got)
	}
	if w.engine == lab.EngineCurrent {
		sixOnly(ctx, t, w)
	} else {
		noSixOnly(ctx, t, w)
	}
	for _, name := range []string{"both", "four", "six"} {
		if _, err := h.SocketPlane(ctx, "network", "rm", name); err != nil {
			t.Error(err)
		}
	}
}

func sixOnly(ctx context.Context, t *testing.T, w *world) {
	if _, err := w.Hosts[1].SocketPlane(ctx, "network", "create", "six", "fd00:9::/64"); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(w.arrives(ctx, "six")); got != "[fd00:9::/64]" {
		t.Errorf("six has %s", got)
	}
	all := w.runOnEach(ctx, "six", "six")
	w.talk(ctx, all)
	for _, c := range all {
		if c.addr.IsValid() {
			t.Errorf("%s on %s has the IPv4 address %s", c.name, c.h.Name, c.addr)
		}
		w.docker(ctx, c.h, "rm", "-f", "six")
	}
	w.docker(ctx, w.Hosts[0], "network", "create", "-d", "socketplane", "--ipv4=false", "--ipv6", "--subnet", "fd00:a::/64", "dockers-six")
	if got := fmt.Sprint(w.arrives(ctx, "dockers-six")); got != "[fd00:a::/64]" {
		t.Errorf("dockers-six has %s", got)
	}
	w.docker(ctx, w.Hosts[2], "network", "rm", "dockers-six")
}

func noSixOnly(ctx context.Context, t *testing.T, w *world) {
	h := w.Hosts[0]
	const cure = "upgrade Docker to 28 or later here, or create the network with an IPv4 subnet"
	if out, err := h.SocketPlane(ctx, "network", "create", "--wait", "3s", "six", "fd00:9::/64"); err == nil || !strings.Contains(err.Error(), cure) {
		t.Errorf("socketplane network create six: %s, %v", out, err)
	}
	for _, h := range w.Hosts {
		eventually(ctx, t, patience, func(ctx context.Context) error {
			n, err := inspect(ctx, h, "six")
			if err == nil && !strings.Contains(n.Trouble, cure) {
				err = fmt.Errorf("the trouble on %s is %q", h.Name, n.Trouble)
			}
			return err
		})
	}
	w.docker(ctx, w.Hosts[2], "network", "create", "-d", "socketplane", "--subnet", "10.78.0.0/24", "after")
	w.arrives(ctx, "after")
	w.docker(ctx, w.Hosts[2], "network", "rm", "after")
	for _, h := range w.Hosts {
		if n := strings.Count(h.LogTail("agent", 2000), cure); n != 1 {
			t.Errorf("the agent of %s says %d times why it has no copy", h.Name, n)
		}
	}
}

// oneSubnet covers two projects that choose one subnet (moby#21329, moby#28375): whatever the order, they never talk
// to each other, and the cure of one leaves the other alone.
func oneSubnet(ctx context.Context, t *testing.T, w *world) {
	for i, ipam := range [][]string{{"--ipam-driver", "socketplane"}, nil} {
		var group errgroup.Group
		create := append([]string{"network", "create", "-d", "socketplane", "--subnet", fmt.Sprintf("10.79.%d.0/24", i)}, ipam...)
		names := []string{"blue", "red"}
		made := make([]bool, 2)
		for j, name := range names {
			group.Go(func() error {
				_, err := w.Hosts[j].Docker(ctx, append(slices.Clone(create), name)...)
				if made[j] = err == nil; !made[j] { // the first one's copy was faster
					return nil
				}
				_, _ = w.Hosts[j].Docker(ctx, "run", "-d", "--name", name, "--network", name, lab.ImageName)
				return nil
			})
		}
		_ = group.Wait() // which of them are refused is looked at below
		if !made[0] && !made[1] {
			t.Fatal("neither network could be made")
		}
		w.apart(ctx, t, names)
	}
}

// apart demands that of two networks one is the cluster's, and the other is cut off or was never made.
func (w *world) apart(ctx context.Context, t *testing.T, names []string) {
	winner := ""
	eventually(ctx, t, patience, func(ctx context.Context) error {
		out, err := w.Hosts[2].SocketPlane(ctx, "network", "ls", "-q")
		winner = strings.TrimSpace(out)
		if err == nil && !slices.Contains(names, winner) {
			err = fmt.Errorf("the cluster has %q", winner)
		}
		return err
	})
	w.onlyOn(ctx, w.Hosts[2:], winner)
	won := slices.Index(names, winner)
	h, loser := w.Hosts[1-won], names[1-won]
	before, err := inspect(ctx, w.Hosts[2], winner)
	if err != nil {
		t.Fatal(err)
	}
	here, err := networks(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(here, loser) {
		eventually(ctx, t, patience, func(ctx context.Context) error {
			n, err := inspect(ctx, h, winner)
			if err == nil && !strings.Contains(n.Trouble, "'docker network rm "+loser+"'") {
				err = fmt.Errorf("%s says %q", h.Name, n.Trouble)
			}
			return err
		})
		w.refused(ctx, h, []string{"docker network rm " + loser}, "run", "--rm", "--network", loser, lab.ImageName, "true")
		w.cured(ctx, t, h, loser)
	}
	w.only(ctx, winner)
	after, err := inspect(ctx, w.Hosts[2], winner)
	if err != nil || after.ID != before.ID {
		t.Errorf("the cure changed the other network: %+v, before %+v: %v", after, before, err)
	}
	for _, c := range after.Containers {
		if c.Container == loser {
			t.Errorf("the container of %s is on %s", loser, winner)
		}
	}
	_, _ = w.Hosts[won].Docker(ctx, "rm", "-f", winner)
	eventually(ctx, t, patience, func(ctx context.Context) error {
		_, err := w.Hosts[2].SocketPlane(ctx, "network", "rm", winner)
		return err
	})
	w.only(ctx)
}

// cured does what the trouble says, with a container of the winner's watching.
func (w *world) cured(ctx context.Context, t *testing.T, h *lab.Host, loser string) {
	_, _ = h.Docker(ctx, "rm", "-f", loser) // if it was made before the names were known
	w.docker(ctx, h, "network", "rm", loser)
	here, err := networks(ctx, h)
	if err != nil || slices.Contains(here, loser) {
		t.Errorf("%s has %v, %v", h.Name, here, err)
	}
}
