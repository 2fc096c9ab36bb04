package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// patience bounds whatever has no limit of its own: it is long, as several hosts share few cores.
const patience = 120 * time.Second

// long says that the tests may take their time.
func long() bool { return os.Getenv("SOCKETPLANE_TEST_LONG") != "" }

// need skips or fails the test where hosts can't be.
func need(t *testing.T) {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "dockerd", "docker", "ip", "nsenter", "busybox", "iperf3", "ping", "nft", "consul")
}

// world is a lab whose hosts form a cluster.
type world struct {
	*lab.Lab
	t   *testing.T
	ctx context.Context
}

// start starts a lab for one test.
func start(t *testing.T, limit time.Duration, opts lab.Options) *world {
	t.Helper()
	need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	opts.Cluster, opts.Log = !opts.Consul, t.Logf
	l, err := lab.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{l, t, ctx}
	t.Cleanup(func() {
		w.report()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// with is the world for a part of the test.
func (w *world) with(t *testing.T) *world { return &world{w.Lab, t, w.ctx} }

// report shows the ends of the agents' logs when the test has failed.
func (w *world) report() {
	if !w.t.Failed() {
		return
	}
	for _, h := range w.Hosts {
		var lines []string
		for line := range strings.Lines(h.LogTail("agent", 400)) {
			if strings.Contains(line, "cluster") || !strings.Contains(line, "level=DEBUG") && !strings.Contains(line, "consul: ") {
				lines = append(lines, line)
			}
		}
		w.t.Logf("the agent of %s:\n%s", h.Name, strings.Join(lines[max(0, len(lines)-25):], ""))
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// each does something on hosts at once.
func (w *world) each(hosts []*lab.Host, f func(*lab.Host) error) {
	w.t.Helper()
	var g errgroup.Group
	for _, h := range hosts {
		g.Go(func() error { return f(h) })
	}
	w.must(g.Wait())
}

// eventually polls until check returns nil, fails the test with its last error, and tells how long it took.
func (w *world) eventually(what string, limit time.Duration, check func(context.Context) error) time.Duration {
	w.t.Helper()
	began := time.Now()
	err := testenv.Await(w.ctx, limit, 100*time.Millisecond, check)
	took := time.Since(began)
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	w.t.Logf("%s: %.1f s", what, took.Seconds())
	return took
}

// insist runs a command again while the answer is that the cluster can't at the moment, as a user would; any other answer is the answer. What was
// cut off may have taken effect all the same: then done is what the next answer says.
func (w *world) insist(h *lab.Host, done string, args ...string) (out string, again bool, err error) {
	w.t.Helper()
	w.eventually(h.Name+" answers socketplane "+strings.Join(args, " "), patience, func(ctx context.Context) error {
		out, err = h.SocketPlane(ctx, args...)
		switch {
		case err == nil:
		case notNow(err):
			w.t.Log(err)
			again = true
			return err
		case again && done != "" && strings.Contains(err.Error(), done):
			err = nil
		}
		return nil
	})
	return out, again, err
}

// inCluster is how the answer ends to a host that is to join and is in already.
const inCluster = "'socketplane cluster leave' first"

// notNow says whether an error is one that asking again helps against.
func notNow(err error) bool {
	for _, text := range []string{"store unavailable", "can admit nobody at the moment", "the agent is busy"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// memberInfo and status are what the command line says.
type memberInfo struct {
	ID     string
	Name   string
	Addr   string
	Role   string
	State  string
	Voter  bool
	Alive  bool
	Leader bool
}

type status struct {
	ID      string
	State   string
	Role    string
	Locked  bool
	Servers int
	Trouble string
	Members []memberInfo
	Foreign []struct{ ID string }
}

func ask[T any](ctx context.Context, h *lab.Host, args ...string) (T, error) {
	var answer T
	out, err := h.SocketPlane(ctx, append(args, "--format", "json")...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &answer)
	}
	if err != nil {
		return answer, fmt.Errorf("%s: socketplane %s: %w", h.Name, strings.Join(args, " "), err)
	}
	return answer, nil
}

func statusOf(ctx context.Context, h *lab.Host) (status, error) {
	return ask[status](ctx, h, "cluster", "status")
}

// formed says whether hosts are one cluster of just them, with as many servers, all voting, and none of them in trouble. What a
// client's agent can't know of votes is asked of the leader's. With 0 servers it does not matter who votes.
func formed(ctx context.Context, hosts []*lab.Host, servers int) error {
	id, led := "", 0
	for _, h := range hosts {
		s, err := statusOf(ctx, h)
		if err != nil {
			return err
		}
		if id == "" {
			id = s.ID
		}
		up, voters, leaders := 0, 0, 0
		for _, m := range s.Members {
			if m.Alive && m.State == "member" {
				up++
			}
			if m.Voter {
				voters++
			}
			if m.Leader {
				leaders++
			}
		}
		switch {
		case s.State != "member" || s.ID == "" || s.ID != id:
			return fmt.Errorf("%s is %s of cluster %q (the first host's is %q): %s", h.Name, s.State, s.ID, id, s.Trouble)
		case s.Trouble != "":
			return fmt.Errorf("%s: %s", h.Name, s.Trouble)
		case len(s.Members) != len(hosts) || up != len(hosts):
			return fmt.Errorf("%s sees %d members, %d of them up, not %d: %+v", h.Name, len(s.Members), up, len(hosts), s.Members)
		case servers > 0 && s.Servers != servers:
			return fmt.Errorf("%s sees %d servers, not %d: %+v", h.Name, s.Servers, servers, s.Members)
		case len(s.Foreign) > 0:
			return fmt.Errorf("%s sees other clusters: %+v", h.Name, s.Foreign)
		}
		if leaders == 1 && voters == servers {
			led++
		}
	}
	if servers > 0 && led == 0 {
		return fmt.Errorf("no host sees one leader and %d votes", servers)
	}
	return nil
}

// leader finds the host whose Consul leads.
func (w *world) leader(hosts []*lab.Host) *lab.Host {
	w.t.Helper()
	var found *lab.Host
	w.eventually("a leader is known", patience, func(ctx context.Context) error {
		for _, h := range hosts {
			s, err := statusOf(ctx, h)
			if err != nil {
				continue
			}
			for _, m := range s.Members {
				if !m.Leader {
					continue
				}
				if i := slices.IndexFunc(w.Hosts, func(h *lab.Host) bool { return h.Name == m.Name }); i >= 0 {
					found = w.Hosts[i]
					return nil
				}
			}
		}
		return fmt.Errorf("nobody names a leader")
	})
	return found
}

// except is hosts without some.
func except(hosts []*lab.Host, without ...*lab.Host) []*lab.Host {
	return slices.DeleteFunc(slices.Clone(hosts), func(h *lab.Host) bool { return slices.Contains(without, h) })
}
