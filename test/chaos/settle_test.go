package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

const (
	// settleLimit is how long after a fault everything that is wanted may take to be there: the look that finds it begins by then.
	settleLimit = 10 * time.Second
	// lookLimit bounds that look, which takes seconds where several labs share few cores.
	lookLimit = time.Minute
	// quietLimit is how long what nobody needs may stay: Docker never repeats that something is gone, and
	// agents wait until no start of a container can still be under way.
	quietLimit = 90 * time.Second
)

// expected is the state that follows from what runs: what anybody would compute who knows nothing but Docker.
type expected struct {
	running []container
	// macs are those that each host must be able to reach, addrs those that each host must have claimed, both by host.
	macs, addrs map[string]map[string]bool
}

// actual is what the parts of the system have.
type actual struct {
	macs      map[string]map[string]bool // by host: destinations of its unicast flows
	ports     map[string]int             // by host
	published map[string]bool            // MACs in Consul
	claims    map[string]string          // address to the name of its host
}

// expect asks Docker.
func (w *world) expect(ctx context.Context) (e expected, err error) {
	e = expected{macs: map[string]map[string]bool{}, addrs: map[string]map[string]bool{}}
	var mu sync.Mutex
	err = w.each(func(h *lab.Host) error {
		found, err := containers(ctx, h)
		mu.Lock()
		defer mu.Unlock()
		e.running = append(e.running, found...)
		return err
	})
	byNetwork := map[string]map[string]bool{}
	local := map[string]map[string]bool{} // host to networks
	for _, c := range e.running {
		for network, a := range c.on {
			put(byNetwork, network, a.MacAddress)
			put(local, c.h.Name, network)
			put(e.addrs, c.h.Name, a.IPAddress)
		}
	}
	for host, networks := range local {
		for network := range networks {
			for mac := range byNetwork[network] {
				put(e.macs, host, mac)
			}
		}
	}
	return e, err
}

func put(m map[string]map[string]bool, key, value string) {
	if m[key] == nil {
		m[key] = map[string]bool{}
	}
	m[key][value] = true
}

var (
	unicastFlow = regexp.MustCompile(`table=50,.*dl_dst=([0-9a-f:]{17})[ ,]`)
	recordMAC   = regexp.MustCompile(`"mac":"([0-9a-f:]{17})"`)
)

// look asks the switches and Consul.
func (w *world) look(ctx context.Context) (a actual, err error) {
	a = actual{macs: map[string]map[string]bool{}, ports: map[string]int{}, published: map[string]bool{}, claims: map[string]string{}}
	var mu sync.Mutex
	err = w.each(func(h *lab.Host) error {
		flows, err := h.Exec(ctx, "ovs-ofctl", "-OOpenFlow14", "--no-stats", "dump-flows", "socketplane0")
		ports, err2 := h.Exec(ctx, "ovs-vsctl", "--timeout=5", "list-ports", "socketplane0")
		mu.Lock()
		defer mu.Unlock()
		for _, m := range unicastFlow.FindAllStringSubmatch(flows, -1) {
			put(a.macs, h.Name, m[1])
		}
		for _, port := range strings.Fields(ports) {
			if strings.HasPrefix(port, "sph") {
				a.ports[h.Name]++
			}
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		return a, err
	}
	keys, err := w.Consul.Keys(ctx, "socketplane/v1/")
	names := map[string]string{}
	for key, value := range keys {
		var host struct{ Name string }
		if id, ok := strings.CutPrefix(key, "socketplane/v1/hosts/"); ok && json.Unmarshal([]byte(value), &host) == nil {
			names[id] = host.Name
		}
	}
	for key, value := range keys {
		switch {
		case strings.HasPrefix(key, "socketplane/v1/endpoints/"):
			for _, m := range recordMAC.FindAllStringSubmatch(value, -1) {
				a.published[m[1]] = true
			}
		case strings.HasPrefix(key, "socketplane/v1/blocks/"):
			var block struct {
				Claims map[string]struct{ Owner string }
			}
			err = errors.Join(err, json.Unmarshal([]byte(value), &block))
			for addr, claim := range block.Claims {
				a.claims[addr] = names[claim.Owner]
			}
		}
	}
	return a, err
}

// missing is what is wanted and not there.
func (e expected) missing(a actual) error {
	var errs []error
	for host, macs := range e.macs {
		for mac := range macs {
			if !a.macs[host][mac] {
				errs = append(errs, fmt.Errorf("%s can't reach %s", host, mac))
			}
			if !a.published[mac] {
				errs = append(errs, fmt.Errorf("%s is not published", mac))
			}
		}
	}
	for host, addrs := range e.addrs {
		if a.ports[host] < len(addrs) {
			errs = append(errs, fmt.Errorf("%s has %d ports for %d endpoints", host, a.ports[host], len(addrs)))
		}
		for addr := range addrs {
			if a.claims[addr] != host {
				errs = append(errs, fmt.Errorf("%s of %s is claimed by %q", addr, host, a.claims[addr]))
			}
		}
	}
	return errors.Join(errs...)
}

// superfluous is what is there and not wanted.
func (e expected) superfluous(a actual) []string {
	var extra []string
	wanted := map[string]bool{}
	for host, macs := range a.macs {
		for mac := range macs {
			if !e.macs[host][mac] {
				extra = append(extra, "the flow to "+mac+" of "+host)
			}
		}
	}
	for _, macs := range e.macs {
		maps.Copy(wanted, macs)
	}
	for mac := range a.published {
		if !wanted[mac] {
			extra = append(extra, "the record of "+mac)
		}
	}
	for host, n := range a.ports {
		if n > len(e.addrs[host]) {
			extra = append(extra, fmt.Sprintf("%d ports of %s", n-len(e.addrs[host]), host))
		}
	}
	return extra
}

// settle demands that all that is wanted is there in time, and reachable, and that nothing else stays for long.
func (w *world) settle(ctx context.Context, what string) {
	// Docker starts again what it lost with its daemon, in its own time.
	if err := w.waitFor(ctx, time.Minute, func(ctx context.Context) error { _, err := w.steady(ctx); return err }); err != nil {
		w.t.Errorf("%s: docker did not start its containers again: %v", what, err)
		return
	}
	began := time.Now()
	var e expected
	var a actual
	looked := began
	err := w.waitFor(ctx, lookLimit, func(ctx context.Context) (err error) {
		looked = time.Now()
		if e, err = w.expect(ctx); err != nil {
			return err
		}
		if a, err = w.look(ctx); err != nil {
			return err
		}
		if err := e.missing(a); err != nil {
			return err
		}
		return w.reach(ctx, e)
	})
	if err != nil {
		w.t.Errorf("%s: the lab does not settle: %v", what, err)
	}
	if took := looked.Sub(began); took > settleLimit {
		w.t.Errorf("%s: the lab settled only after %v", what, took)
	}
	w.worst = max(w.worst, looked.Sub(began))
	w.unique(e)
	w.note(what, e.superfluous(a))
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

// note keeps account of what nobody needs, and complains when it stays.
func (w *world) note(what string, extra []string) {
	now := time.Now()
	was := w.extra
	w.extra = map[string]time.Time{}
	for _, x := range extra {
		since, known := was[x]
		if !known {
			since = now
		}
		w.extra[x] = since
		if now.Sub(since) > quietLimit {
			w.t.Errorf("%s: nobody needs %s for %v now", what, x, now.Sub(since).Round(time.Second))
		}
	}
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
