package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

const (
	// settleLimit is how long after a fault everything may take to be as it must be: the look that finds it so begins by then. Moments in
	// which programs of this machine wait for a core do not count.
	settleLimit = 10 * time.Second
	// lookLimit bounds that, whoever waits, and how long the look takes.
	lookLimit = time.Minute
	// quietLimit is the last resort where no limit is stated.
	quietLimit = 90 * time.Second
	// grace is how long agents here let what nobody needs be. Docker never repeats that something is gone, so that they must wait until
	// no start of a container can still be under way; they wait longer where no test waits for them.
	grace = 3 * time.Second
)

// expected is the state that follows from what runs: what anybody would compute who knows nothing but what Docker runs and what networks
// the cluster has.
type expected struct {
	hosts    []string
	running  []container
	networks map[string]clusterNetwork    // by the cluster's ids
	docker   map[string]map[string]string // by host: names of networks by Docker's ids
	vteps    map[string]string            // by host
	kernel   bool                         // tunnels are the kernel's
}

// compare computes what must be and looks at what is.
func (w *world) compare(ctx context.Context) (e expected, err error) {
	if e, err = w.expect(ctx); err != nil {
		return e, err
	}
	r, err := w.readRecords(ctx)
	if err != nil {
		return e, err
	}
	e.networks, e.vteps = r.networks, r.vteps
	used := map[string]bool{}
	for _, p := range e.places() {
		r.needed[p.addr], used[p.network] = true, true
	}
	maps.DeleteFunc(e.networks, func(id string, n clusterNetwork) bool { return n.State == removing && !used[id] })
	if e.docker, err = w.dockerNetworks(ctx); err != nil {
		return e, err
	}
	have, err := w.look(ctx, r, e.docker)
	if err != nil {
		return e, err
	}
	return e, e.facts().differ(have)
}

// expect asks Docker what runs.
func (w *world) expect(ctx context.Context) (e expected, err error) {
	e.kernel = w.tunnel != lab.TunnelOVS
	for _, h := range w.Hosts {
		e.hosts = append(e.hosts, h.Name)
	}
	var mu sync.Mutex
	return e, w.each(func(h *lab.Host) error {
		found, err := containers(ctx, h)
		mu.Lock()
		defer mu.Unlock()
		e.running = append(e.running, found...)
		return err
	})
}

// dockerNetworks are the names of our networks by their ids, by host.
func (w *world) dockerNetworks(ctx context.Context) (map[string]map[string]string, error) {
	all := map[string]map[string]string{}
	var mu sync.Mutex
	return all, w.each(func(h *lab.Host) error {
		out, err := h.Docker(ctx, "network", "ls", "--no-trunc", "--filter", "driver=socketplane", "--format", "{{.ID}} {{.Name}}")
		mu.Lock()
		defer mu.Unlock()
		all[h.Name] = map[string]string{}
		for line := range strings.Lines(out) {
			id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
			all[h.Name][id] = name
		}
		return err
	})
}

func put(m map[string]map[string]bool, key, value string) {
	if m[key] == nil {
		m[key] = map[string]bool{}
	}
	m[key][value] = true
}

// settle demands that in time everything is as a fresh computation says, and every container is reached.
func (w *world) settle(ctx context.Context, what string) {
	// Docker starts again what it lost with its daemon, in its own time.
	if err := w.waitFor(ctx, time.Minute, func(ctx context.Context) error { _, err := w.steady(ctx); return err }); err != nil {
		w.t.Errorf("%s: docker did not start its containers again: %v", what, err)
		return
	}
	began, waits := time.Now(), stalled()
	w.last = nil
	var e expected
	var took, counted time.Duration
	err := w.waitFor(ctx, lookLimit, func(ctx context.Context) (err error) {
		took = time.Since(began)
		counted = took - (stalled() - waits)
		if e, err = w.compare(ctx); err == nil {
			err = w.reach(ctx, e)
		}
		if err != nil {
			w.last = err // for the report
		}
		return err
	})
	if err != nil {
		w.t.Errorf("%s: the lab does not settle: %v", what, err)
		return
	}
	if counted > settleLimit {
		w.t.Errorf("%s: the lab settled only after %v, of which nobody waited for a core for %v; at last there was: %v", what, took, counted, w.last)
	}
	if took > settleLimit/3 {
		w.t.Logf("  %s: settled after %v, %v without waiting for a core; at last there was: %.500v", what, took, counted, w.last)
	}
	w.worst = max(w.worst, took)
	w.unique(e)
}

