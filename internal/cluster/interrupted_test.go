package cluster_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster"
)

// TestInterrupted: agents that are killed again and again, at any moment, end in one cluster all the same; and one that is killed while it
// leaves, has left.
func TestInterrupted(t *testing.T) {
	s := newSegment(t)
	for range 3 {
		s.host()
	}
	var all sync.WaitGroup
	for _, h := range s.hosts {
		all.Go(func() {
			for range 6 {
				h.start()
				<-time.After(rand.N(1500 * time.Millisecond))
				h.kill()
			}
			h.start()
		})
	}
	all.Wait()
	s.await("one cluster", patience, func() bool { return formed(3, s.hosts...) })
	leader, others := s.leader()
	if err := leader.ask("/leave", nil); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		<-time.After(500*time.Millisecond + rand.N(2*time.Second))
		leader.kill()
		leader.start()
	}
	s.await("the leader has left", patience, func() bool { return leader.status().State == cluster.Alone })
	s.await("the others are a cluster", patience, func() bool { return formed(1, others...) })
	s.await("they write", patience, writes(others[0]))
}

// TestMajority: without a majority nothing is written, and nobody leaves in good order; with it back everything goes on. A server that is cut off for
// a while is a server again.
func TestMajority(t *testing.T) {
	s, hosts := three(t)
	if err := hosts[0].put("k", "v"); err != nil {
		t.Fatal(err)
	}
	hosts[1].crash()
	hosts[2].crash()
	s.await("nothing is written", patience, func() bool { return hosts[0].put("k", "w") != nil })
	s.await("the host knows", patience, func() bool { return hosts[0].status().Trouble != "" })
	if err := hosts[0].ask("/leave", nil); err == nil {
		t.Error("a host leaves a cluster that does not answer")
	}
	hosts[1].start()
	s.await("a majority writes", patience, writes(hosts[0]))
	hosts[2].start()
	s.await("all are back", patience, func() bool { return formed(3, hosts...) })

	cut, rest := s.leader()
	ip(t, "-n", s.name, "link", "set", cut.port, "down")
	s.await("the others write", patience, writes(rest[0]))
	s.await("who is cut off does not", patience, func() bool { return cut.put("k", "x") != nil })
	ip(t, "-n", s.name, "link", "set", cut.port, "up")
	s.await("all are together again", patience, func() bool { return formed(3, hosts...) && writes(cut)() })
}
