package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

func (w *once) firstNetwork(ctx context.Context, t *testing.T) {
	w.have(ctx, t, 30*time.Second, w.Hosts)
	var g errgroup.Group
	for _, h := range w.Hosts {
		g.Go(func() error {
			_, err := h.SocketPlane(ctx, "run", "-d", "--name", "first", lab.ImageName)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var all []*container
	for _, h := range w.Hosts {
		c, err := inspect(ctx, h, "first")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	all[0].reachable(ctx, t, all[1].addr, all[2].addr)
	for _, h := range w.Hosts {
		if err := remove(ctx, h, "first"); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *once) dockerCreates(ctx context.Context, t *testing.T) {
	ours := []string{"--ipam-driver", "socketplane"}
	for i, tt := range []struct {
		name string
		args []string
	}{
		{"ours", ours},
		{"dockers", nil},
		{"dockers-subnet", []string{"--subnet", "10.80.0.0/24"}},
		{"subnet", append(ours, "--subnet", "10.81.0.0/24", "--gateway", "10.81.0.9")},
		{"range", append(ours, "--subnet", "10.82.0.0/24", "--ip-range", "10.82.0.128/25", "--aux-address", "router=10.82.0.130")},
		{"six", append(ours, "--ipv6", "--subnet", "10.83.0.0/24", "--subnet", "fd83::/64")},
		{"dockers-six", []string{"--ipv6", "--subnet", "10.84.0.0/24", "--subnet", "fd84::/64"}},
		{"internal", append(ours, "--internal", "--label", "tier=back", "--label", "x=", "-o", "mtu=1400")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from := w.Hosts[i%len(w.Hosts)]
			w.quick(ctx, t, tt.name, func() error {
				_, err := from.Docker(ctx, append(append([]string{"network", "create", "-d", "socketplane"}, tt.args...), tt.name)...)
				return err
			})
			want, err := w.inspect(ctx, from, tt.name)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range w.Hosts {
				got, err := w.inspect(ctx, h, tt.name)
				if err != nil {
					t.Fatal(err)
				}
				got.IPAM.Driver = want.IPAM.Driver // copies have ours
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s has\n%+v, %s\n%+v", h.Name, got, from.Name, want)
				}
			}
			w.talk(ctx, t, tt.name, from, w.Hosts[(i+1)%len(w.Hosts)])
			if _, err := from.Docker(ctx, "network", "rm", tt.name); err != nil {
				t.Fatal(err)
			}
			w.only(ctx, t, 30*time.Second)
		})
	}
}

// quick demands that a network is on all hosts so soon after the first has it. A machine that stands still gets another try.
func (w *once) quick(ctx context.Context, t *testing.T, name string, create func() error) {
	t.Helper()
	const tries = 5
	for try := 1; ; try++ {
		began := time.Now()
		if err := create(); err != nil {
			t.Fatal(err)
		}
		w.have(ctx, t, 30*time.Second, w.Hosts, name)
		took := w.spread(ctx, t, name, began)
		t.Logf("all hosts have it %v after the first", took.Round(time.Millisecond))
		if took <= soon {
			return
		}
		if try == tries {
			t.Fatalf("%d times it took more than %v", tries, soon)
		}
		w.docker(ctx, t, w.Hosts[0], "network", "rm", name)
		w.only(ctx, t, 30*time.Second)
	}
}

// spread is the time from the first host's event of a network's creation to the last host's: by then Docker lists it. All
// hosts have one clock. What `docker network ls` takes on a busy machine is not ours.
func (w *once) spread(ctx context.Context, t *testing.T, name string, since time.Time) time.Duration {
	t.Helper()
	var all []int64
	for _, h := range w.Hosts {
		// A network is listed a moment before Docker tells of it.
		eventually(ctx, t, 30*time.Second, func(ctx context.Context) error {
			out := w.docker(ctx, t, h, "events", "--since", unix(since), "--until", unix(time.Now()), "--filter", "type=network",
				"--filter", "event=create", "--filter", "network="+name, "--format", "{{.TimeNano}}")
			at, err := strconv.ParseInt(out, 10, 64)
			if err != nil {
				return fmt.Errorf("%s has not one event of %s: %q", h.Name, name, out)
			}
			all = append(all, at)
			return nil
		})
	}
	return time.Duration(slices.Max(all) - slices.Min(all))
}

// unix is a moment as Docker takes it.
func unix(at time.Time) string { return fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond()) }

func (w *once) commandCreates(ctx context.Context, t *testing.T) {
	h := w.Hosts[1]
	w.quick(ctx, t, "cli", func() error {
		out, err := h.SocketPlane(ctx, "network", "create", "--ipv6", "--label", "a=b", "--ip-range", "10.85.1.0/24", "--aux-address", "x=10.85.1.1",
			"cli", "10.85.0.0/16")
		if err != nil || out != "cli\n" {
			return fmt.Errorf("%w %q", err, out)
		}
		for _, h := range w.Hosts { // the command has waited
			if names, err := w.names(ctx, h); err != nil || !slices.Contains(names, "cli") {
				return fmt.Errorf("%s has %v: %w", h.Name, names, err)
			}
		}
		return nil
	})
	for _, h := range w.Hosts {
		n, err := w.inspect(ctx, h, "cli")
		if err != nil || n.Labels["a"] != "b" || !n.EnableIPv6 || len(n.IPAM.Config) != 2 {
			t.Errorf("%s: %v %+v", h.Name, err, n)
		}
	}
	w.talk(ctx, t, "cli", w.Hosts...)
	if out, err := h.SocketPlane(ctx, "network", "create", "cli"); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("created twice: %v %s", err, out)
	}
	if out, err := w.Hosts[2].SocketPlane(ctx, "network", "rm", "cli"); err != nil || out != "cli\n" {
		t.Errorf("%v %q", err, out)
	}
	w.only(ctx, t, 30*time.Second)
}

func (w *once) removed(ctx context.Context, t *testing.T) {
	w.docker(ctx, t, w.Hosts[0], "network", "create", "-d", "socketplane", "--subnet", "10.86.0.0/24", "gone")
	w.have(ctx, t, 30*time.Second, w.Hosts, "gone")
	began := time.Now()
	w.docker(ctx, t, w.Hosts[2], "network", "rm", "gone")
	w.have(ctx, t, 30*time.Second, w.Hosts)
	t.Logf("gone from all hosts %v after docker network rm began", time.Since(began))
	w.only(ctx, t, 30*time.Second)
}

func (w *once) away(ctx context.Context, t *testing.T) {
	h1, h2 := w.Hosts[0], w.Hosts[1]
	w.docker(ctx, t, h1, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "used")
	w.have(ctx, t, 30*time.Second, w.Hosts, "used")
	w.docker(ctx, t, h2, "run", "-d", "--name", "user", "--network", "used", lab.ImageName)
	w.endpoints(ctx, t, "used", 1)
	w.docker(ctx, t, h1, "network", "rm", "used")
	w.have(ctx, t, 30*time.Second, w.Hosts[:1])
	w.have(ctx, t, 30*time.Second, w.Hosts[1:], "used")
	out, err := h1.SocketPlane(ctx, "network", "rm", "used")
	if err == nil || !strings.Contains(err.Error(), "used by containers on h2") {
		t.Errorf("removed in use: %v %s", err, out)
	}
	eventually(ctx, t, 30*time.Second, func(ctx context.Context) error { // the cluster is told after Docker
		out, err := h1.SocketPlane(ctx, "network", "inspect", "used")
		if err == nil && !strings.Contains(out, "away") {
			err = fmt.Errorf("it is not away: %s", out)
		}
		return err
	})
	// It stays away, also over a restart.
	if err := h1.RestartAgent(ctx); err != nil {
		t.Fatal(err)
	}
	w.have(ctx, t, 30*time.Second, w.Hosts[:1])
	if _, err := h1.SocketPlane(ctx, "network", "attach", "used"); err != nil {
		t.Fatal(err)
	}
	w.have(ctx, t, 30*time.Second, w.Hosts, "used")
	w.docker(ctx, t, h2, "rm", "-f", "user")
	w.endpoints(ctx, t, "used", 0)
	w.docker(ctx, t, h1, "network", "rm", "used")
	w.only(ctx, t, 30*time.Second)
}

func (w *once) oneName(ctx context.Context, t *testing.T) {
	var g errgroup.Group
	var made atomic.Int32
	for i, h := range w.Hosts {
		g.Go(func() error {
			_, err := h.Docker(ctx, "network", "create", "-d", "socketplane", "--subnet", fmt.Sprintf("10.9%d.0.0/24", i), "same")
			if err != nil && strings.Contains(err.Error(), "already exists") {
				return nil // another host's was faster here
			}
			made.Add(1)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var subnet string
	eventually(ctx, t, 30*time.Second, func(ctx context.Context) error {
		seen := map[string]bool{}
		for _, h := range w.Hosts {
			names, err := w.names(ctx, h)
			if err != nil || !slices.Equal(names, []string{"same", "socketplane"}) {
				return fmt.Errorf("%s has %v: %w", h.Name, names, err)
			}
			n, err := w.inspect(ctx, h, "same")
			if err != nil {
				return err
			}
			subnet = fmt.Sprint(n.IPAM.Config[0]["Subnet"])
			seen[subnet] = true
		}
		if len(seen) != 1 {
			return fmt.Errorf("there are the subnets %v", seen)
		}
		return nil
	})
	told := ""
	for _, h := range w.Hosts {
		told += h.LogTail("agent", 1000)
	}
	t.Logf("%d of %d hosts created it before they had it", made.Load(), len(w.Hosts))
	if made.Load() > 1 && !strings.Contains(told, "another host created a network of this name first") {
		t.Error("no log tells of the networks that gave way")
	}
	w.talk(ctx, t, "same", w.Hosts...)
	w.docker(ctx, t, w.Hosts[0], "network", "rm", "same")
	w.only(ctx, t, 30*time.Second)
}
