package cluster

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

// run starts a container that does nothing, and comes back after a reboot.
func run(ctx context.Context, h *lab.Host, name, network string, more ...string) error {
	args := append([]string{"run", "-d", "--restart", "always", "--network", network, "--name", name}, more...)
	_, err := h.Docker(ctx, append(args, lab.ImageName)...)
	return err
}

// runs is run until it succeeds: for a moment after its servers have changed a cluster may not be able to give an address.
func (w *world) runs(h *lab.Host, name, network string, more ...string) {
	w.t.Helper()
	w.eventually(name+" runs", patience, func(ctx context.Context) error {
		err := run(ctx, h, name, network, more...)
		if err != nil {
			_, _ = h.Docker(ctx, "rm", "-f", name)
		}
		return err
	})
}

// addrOf is a container's address on a network.
func addrOf(ctx context.Context, h *lab.Host, name, network string) (string, error) {
	out, err := h.Docker(ctx, "inspect", "-f", "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}", name)
	addr := strings.TrimSpace(out)
	if err == nil && addr == "" {
		err = fmt.Errorf("%s on %s has no address", name, h.Name)
	}
	return addr, err
}

// hasNetwork says whether a host's Docker has a network.
func hasNetwork(ctx context.Context, h *lab.Host, network string) error {
	_, err := h.Docker(ctx, "network", "inspect", network)
	return err
}

// talk is a container that pings another all the time.
type talk struct {
	what string
	stop context.CancelFunc
	done chan struct{}
	seen []int
	err  error
}

const talkEvery = 100 * time.Millisecond

// talking begins a talk; quiet ends it and says how long nothing was heard.
func (w *world) talking(from, to *lab.Host, network string) *talk {
	w.t.Helper()
	addr, err := addrOf(w.ctx, to, "c-"+to.Name, network)
	w.must(err)
	ctx, cancel := context.WithCancel(w.ctx)
	k := &talk{what: fmt.Sprintf("c-%s to c-%s", from.Name, to.Name), stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(k.done)
		out, err := from.Docker(ctx, "exec", "c-"+from.Name, "ping", "-n", "-i", "0.1", addr)
		if ctx.Err() == nil {
			k.err = err
		}
		for line := range strings.Lines(out) {
			_, rest, ok := strings.Cut(line, "icmp_seq=")
			if !ok {
				continue
			}
			if n, err := strconv.Atoi(strings.Fields(rest)[0]); err == nil && strings.Contains(line, "time=") {
				k.seen = append(k.seen, n)
			}
		}
	}()
	return k
}

// quiet ends the talk and fails the test if it was interrupted for longer than limit.
func (w *world) quiet(k *talk, limit time.Duration) {
	w.t.Helper()
	k.stop()
	<-k.done
	if k.err != nil || len(k.seen) == 0 {
		w.t.Errorf("%s: %d answers, %v", k.what, len(k.seen), k.err)
		return
	}
	slices.Sort(k.seen)
	gap := 0
	for i := 1; i < len(k.seen); i++ {
		gap = max(gap, k.seen[i]-k.seen[i-1]-1)
	}
	lost := k.seen[len(k.seen)-1] - k.seen[0] + 1 - len(k.seen)
	w.t.Logf("%s: %d answers, %d lost, at most %d in a row", k.what, len(k.seen), lost, gap)
	if time.Duration(gap)*talkEvery > limit {
		w.t.Errorf("%s was interrupted for %v", k.what, time.Duration(gap)*talkEvery)
	}
}

// record is one container's place on a network, as the cluster knows it.
type record struct {
	ID        string
	Network   string
	Host      string
	MAC       string
	Addrs     []string
	Container string
}

type network struct {
	ID    string
	Name  string
	VNI   int
	Pools []string
	Hosts []struct{ Name, State string }
}

// same says whether all hosts see the same networks and containers, which are just those that run, and no two of which have
// an address or a MAC.
func (w *world) same(ctx context.Context, hosts []*lab.Host) error {
	var first string
	running := map[string]int{}
	for _, h := range hosts {
		out, err := h.Docker(ctx, "ps", "--filter", "name=^c-", "--filter", "status=running", "--format", "{{.Names}}")
		if err != nil {
			return err
		}
		for _, name := range strings.Fields(out) {
			running[name]++
		}
	}
	for i, h := range hosts {
		endpoints, err := ask[struct{ Endpoints []record }](ctx, h, "endpoint", "ls")
		if err != nil {
			return err
		}
		networks, err := ask[struct{ Networks []network }](ctx, h, "network", "ls")
		if err != nil {
			return err
		}
		var lines []string
		owner, known := map[string]string{}, map[string]int{}
		for _, e := range endpoints.Endpoints {
			for _, what := range append([]string{e.MAC}, e.Addrs...) {
				if other, twice := owner[e.Network+" "+what]; twice {
					return fmt.Errorf("%s: %s of network %s is given twice: to %s and %s", h.Name, what, e.Network, other, e.Container)
				}
				owner[e.Network+" "+what] = e.Container
			}
			known[e.Container]++
			lines = append(lines, fmt.Sprint(e))
		}
		names := map[string]bool{}
		for _, n := range networks.Networks {
			if names[n.Name] {
				return fmt.Errorf("%s sees network %s twice", h.Name, n.Name)
			}
			names[n.Name] = true
			lines = append(lines, fmt.Sprint(n))
		}
		slices.Sort(lines)
		if text := strings.Join(lines, "\n"); i == 0 {
			first = text
		} else if text != first {
			return fmt.Errorf("%s sees\n%s\nand %s\n%s", hosts[0].Name, first, h.Name, text)
		}
		for name := range running {
			if known[name] == 0 {
				return fmt.Errorf("%s does not know of %s", h.Name, name)
			}
		}
		for name, n := range known {
			if running[name] == 0 || n > 1 {
				return fmt.Errorf("%s knows %s %d times; it runs %d times", h.Name, name, n, running[name])
			}
		}
	}
	return nil
}

// allReach says whether every container reaches every other.
func allReach(ctx context.Context, hosts []*lab.Host, network string) error {
	var addrs []string
	for _, h := range hosts {
		addr, err := addrOf(ctx, h, "c-"+h.Name, network)
		if err != nil {
			return err
		}
		addrs = append(addrs, addr)
	}
	script := "for a in " + strings.Join(addrs, " ") + "; do ping -c 1 -W 1 $a >/dev/null || { echo \"does not reach $a\" >&2; exit 1; }; done"
	var g errgroup.Group
	for _, h := range hosts {
		g.Go(func() error {
			_, err := h.Docker(ctx, "exec", "c-"+h.Name, "sh", "-c", script)
			return err
		})
	}
	return g.Wait()
}
