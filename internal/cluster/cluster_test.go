package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster"
)

// patience is for anything that takes several starts of Consul on a busy machine.
const patience = 120 * time.Second

// runsVar says how often TestTogether forms a cluster.
const runsVar = "SOCKETPLANE_CLUSTER_RUNS"

// TestTogether: five hosts that start at random moments within 3 s become one cluster, always.
func TestTogether(t *testing.T) {
	t.Parallel()
	runs := 1
	if text := os.Getenv(runsVar); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		runs = n
	}
	for run := range runs {
		t.Run(fmt.Sprint(run+1), func(t *testing.T) {
			s := newSegment(t)
			for range 5 {
				s.host()
			}
			var started sync.WaitGroup
			for _, h := range s.hosts {
				started.Go(func() {
					<-time.After(rand.N(3 * time.Second))
					h.start()
				})
			}
			started.Wait()
			s.await("one cluster of five servers", patience, func() bool { return formed(5, s.hosts...) })
			for i, h := range s.hosts {
				h.must(fmt.Sprintf("/put?key=k%d&value=%s", i, h.cfg.Name))
			}
			for i, h := range s.hosts {
				h.reads(fmt.Sprint("/get?key=k", (i+1)%5), s.hosts[(i+1)%5].cfg.Name)
				if st := h.status(); len(st.Foreign) != 0 {
					t.Errorf("%s hears another cluster: %v", h.cfg.Name, st.Foreign)
				}
			}
		})
	}
}

// three makes a formed cluster of three servers.
func three(t testing.TB) (*segment, []*host) {
	t.Helper()
	s := newSegment(t)
	for range 3 {
		s.host().start()
	}
	s.await("three servers", patience, func() bool { return formed(3, s.hosts...) })
	return s, s.hosts
}

// leader is the host beside Raft's leader, and the others.
func (s *segment) leader() (leader *host, others []*host) {
	s.t.Helper()
	s.await("a leader", patience, func() bool {
		leader, others = nil, nil
		for _, h := range s.hosts {
			if st := h.status(); st.Leader == h.cfg.ID && len(st.Voters) > 0 {
				leader = h
			} else {
				others = append(others, h)
			}
		}
		return leader != nil
	})
	return leader, others
}

// writes says whether a host can write.
func writes(h *host) func() bool {
	return func() bool { return h.put("w", "1") == nil }
}

// TestLife: one host founds a cluster, which grows to three servers and a client. The agents alone are killed, and nobody notices; the majority is
// lost and comes back; the leader is cut off for a while; its host is lost and another one takes its place; all are rebooted with new addresses. What was
// written is there all the time.
func TestLife(t *testing.T) {
	t.Parallel()
	s := newSegment(t)
	for range 3 {
		s.host()
	}
	hosts := s.hosts
	hosts[0].start()
	s.await("a cluster of one", patience, func() bool { return formed(1, hosts[0]) })
	hosts[0].must("/put?key=k&value=v")
	hosts[1].start()
	s.await("the second host", patience, func() bool { return formed(1, hosts[:2]...) })
	hosts[2].start()
	s.await("three servers", patience, func() bool { return formed(3, hosts...) })
	spare := s.host()
	spare.start()
	s.await("a fourth host", patience, func() bool { return formed(3, s.hosts...) && spare.status().Role == "client" })
	all := s.hosts
	for _, step := range []struct {
		name string
		run  func(*testing.T, *segment, []*host, *host)
	}{
		{"agents-killed", agentsKilled}, {"majority-lost", majorityLost}, {"server-for-a-moment", serverForAMoment}, {"leader-cut-off", leaderCutOff},
		{"leader-lost-and-replaced", leaderReplaced}, {"leader-moves", leaderMoves}, {"rebooted-with-new-addresses", renumbered},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.run(t, s, hosts, spare)
			// A host that has just got another role answers in a moment.
			s.await("what was written is there", patience, func() bool {
				for _, h := range all {
					if h.get("k") != "v" {
						return false
					}
				}
				return true
			})
		})
	}
}

func agentsKilled(t *testing.T, s *segment, hosts []*host, _ *host) {
	for _, h := range hosts {
		h.kill()
	}
	for _, h := range hosts {
		h.start()
	}
	s.await("all are back", patience, func() bool { return formed(3, s.hosts...) })
	const found = "Consul runs already"
	for _, h := range hosts {
		// It is looked for while the cluster, which has run on, answers already.
		s.await(h.cfg.Name+" has found its Consul", patience, func() bool { return strings.Contains(h.logged(), found) })
		if n := strings.Count(h.logged(), found); n != 1 {
			t.Errorf("%s found its Consul %d times", h.cfg.Name, n)
		}
	}
}

