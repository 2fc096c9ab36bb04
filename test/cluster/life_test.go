package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// Times of the tests. A server that is down gives its place away sooner than users would have it.
const (
	graceFlag = "--server-grace=8s"
	// unheard is how long two containers that stay may not hear each other: one lost packet is the busy machine's, seconds are ours.
	unheard = time.Second
)

const web = "web"

// flags are what the agents of this test have.
var flags = []string{"--mirror=true", graceFlag}

// TestLife is a cluster from its first three hosts on, with containers that talk throughout. Each part leaves it whole.
func TestLife(t *testing.T) {
	w := start(t, 20*time.Minute, lab.Options{Hosts: 3, NoAgent: true, AgentFlags: flags})
	for _, part := range []struct {
		name string
		do   func(*world)
	}{
		{"three_hosts_form", threeForm},
		{"a_fourth_joins", fourthJoins},
		{"keys_rotate", keysRotate},
		{"one_of_three_servers_is_lost", oneOfThree},
		{"a_fifth_joins", fifthJoins},
		{"the_leaders_host_dies", leaderDies},
		{"two_of_five_servers_are_lost", twoOfFive},
		{"the_underlay_is_parted", parted},
		{"all_reboot", allReboot},
		{"a_host_leaves_and_joins", leaves},
		{"a_removed_host_comes_back", removed},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			began := time.Now()
			part.do(w.with(t))
			t.Logf("took %.0f s", time.Since(began).Seconds())
		})
		if !ok {
			return // what follows builds on it
		}
	}
}

// whole waits until the hosts are one cluster that all see alike, and whose containers reach each other.
func (w *world) whole(servers int) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%d hosts are one cluster with %d servers", len(w.Hosts), servers), patience, func(ctx context.Context) error {
		return formed(ctx, w.Hosts, servers)
	})
	w.eventually("nothing is lost or doubled", patience, func(ctx context.Context) error { return w.same(ctx, w.Hosts) })
	w.eventually("all containers reach each other", patience, func(ctx context.Context) error { return allReach(ctx, w.Hosts, web) })
}

func threeForm(w *world) {
	w.each(w.Hosts, func(h *lab.Host) error { return h.StartAgent(w.ctx) })
	w.eventually("three hosts form a cluster after the last start (10 s on a machine of its own)", patience, func(ctx context.Context) error {
		return formed(ctx, w.Hosts, 0)
	})
	w.each(w.Hosts, func(h *lab.Host) error { return h.WaitReady(w.ctx) })
	_, _, err := w.insist(w.Hosts[0], "has a network "+web+" already", "network", "create", web, "10.1.0.0/16")
	w.must(err)
	for _, h := range w.Hosts {
		w.runs(h, "c-"+h.Name, web)
	}
	w.whole(3)
}

// join starts a new host's agent and waits until it has all networks.
func (w *world) join() *lab.Host {
	w.t.Helper()
	h, err := w.AddHost(w.ctx)
	w.must(err)
	w.must(h.StartAgent(w.ctx))
	w.eventually(h.Name+" has all networks after its start (5 s on a machine of its own)", patience, func(ctx context.Context) error {
		for _, network := range []string{web, "socketplane"} {
			if err := hasNetwork(ctx, h, network); err != nil {
				return err
			}
		}
		return nil
	})
	w.must(h.WaitReady(w.ctx))
	w.runs(h, "c-"+h.Name, web)
	return h
}

func fourthJoins(w *world) {
	w.join()
	w.whole(3)
}

func fifthJoins(w *world) {
	w.join()
	w.whole(5)
}

// restart brings halted hosts back as systemd would: the agent's socket is there before Docker, which starts its containers then.
func (w *world) restart(hosts ...*lab.Host) {
	w.t.Helper()
	w.each(hosts, func(h *lab.Host) error {
		if err := h.Reboot(w.ctx, func(ctx context.Context) error { return h.StartAgent(ctx) }); err != nil {
			return err
		}
		return h.WaitReady(w.ctx)
	})
}