// stalled is for how long, since the machine's start, somebody has waited for a core.
func stalled() time.Duration {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0 // a kernel that does not count it
	}
	_, total, _ := strings.Cut(strings.SplitN(string(text), "\n", 2)[0], "total=")
	us, err := strconv.ParseInt(total, 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}

// unique demands that no address is there twice in what Docker says at rest.
func (w *world) unique(e expected) {
	holders := map[string]string{}
	for _, c := range e.running {
		me := c.h.Name + "/" + c.name
		for network, a := range c.on {
			key := network + " " + a.IPAddress
			if other, held := holders[key]; held {
				w.t.Errorf("an address is there twice: %s at %s and %s", key, me, other)
			}
			holders[key] = me
		}
	}
	w.addrs.mu.Lock()
	defer w.addrs.mu.Unlock()
	w.addrs.holders = holders
}

// reach pings round each network: every container the next one.
func (w *world) reach(ctx context.Context, e expected) error {
	members := map[string][]container{}
	for _, c := range e.running {
		for network := range c.on {
			members[network] = append(members[network], c)
		}
	}
	var g errgroup.Group
	g.SetLimit(4)
	for network, all := range members {
		slices.SortFunc(all, func(a, b container) int { return strings.Compare(a.h.Name+a.name, b.h.Name+b.name) })
		for i, c := range all {
			next := all[(i+1)%len(all)]
			g.Go(func() error {
				if err := answered(ctx, c, next.on[network].IPAddress); err != nil {
					return fmt.Errorf("%s/%s does not reach %s/%s on %s: %w", c.h.Name, c.name, next.h.Name, next.name, network, err)
				}
				return nil
			})
		}
	}
	return g.Wait()
}

// fresh demands that the flows are those that agents compute which have just started.
func (w *world) fresh(ctx context.Context, what string) {
	var different string
	err := w.waitFor(ctx, quietLimit, func(ctx context.Context) error {
		before, err := w.flows(ctx)
		if err != nil {
			return err
		}
		if err := w.each(func(h *lab.Host) error { return errors.Join(h.StopAgent(), w.startAgent(ctx, h)) }); err != nil {
			return err
		}
		return w.waitFor(ctx, lookLimit, func(ctx context.Context) error {
			now, err := w.flows(ctx)
			if err != nil {
				return err
			}
			if different = lab.Compare(before, now); different != "" {
				return fmt.Errorf("agents that start anew have other flows:\n%s", different)
			}
			return nil
		})
	})
	if err != nil {
		w.t.Errorf("%s: %v", what, err)
	}
}

// flows are those of all hosts, without the generation.
func (w *world) flows(ctx context.Context) (string, error) {
	texts := make([]string, len(w.Hosts))
	var g errgroup.Group
	for i, h := range w.Hosts {
		g.Go(func() error {
			out, err := h.Exec(ctx, "ovs-ofctl", "-OOpenFlow14", "--no-stats", "--names", "dump-flows", "socketplane0")
			lines := strings.Split(regexp.MustCompile(`cookie=0x[0-9a-f]+, `).ReplaceAllString(out, ""), "\n")
			texts[i] = "== " + h.Name + "\n" + strings.Join(lines, "\n") + "\n"
			return err
		})
	}
	err := g.Wait()
	return strings.Join(texts, ""), err
}

// sameAs demands that the lab is as it was.
func (w *world) sameAs(ctx context.Context, before string) error {
	if different := lab.Compare(before, w.view(ctx)); different != "" {
		return fmt.Errorf("the lab is not as it was before (-) but (+):\n%s", different)
	}
	return nil
}
