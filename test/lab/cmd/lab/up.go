package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// up starts the lab and shows it at work. When a step fails the lab is removed, after the ends of the logs were shown.
func up(ctx context.Context, args []string) error {
	opts, err := flags(args)
	if err != nil {
		return err
	}
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("[%5.1f s] %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	opts.Log = say
	opts.AgentFlags = append([]string{"--mirror=true"}, opts.AgentFlags...) // as users have it: create once
	say("starting %d Docker hosts, with Open vSwitch and a SocketPlane agent each; no agent is told of another", opts.Hosts)
	l, err := lab.Start(ctx, opts)
	if err != nil {
		return err
	}
	if err := show(ctx, l, say); err != nil {
		err = fmt.Errorf("%w\n%s", err, logs(l))
		if closeErr := l.Close(); closeErr != nil {
			err = fmt.Errorf("%w\n%w", err, closeErr)
		}
		return err
	}
	next(l)
	return nil
}

// show does what a user would do first.
func show(ctx context.Context, l *lab.Lab, say func(string, ...any)) error {
	if err := formed(ctx, l, say); err != nil {
		return err
	}
	create := []string{"network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", "10.1.0.0/16", "web"}
	say("on %s alone: docker %s", l.Hosts[0].Name, strings.Join(create, " "))
	if _, err := l.Hosts[0].Docker(ctx, create...); err != nil {
		return err
	}
	for _, h := range l.Hosts[1:] {
		if err := appear(ctx, h, "web"); err != nil {
			return err
		}
		say("%s has it too", h.Name)
	}
	say("on each host: docker run -d --network web --name cN lab iperf3 -s")
	runs, runCtx := errgroup.WithContext(ctx)
	for _, h := range l.Hosts {
		runs.Go(func() error {
			_, err := h.Docker(runCtx, "run", "-d", "--network", "web", "--name", container(h), lab.ImageName, "iperf3", "-s")
			return err
		})
	}
	if err := runs.Wait(); err != nil {
		return err
	}
	addrs := map[*lab.Host]string{}
	for _, h := range l.Hosts {
		out, err := h.Docker(ctx, "inspect", "-f", "{{(index .NetworkSettings.Networks \"web\").IPAddress}}", container(h))
		if err != nil {
			return err
		}
		addrs[h] = strings.TrimSpace(out)
		say("%s on %s has %s", container(h), h.Name, addrs[h])
	}
	if err := pings(ctx, l, addrs, say); err != nil {
		return err
	}
	if len(l.Hosts) > 1 {
		if err := measure(ctx, l.Hosts[0], l.Hosts[1], addrs[l.Hosts[1]], say); err != nil {
			return err
		}
	}
	info, err := l.Hosts[0].SocketPlane(ctx, "info")
	if err != nil {
		return err
	}
	say("on %s: socketplane info", l.Hosts[0].Name)
	fmt.Println(indent(info))
	return nil
}

// formed waits until the hosts have found each other, and shows the cluster.
func formed(ctx context.Context, l *lab.Lab, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var members string
	var last error
	err := testenv.Poll(ctx, 100*time.Millisecond, func() bool {
		for _, h := range l.Hosts {
			members, last = h.SocketPlane(ctx, "cluster", "members", "--quiet")
			if last == nil && len(strings.Fields(members)) != len(l.Hosts) {
				last = fmt.Errorf("%s sees %q", h.Name, members)
			}
			if last != nil {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("the hosts do not become one cluster: %w: %w", err, last)
	}
	if members, err = l.Hosts[0].SocketPlane(ctx, "cluster", "members"); err != nil {
		return err
	}
	say("the hosts have found each other by themselves and are a cluster; on %s: socketplane cluster members", l.Hosts[0].Name)
	fmt.Println(indent(members))
	return nil
}

// appear waits until a host has a network that another one made.
func appear(ctx context.Context, h *lab.Host, network string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var last error
	err := testenv.Poll(ctx, 50*time.Millisecond, func() bool {
		_, last = h.Docker(ctx, "network", "inspect", network)
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("network %s does not appear on %s: %w: %w", network, h.Name, err, last)
	}
	return nil
}

func container(h *lab.Host) string { return "c" + h.Name[1:] }

// pings shows how long each container takes to each other, once they know each other: while Consul's servers of a young cluster grow to
// three, a host may hear of new containers seconds later.
func pings(ctx context.Context, l *lab.Lab, addrs map[*lab.Host]string, say func(string, ...any)) error {
	err := pairs(l.Hosts, func(from, to *lab.Host) error {
		_, err := ping(ctx, from, to, addrs[to], "1")
		return err
	})
	if err != nil {
		return err
	}
	say("each container reaches each other")
	return pairs(l.Hosts, func(from, to *lab.Host) error {
		out, err := ping(ctx, from, to, addrs[to], "3")
		if err == nil {
			lines := strings.Split(out, "\n")
			say("%s pings %s: %s", container(from), container(to), lines[len(lines)-1])
		}
		return err
	})
}

// pairs calls do for each host and each other one, until it fails.
func pairs(hosts []*lab.Host, do func(from, to *lab.Host) error) error {
	for _, from := range hosts {
		for _, to := range hosts {
			if from == to {
				continue
			}
			if err := do(from, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// ping is repeated until all is answered.
func ping(ctx context.Context, from, to *lab.Host, addr, count string) (out string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var last error
	err = testenv.Poll(ctx, 100*time.Millisecond, func() bool {
		out, last = from.Docker(ctx, "exec", container(from), "ping", "-c", count, "-i", "0.2", "-W", "1", addr)
		return last == nil
	})
	if err != nil {
		return "", fmt.Errorf("%s does not reach %s (%s): %w: %w", container(from), container(to), addr, err, last)
	}
	return strings.TrimSpace(out), nil
}

func measure(ctx context.Context, from, to *lab.Host, addr string, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := from.Docker(ctx, "exec", container(from), "iperf3", "-c", addr, "-t", "2", "-f", "g")
	if err != nil {
		return fmt.Errorf("iperf3 from %s to %s: %w", container(from), container(to), err)
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "receiver") {
			say("iperf3 %s to %s: %s", container(from), container(to), strings.Join(strings.Fields(line), " "))
		}
	}
	return nil
}

// logs is the end of every host's agent and engine log.
func logs(l *lab.Lab) string {
	var b strings.Builder
	for _, h := range l.Hosts {
		for _, name := range []string{"agent", "dockerd"} {
			fmt.Fprintf(&b, "--- %s: the end of %s.log\n%s\n", h.Name, name, h.LogTail(name, 12))
		}
	}
	return b.String()
}

func next(l *lab.Lab) {
	fmt.Printf(`
The hosts stay. What next:
  make shell HOST=1      a shell on host 1 (docker, socketplane, ip, ovs-vsctl are that host's own); 2 and 3 likewise
  make demo-status       the hosts and their containers
  make crash HOST=1      ends the agent of host 1 as a crash would
  make agent HOST=1      starts it again
  socketplane cluster members, cluster lock, cluster leave: in such a shell, the cluster that the hosts have formed
  make demo-down         removes it all
Logs are in %s/h1/log.
`, l.Dir())
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ")
}
