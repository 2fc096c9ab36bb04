package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// TestAloneThenTogether: hosts that began alone, with a file each, join a cluster later. What they have comes along, under containers that
// run; a name that is taken there is refused before anything changes.
func TestAloneThenTogether(t *testing.T) {
	w := start(t, 8*time.Minute, lab.Options{Hosts: 3, NoAgent: true, AgentFlags: flags})
	first, second, third := w.Hosts[0], w.Hosts[1], w.Hosts[2]
	alone := "--store=bolt"
	w.each(w.Hosts[1:], func(h *lab.Host) error { return h.StartAgent(w.ctx, alone) })
	w.must(first.StartAgent(w.ctx))
	w.each(w.Hosts, func(h *lab.Host) error { return h.WaitReady(w.ctx) })
	w.eventually("the first host is a cluster", patience, func(ctx context.Context) error { return formed(ctx, w.Hosts[:1], 1) })

	// The same name on two of them, and one that is nobody else's.
	for h, network := range map[*lab.Host]string{first: web, second: "mine", third: web} {
		_, _, err := w.insist(h, "has a network "+network+" already", "network", "create", network, fmt.Sprintf("10.%d.0.0/16", 60+h.Addr.As4()[3]))
		w.must(err)
		w.runs(h, "c-"+h.Name, network)
	}
	addr, err := addrOf(w.ctx, second, "c-"+second.Name, "mine")
	w.must(err)

	w.must(second.RestartAgent(w.ctx))
	w.eventually("the second host has joined with its networks", patience, func(ctx context.Context) error {
		if err := formed(ctx, w.Hosts[:2], 1); err != nil {
			return err
		}
		for _, h := range w.Hosts[:2] {
			for _, network := range []string{web, "mine", "socketplane"} {
				if err := hasNetwork(ctx, h, network); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if now, err := addrOf(w.ctx, second, "c-"+second.Name, "mine"); err != nil || now != addr {
		t.Errorf("its container has %s, had %s: %v", now, addr, err)
	}
	w.runs(first, "c-extra", "mine")
	w.eventually("its container is reached from the other host", patience, func(ctx context.Context) error {
		_, err := first.Docker(ctx, "exec", "c-extra", "ping", "-c", "1", "-W", "1", addr)
		return err
	})
	w.eventually("both see the same", patience, func(ctx context.Context) error { return w.same(ctx, w.Hosts[:2]) })

	before, err := third.Docker(w.ctx, "network", "inspect", web)
	w.must(err)
	w.must(third.RestartAgent(w.ctx))
	w.eventually("the third host is told what collides", patience, func(ctx context.Context) error {
		s, err := statusOf(ctx, third)
		if err == nil && !strings.Contains(s.Trouble, "another network "+web) {
			err = fmt.Errorf("it says %q", s.Trouble)
		}
		return err
	})
	if after, err := third.Docker(w.ctx, "network", "inspect", web); err != nil || after != before {
		t.Errorf("its network was touched: %v\n%s\nwas\n%s", err, after, before)
	}
	own, err := ask[struct{ Networks []network }](w.ctx, first, "network", "ls")
	w.must(err)
	for _, n := range own.Networks {
		for _, h := range n.Hosts {
			if h.Name == third.Name && h.State == "present" {
				t.Errorf("the cluster has %s of the host that was refused: %+v", n.Name, n)
			}
		}
	}
	if _, _, err := w.insist(third, "", "cluster", "join", first.Addr.String()); err == nil || !strings.Contains(err.Error(), "another network "+web) {
		t.Errorf("joining all the same was answered by %v, want an error that names the network", err)
	}
	// What collides is removed, and the host can join.
	_, err = third.Docker(w.ctx, "rm", "-f", "c-"+third.Name)
	w.must(err)
	w.eventually("its network goes", patience, func(ctx context.Context) error {
		if _, err := third.Docker(ctx, "network", "rm", web); err != nil && !strings.Contains(err.Error(), "not found") && !strings.Contains(err.Error(), "No such network") {
			return err
		}
		return nil
	})
	w.eventually("it is let in, once the cluster of its own knows that its network has gone", patience, func(context.Context) error {
		_, _, err := w.insist(third, inCluster, "cluster", "join", first.Addr.String())
		return err
	})
	w.eventually("the third host has joined", patience, func(ctx context.Context) error { return formed(ctx, w.Hosts, 3) })
	w.eventually("it has the cluster's networks", patience, func(ctx context.Context) error { return hasNetwork(ctx, third, "mine") })
	w.runs(third, "c-"+third.Name, "mine")
	w.eventually("nothing is lost or doubled", patience, func(ctx context.Context) error { return w.same(ctx, w.Hosts) })
}