// majorityLost: without a majority nothing is written, and nobody leaves in good order; with it back everything goes on.
func majorityLost(t *testing.T, s *segment, hosts []*host, spare *host) {
	hosts[1].crash()
	hosts[2].crash()
	s.await("nothing is written", patience, func() bool { return hosts[0].put("x", "w") != nil })
	s.await("the hosts know", patience, func() bool { return silent(hosts[0]) && silent(spare) })
	if err := hosts[0].ask("/leave", nil); err == nil {
		t.Error("a host leaves a cluster that does not answer")
	}
	hosts[1].start()
	s.await("a majority writes", patience, writes(hosts[0]))
	hosts[2].start()
	s.await("all are back", patience, func() bool { return formed(3, s.hosts...) && writes(spare)() })
}

// silent says whether a host has noticed that its cluster does not answer.
func silent(h *host) bool { return strings.Contains(h.status().Trouble, "the cluster does not answer") }

// serverForAMoment: the Consul of a client that was to be a server for a moment runs as a server with a client's certificate, so that no other talks
// to it. It becomes a client by what another host tells.
func serverForAMoment(_ *testing.T, s *segment, _ []*host, spare *host) {
	servers := func() int { return strings.Count(spare.logged(), "entering follower state") }
	before := servers()
	spare.must("/serve-for-a-moment")
	s.await("its Consul is a server", patience, func() bool { return servers() > before })
	s.await("its Consul is a client again", patience, func() bool { return formed(3, s.hosts...) && writes(spare)() && spare.status().Role == "client" })
}

// leaderCutOff: who is cut off for less than the grace is a server again; who loses its place meanwhile, a client.
func leaderCutOff(_ *testing.T, s *segment, _ []*host, _ *host) {
	cut, rest := s.leader()
	ip(s.t, "-n", s.name, "link", "set", cut.port, "down")
	s.await("the others write", patience, writes(rest[0]))
	s.await("who is cut off does not", patience, func() bool { return cut.put("x", "y") != nil })
	ip(s.t, "-n", s.name, "link", "set", cut.port, "up")
	s.await("all are together again", patience, func() bool { return formed(3, s.hosts...) && writes(cut)() })
}

func leaderReplaced(_ *testing.T, s *segment, _ []*host, _ *host) {
	lost, rest := s.leader()
	lost.crash()
	s.await("a write after the loss of the leader", patience, writes(rest[0]))
	s.await("another server", patience, func() bool { return voting(rest...) })
	lost.start()
	s.await("the lost host is back as a client", patience, func() bool { return formed(3, s.hosts...) && lost.status().Role == "client" })
}

func renumbered(_ *testing.T, s *segment, hosts []*host, _ *host) {
	for _, h := range s.hosts {
		h.crash()
	}
	running := func(h *host) int { return strings.Count(h.logged(), "Consul agent running") }
	before := map[*host]int{}
	for i, h := range s.hosts {
		h.address(fmt.Sprintf("10.7.0.%d", 101+i))
		before[h] = running(h)
		ip(s.t, "-n", s.name, "link", "set", h.port, "down") // the switch boots last: nobody hears of the others' new addresses before all of Consul runs
	}
	for _, h := range s.hosts {
		h.start()
	}
	s.await("Consul runs on all hosts", patience, func() bool {
		return !slices.ContainsFunc(s.hosts, func(h *host) bool { return running(h) == before[h] })
	})
	for _, h := range s.hosts {
		ip(s.t, "-n", s.name, "link", "set", h.port, "up")
	}
	s.await("the cluster is back", patience, func() bool { return formed(3, s.hosts...) })
	s.await("the records have the new addresses", patience, func() bool {
		for _, m := range hosts[0].status().Members {
			if !strings.HasPrefix(m.Addr.String(), "10.7.0.10") {
				return false
			}
		}
		return true
	})
}

// voting says whether these hosts vote, and nobody else, as the leader among them says.
func voting(hosts ...*host) bool {
	for _, h := range hosts {
		st := h.status()
		if st.Leader != h.cfg.ID {
			continue
		}
		for _, other := range hosts {
			if !slices.Contains(st.Voters, other.cfg.ID) {
				return false
			}
		}
		return len(st.Voters) == len(hosts)
	}
	return false
}

// TestLeaving: the leader leaves, then another; the last host ends the cluster; nobody who has left founds or joins by itself.
func TestLeaving(t *testing.T) {
	t.Parallel()
	s, _ := three(t)
	left := []*host{}
	rest := s.hosts
	for len(rest) > 1 {
		var leader *host
		s.await("a leader", patience, func() bool {
			for _, h := range rest {
				if st := h.status(); st.Leader == h.cfg.ID {
					leader = h
				}
			}
			return leader != nil
		})
		leader.must("/leave")
		var now []*host
		for _, h := range rest {
			if h != leader {
				now = append(now, h)
			}
		}
		rest, left = now, append(left, leader)
		s.await(leader.cfg.Name+" has left", patience, func() bool {
			return leader.status().State == cluster.Alone && formed(1, rest...)
		})
		s.await("a write of those who stay", patience, writes(rest[0]))
	}
	rest[0].must("/leave")
	s.await("the end of the cluster", patience, func() bool { return rest[0].status().State == cluster.Alone })
	a, b := left[0], left[1]
	a.must("/init")
	s.await("a new cluster", patience, func() bool { return formed(1, a) })
	b.must("/join?addr=" + a.cfg.Addr.String() + ":4780")
	s.await("another host joins it", patience, func() bool { return formed(1, a, b) })
	if err := a.ask("/init", nil); err == nil {
		t.Error("a member founds another cluster")
	}
}