// survive does something to hosts while the others' containers talk and new ones start.
func (w *world) survive(victims []*lab.Host, harm func()) {
	w.t.Helper()
	rest := except(w.Hosts, victims...)
	talks := []*talk{w.talking(rest[0], rest[1], web), w.talking(rest[1], rest[0], web)}
	harm()
	began := time.Now()
	w.must(run(w.ctx, rest[0], "c-spare", web))
	w.t.Logf("a new container started %.1f s after, from spare addresses if need be", time.Since(began).Seconds())
	w.eventually("the cluster takes changes again", patience, func(ctx context.Context) error {
		_, err := rest[0].SocketPlane(ctx, "network", "create", "--wait", "0", "during")
		if err != nil && strings.Contains(err.Error(), "has a network during already") {
			return nil // the answer to the one before was lost
		}
		return err
	})
	w.eventually("the other hosts have the new network", patience, func(ctx context.Context) error {
		for _, h := range rest {
			if err := hasNetwork(ctx, h, "during"); err != nil {
				return err
			}
		}
		return nil
	})
	w.runs(rest[1], "c-during", "during")
	for _, k := range talks {
		w.quiet(k, unheard)
	}
}

// tidy removes what survive made.
func (w *world) tidy() {
	w.t.Helper()
	for _, h := range w.Hosts {
		out, err := h.Docker(w.ctx, "ps", "-aq", "--filter", "name=^c-spare$", "--filter", "name=^c-during$")
		w.must(err)
		if ids := strings.Fields(out); len(ids) > 0 {
			_, err := h.Docker(w.ctx, append([]string{"rm", "-f"}, ids...)...)
			w.must(err)
		}
	}
	w.eventually("the network of the trouble goes", patience, func(ctx context.Context) error {
		if _, err := w.Hosts[0].SocketPlane(ctx, "network", "rm", "during"); err != nil && !strings.Contains(err.Error(), "has no network") {
			return err
		}
		return nil
	})
}

func oneOfThree(w *world) {
	// A server that does not lead, and is not the host that is asked below.
	lead := w.leader(w.Hosts)
	s, err := statusOf(w.ctx, lead)
	w.must(err)
	var victim *lab.Host
	for _, h := range except(w.Hosts, lead) {
		for _, m := range s.Members {
			if m.Name == h.Name && m.Role == "server" {
				victim = h
			}
		}
	}
	w.survive([]*lab.Host{victim}, victim.Halt)
	w.eventually("another host takes over from the server that is lost", patience, func(ctx context.Context) error {
		s, err := statusOf(ctx, lead)
		if err != nil {
			return err
		}
		votes := 0
		for _, m := range s.Members {
			if m.Voter && m.Name != victim.Name {
				votes++
			}
		}
		if votes != 3 || s.Servers != 3 {
			return fmt.Errorf("%d hosts vote of %d servers: %+v", votes, s.Servers, s.Members)
		}
		return nil
	})
	w.restart(victim)
	w.tidy()
	w.whole(3)
}

func leaderDies(w *world) {
	victim := w.leader(w.Hosts)
	w.survive([]*lab.Host{victim}, victim.Halt)
	w.restart(victim)
	w.tidy()
	w.whole(5)
}

func twoOfFive(w *world) {
	lead := w.leader(w.Hosts)
	victims := []*lab.Host{lead, except(w.Hosts, lead)[3]}
	w.survive(victims, func() {
		for _, h := range victims {
			h.Halt()
		}
	})
	w.restart(victims...)
	w.tidy()
	w.whole(5)
}

func parted(w *world) {
	limit := 12 * time.Second
	if long() {
		limit = time.Minute
	}
	lead := w.leader(w.Hosts)
	// The leader is with the minority, which is harder.
	minority := []*lab.Host{lead, except(w.Hosts, lead)[0]}
	few := w.talking(minority[0], minority[1], web)
	began := time.Now()
	w.survive(minority, func() { w.must(w.Partition(w.ctx, minority, except(w.Hosts, minority...))) })
	w.must(run(w.ctx, minority[1], "c-minority", web))
	w.t.Log("a new container started on the lesser side")
	w.must(testenv.Poll(w.ctx, 100*time.Millisecond, func() bool { return time.Since(began) > limit }))
	w.must(w.Heal(w.ctx))
	w.eventually("the lesser side has the network that was made meanwhile", patience, func(ctx context.Context) error {
		for _, h := range minority {
			if err := hasNetwork(ctx, h, "during"); err != nil {
				return err
			}
		}
		return nil
	})
	w.quiet(few, unheard)
	w.eventually("nothing is lost or doubled, with what was made on both sides", patience, func(ctx context.Context) error { return w.same(ctx, w.Hosts) })
	_, err := minority[1].Docker(w.ctx, "rm", "-f", "c-minority")
	w.must(err)
	w.tidy()
	w.whole(5)
}

