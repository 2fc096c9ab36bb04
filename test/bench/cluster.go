package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// Cluster is what the cluster that hosts form by themselves takes.
type Cluster struct {
	Rounds  int
	Machine Machine
	Span    time.Duration
	// Member is from the start of three agents until each is a member and the store answers, Vote until all three servers vote, Join from
	// the start of a fourth agent until it is a member; ms.
	Member, Vote, Join Series
	// Idle is what a host costs that does nothing, by its role.
	Idle []Idle
}

// Idle is one kind of host.
type Idle struct {
	Role          string
	Agent, Consul Idler
	// Packets per second through the host's NIC, both ways.
	Packets float64
}

// Idler is a process: percent of one core, and resident memory in MiB.
type Idler struct{ CPU, MiB float64 }

const (
	clusterRounds = 3 // at most
	voters        = 3
)

// MeasureCluster takes the figures of the cluster only. It needs root.
func MeasureCluster(ctx context.Context, opts Options) (*Cluster, error) {
	w := &world{opts: opts.complete(), began: time.Now()}
	return w.cluster(ctx)
}

// clusterTitle begins the section of the page that a run of its own may replace.
const clusterTitle = "## Clusters without configuration\n"

// Replace writes the cluster's section anew into a page.
func (c *Cluster) Replace(page string) (string, error) {
	return replaceSection(page, clusterTitle, "cluster", c)
}