// TestRemoved: a host that was removed while it was away joins as new; one that was removed while it was there, too.
func TestRemoved(t *testing.T) {
	t.Parallel()
	s, hosts := three(t)
	gone, stays := hosts[2], hosts[0]
	gone.crash()
	s.await("a host that is down is removed", patience, func() bool { return stays.ask("/remove?host="+gone.cfg.ID, nil) == nil }) // when it counts as down
	s.await("a cluster of two", patience, func() bool { return formed(1, hosts[:2]...) })
	s.await("a write", patience, writes(stays))
	gone.start()
	s.await("the removed host is in again", patience, func() bool { return formed(3, hosts...) })
	if !strings.Contains(gone.logged(), "out of its cluster") { // said before it asked to be let in
		t.Error("the removed host did not notice")
	}
	leader, others := s.leader()
	if err := leader.insist("/remove?host="+others[0].cfg.ID, nil); err == nil || !strings.Contains(err.Error(), "is up") {
		t.Errorf("a host that is up is removed: %v", err)
	}
	leader.must("/remove-member?host=" + others[0].cfg.ID) // as if it had not been heard for a while
	s.await("a host that was removed while it was there is in again", patience, func() bool {
		return formed(3, hosts...) && strings.Contains(others[0].logged(), "out of its cluster")
	})
}

// TestMove: a host that is alone in its cluster moves to another one; one that is not, does not.
func TestMove(t *testing.T) {
	t.Parallel()
	s := newSegment(t)
	a := s.host()
	a.start()
	s.await("a cluster", patience, func() bool { return formed(1, a) })
	b := s.host()
	ip(t, "-n", s.name, "link", "set", b.port, "down") // it does not hear the other
	b.start()
	s.await("another cluster", patience, func() bool { return formed(1, b) })
	ip(t, "-n", s.name, "link", "set", b.port, "up")
	b.kill()
	b.start() // who starts asks, and need not wait until the other says something
	s.await("they hear of each other", patience, func() bool { return len(a.status().Foreign) == 1 && len(b.status().Foreign) == 1 && formed(1, b) })
	if a.status().Cluster == b.status().Cluster {
		t.Error("two clusters merged by themselves")
	}
	b.must("/join?addr=" + a.cfg.Addr.String() + ":4780")
	s.await("one cluster", patience, func() bool { return formed(1, a, b) })
	a.must("/put?key=k&value=v")
	b.reads("/get?key=k", "v")
	if err := b.ask("/join?addr="+a.cfg.Addr.String()+":4780", nil); err == nil {
		t.Error("a host of a cluster of two joins another")
	}
	b.crash()
	if err := a.ask("/leave?force=1", nil); err != nil {
		t.Fatal(err)
	}
	s.await("who is forced to leave is alone", patience, func() bool { return a.status().State == cluster.Alone })
}

// TestLocked: a locked cluster refuses who has no token, and lets in who has one, once; its keys are others afterwards, also those of a
// host that was away; who was removed stays out.
func TestLocked(t *testing.T) {
	t.Parallel()
	s, hosts := three(t)
	away, leader := hosts[2], hosts[0]
	away.crash()
	leader.must("/lock")
	s.await("the keys are changed", patience, func() bool {
		for _, h := range hosts[:2] {
			if st := h.status(); !st.Locked || st.Epoch < 4 {
				return false
			}
		}
		return true
	})
	away.start()
	s.await("the host that was away has the new keys", patience, func() bool { return formed(3, hosts...) && away.status().Epoch >= 4 })

	stranger := s.host()
	stranger.start()
	s.await("a stranger is refused", patience, func() bool { return strings.Contains(stranger.status().Trouble, "locked") })
	var token string
	if err := leader.insist("/token", &token); err != nil {
		t.Fatal(err)
	}
	stranger.must("/join?addr=" + leader.cfg.Addr.String() + ":4780&token=" + token)
	s.await("it is let in with a token", patience, func() bool { return formed(3, s.hosts...) })
	second := s.host()
	second.start()
	s.await("another stranger is refused", patience, func() bool { return strings.Contains(second.status().Trouble, "locked") })
	if err := second.insist("/join?addr="+leader.cfg.Addr.String()+":4780&token="+token, nil); err == nil || !strings.Contains(err.Error(), "used") {
		t.Errorf("a token that was used says %v", err)
	}
}