func allReboot(w *world) {
	before, err := statusOf(w.ctx, w.Hosts[0])
	w.must(err)
	for _, h := range w.Hosts {
		h.Halt()
	}
	// Some come back elsewhere.
	w.Hosts[1].Renumber()
	w.Hosts[3].Renumber()
	w.restart(w.Hosts...)
	w.whole(5)
	after, err := statusOf(w.ctx, w.Hosts[0])
	w.must(err)
	if after.ID != before.ID {
		w.t.Errorf("the cluster is %s, was %s", after.ID, before.ID)
	}
}

// forgotten says whether no host knows of another one any more, nor of an address that it had.
func forgotten(ctx context.Context, hosts []*lab.Host, name string) error {
	for _, h := range hosts {
		for _, args := range [][]string{{"host", "ls"}, {"network", "ls"}, {"endpoint", "ls"}} {
			answer, err := ask[json.RawMessage](ctx, h, args...)
			if err != nil {
				return err
			}
			if strings.Contains(string(answer), `"`+name+`"`) {
				return fmt.Errorf("%s still sees %s: %s: %s", h.Name, name, strings.Join(args, " "), answer)
			}
		}
	}
	return nil
}

func leaves(w *world) {
	leaver := w.Hosts[4]
	rest := except(w.Hosts, leaver)
	_, err := leaver.SocketPlane(w.ctx, "cluster", "leave")
	if err == nil || !strings.Contains(err.Error(), "c-"+leaver.Name) {
		w.t.Fatalf("leaving with a container was answered by %v, want an error that names it", err)
	}
	addr, err := addrOf(w.ctx, leaver, "c-"+leaver.Name, web)
	w.must(err)
	_, err = leaver.Docker(w.ctx, "rm", "-f", "c-"+leaver.Name)
	w.must(err)
	_, _, err = w.insist(leaver, "there is nothing to leave", "cluster", "leave", "--wait", "0")
	w.must(err)
	w.eventually("a host that leaves has taken its records along (5 s on a machine of its own)", patience, func(ctx context.Context) error {
		return forgotten(ctx, rest, leaver.Name)
	})
	w.eventually("others vote in its place, and it is alone", patience, func(ctx context.Context) error {
		s, err := statusOf(ctx, leaver)
		if err == nil && (s.State != "alone" || s.ID != "") {
			err = fmt.Errorf("it is %+v", s)
		}
		return err
	})
	w.eventually("four hosts are one cluster with 3 servers", patience, func(ctx context.Context) error { return formed(ctx, rest, 3) })
	// Its address is free for another one.
	w.runs(rest[0], "c-reuse", web, "--ip", addr)
	_, err = rest[0].Docker(w.ctx, "rm", "-f", "c-reuse")
	w.must(err)
	_, _, err = w.insist(leaver, inCluster, "cluster", "join", rest[1].Addr.String())
	w.must(err)
	w.eventually("it has the networks again", patience, func(ctx context.Context) error { return hasNetwork(ctx, leaver, web) })
	w.eventually("a container runs on it", patience, func(ctx context.Context) error {
		_, _ = leaver.Docker(ctx, "rm", "-f", "c-"+leaver.Name)
		return run(ctx, leaver, "c-"+leaver.Name, web)
	})
	w.whole(5)
}

func removed(w *world) {
	victim := w.Hosts[3]
	rest := except(w.Hosts, victim)
	addr, err := addrOf(w.ctx, victim, "c-"+victim.Name, web)
	w.must(err)
	victim.Halt()
	w.eventually("the host is removed once its agent counts as down", patience, func(ctx context.Context) error {
		_, err := rest[0].SocketPlane(ctx, "host", "rm", victim.Name)
		if err != nil && strings.Contains(err.Error(), "has no host") {
			return nil // the answer to the one before was lost
		}
		return err
	})
	w.eventually("its records are gone", patience, func(ctx context.Context) error { return forgotten(ctx, rest, victim.Name) })
	w.runs(rest[1], "c-reuse", web, "--ip", addr)
	_, err = rest[1].Docker(w.ctx, "rm", "-f", "c-reuse")
	w.must(err)
	w.restart(victim)
	w.eventually("it joins as new", patience, func(ctx context.Context) error { return formed(ctx, w.Hosts, 5) })
	w.eventually("a container runs on it", patience, func(ctx context.Context) error {
		_, _ = victim.Docker(ctx, "rm", "-f", "c-"+victim.Name)
		return run(ctx, victim, "c-"+victim.Name, web)
	})
	w.whole(5)
}