func (w *world) cluster(ctx context.Context) (c *Cluster, err error) {
	w.say("a cluster that hosts form by themselves")
	c = &Cluster{Rounds: min(w.opts.Rounds, clusterRounds), Machine: machine(ctx), Span: w.opts.Idle}
	l, err := lab.Start(ctx, lab.Options{Name: w.opts.Prefix + "c", Hosts: 4, Cluster: true, NoAgent: true, NoDocker: true,
		Agent: w.opts.Agent, AgentFlags: []string{"--log-level", "info"}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for round := range c.Rounds {
		if round > 0 {
			if err := each(l.Hosts, func(h *lab.Host) error {
				h.Halt()
				if err := h.Wipe(); err != nil {
					return err
				}
				return h.Reboot(ctx)
			}); err != nil {
				return nil, err
			}
		}
		if err := c.form(ctx, l.Hosts); err != nil {
			return nil, err
		}
	}
	select {
	case <-time.After(c.Span / 2): // what forming has begun comes to rest
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return c, c.rest(ctx, l.Hosts)
}

func each(hosts []*lab.Host, do func(*lab.Host) error) error {
	var g errgroup.Group
	for _, h := range hosts {
		g.Go(func() error { return do(h) })
	}
	return g.Wait()
}

// form starts three agents, and then the fourth.
func (c *Cluster) form(ctx context.Context, hosts []*lab.Host) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	began := time.Now()
	if err := each(hosts[:voters], func(h *lab.Host) error { return h.StartAgent(ctx) }); err != nil {
		return err
	}
	if err := await(ctx, hosts[:voters], voters, 0); err != nil {
		return err
	}
	c.Member = append(c.Member, milli(time.Since(began)))
	if err := await(ctx, hosts[:voters], voters, voters); err != nil {
		return err
	}
	c.Vote = append(c.Vote, milli(time.Since(began)))
	began = time.Now()
	if err := hosts[voters].StartAgent(ctx); err != nil {
		return err
	}
	if err := await(ctx, hosts[voters:], len(hosts), 0); err != nil {
		return err
	}
	c.Join = append(c.Join, milli(time.Since(began)))
	return nil
}

// member is a host as the command line tells of it.
type member struct {
	Name, Role   string
	Voter, Alive bool
}

func members(ctx context.Context, h *lab.Host) ([]member, error) {
	out, err := h.SocketPlane(ctx, "cluster", "members", "--format", "json")
	if err != nil {
		return nil, err
	}
	var answer struct{ Members []member }
	return answer.Members, json.Unmarshal([]byte(out), &answer)
}

// await waits until hosts see so many members, all up, and one of them so many votes.
func await(ctx context.Context, hosts []*lab.Host, want, votes int) error {
	var last error
	err := testenv.Poll(ctx, 50*time.Millisecond, func() bool {
		last = nil
		voted := votes == 0
		for _, h := range hosts {
			all, err := members(ctx, h)
			if err != nil {
				last = err
				return false
			}
			up, voting := 0, 0
			for _, m := range all {
				if m.Alive {
					up++
				}
				if m.Voter {
					voting++
				}
			}
			voted = voted || voting == votes
			if up != want {
				last = fmt.Errorf("%s sees %+v", h.Name, all)
				return false
			}
		}
		return voted
	})
	return errors.Join(err, last)
}

// rest looks at hosts that do nothing.
func (c *Cluster) rest(ctx context.Context, hosts []*lab.Host) error {
	all, err := members(ctx, hosts[0])
	if err != nil {
		return err
	}
	role := map[string]string{}
	for _, m := range all {
		role[m.Name] = m.Role
	}
	before, after := map[*lab.Host]effort{}, map[*lab.Host]effort{}
	var mu sync.Mutex
	look := func(into map[*lab.Host]effort) error {
		return each(hosts, func(h *lab.Host) error {
			e, err := effortOf(ctx, h)
			mu.Lock()
			into[h] = e
			mu.Unlock()
			return err
		})
	}
	if err := look(before); err != nil {
		return err
	}
	select {
	case <-time.After(c.Span):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := look(after); err != nil {
		return err
	}
	for _, kind := range []string{"server", "client"} {
		i := Idle{Role: kind}
		n := 0.0
		for _, h := range hosts {
			if role[h.Name] != kind {
				continue
			}
			n++
			a, b := after[h], before[h]
			i.Agent.add(a.agent, b.agent, c.Span)
			i.Consul.add(a.consul, b.consul, c.Span)
			i.Packets += float64(a.packets-b.packets) / c.Span.Seconds()
		}
		if n == 0 {
			return fmt.Errorf("the cluster has no %s: %v", kind, role)
		}
		i.Agent, i.Consul, i.Packets = i.Agent.mean(n), i.Consul.mean(n), i.Packets/n
		c.Idle = append(c.Idle, i)
	}
	return nil
}

// use is what a process has used since its start: seconds of a core, and MiB now.
type use struct{ seconds, mib float64 }

func (i *Idler) add(after, before use, span time.Duration) {
	i.CPU += 100 * (after.seconds - before.seconds) / span.Seconds()
	i.MiB += after.mib
}

func (i Idler) mean(n float64) Idler { return Idler{i.CPU / n, i.MiB / n} }

type effort struct {
	agent, consul use
	packets       int
}

// effortOf reads what a host's agent and Consul have used. Its Consul is the process of that name in its process namespace.
func effortOf(ctx context.Context, h *lab.Host) (effort, error) {
	var e effort
	out, err := h.Exec(ctx, "sh", "-c", "pgrep -x consul; cat /sys/class/net/eth0/statistics/rx_packets /sys/class/net/eth0/statistics/tx_packets")
	if err != nil {
		return e, err
	}
	var numbers []int
	for _, field := range strings.Fields(out) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return e, fmt.Errorf("%s: %w", h.Name, err)
		}
		numbers = append(numbers, n)
	}
	if len(numbers) != 3 {
		return e, fmt.Errorf("%s: %q is not one Consul and two counters", h.Name, out)
	}
	e.packets = numbers[1] + numbers[2]
	stat, err := h.Exec(ctx, "cat", fmt.Sprintf("/proc/%d/stat", numbers[0]))
	if err == nil {
		e.consul, err = used(stat)
	}
	if err != nil {
		return e, err
	}
	own, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(h.AgentPid()), "stat"))
	if err == nil {
		e.agent, err = used(string(own))
	}
	return e, err
}

// used reads proc(5)'s stat: utime and stime in ticks of 10 ms, rss in pages.
func used(stat string) (use, error) {
	_, rest, _ := strings.Cut(stat, ") ")
	f := strings.Fields(rest)
	if len(f) < 22 {
		return use{}, fmt.Errorf("%q is no process's stat", stat)
	}
	var n [3]float64
	for i, at := range []int{11, 12, 21} {
		v, err := strconv.ParseFloat(f[at], 64)
		if err != nil {
			return use{}, fmt.Errorf("stat of a process: %w", err)
		}
		n[i] = v
	}
	return use{seconds: (n[0] + n[1]) / 100, mib: n[2] * float64(os.Getpagesize()) / (1 << 20)}, nil
}
