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
	t.Parallel()
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
	leader.must("/leave")
	for range 8 {
		<-time.After(500*time.Millisecond + rand.N(2*time.Second))
		leader.kill()
		leader.start()
	}
	s.await("the leader has left", patience, func() bool { return leader.status().State == cluster.Alone })
	s.await("the others are a cluster", patience, func() bool { return formed(1, others...) })
	s.await("they write", patience, writes(others[0]))
}
