package cluster_test

import (
	"fmt"
	"testing"
	"time"
)

// moveTime is how long a cluster may take to be whole after one of its hosts has another address: its Consul restarts.
const moveTime = 20 * time.Second

// TestMoveOfAddress: hosts get other addresses while they run: the only server, the other host, and then both at once.
func TestMoveOfAddress(t *testing.T) {
	t.Parallel()
	s := newSegment(t)
	one, two := s.host(), s.host()
	one.start()
	s.await("a cluster of one", patience, func() bool { return formed(1, one) })
	one.must("/put?key=k&value=v")
	one.move("10.7.0.51")
	s.await("a cluster of one elsewhere", moveTime, func() bool { return one.at("10.7.0.51") && one.get("k") == "v" })
	two.start()
	s.await("the second host", patience, func() bool { return formed(1, one, two) })
	for i, moved := range [][]*host{{one}, {two}, {one, two}} {
		for j, h := range moved {
			h.move(fmt.Sprintf("10.7.0.%d", 100+10*i+j))
		}
		for _, h := range moved {
			addr := h.cfg.Addr.String()
			s.await(h.cfg.Name+" is known at "+addr, moveTime, func() bool { return h.at(addr) })
		}
		s.await("both write", moveTime, func() bool { return writes(one)() && writes(two)() && formed(1, one, two) })
	}
	if one.get("k") != "v" {
		t.Error("what was written is not there")
	}
}

// move gives a host that runs another address.
func (h *host) move(addr string) {
	h.s.t.Helper()
	h.address(addr)
	h.must("/move?addr=" + addr)
}

// at says whether the cluster's records have the host at that address, as the host itself reads them.
func (h *host) at(addr string) bool {
	for _, m := range h.status().Members {
		if m.ID == h.cfg.ID {
			return m.Addr.String() == addr
		}
	}
	return false
}

// leaderMoves: the leader of three servers gets another address while it runs.
func leaderMoves(_ *testing.T, s *segment, _ []*host, _ *host) {
	moved, rest := s.leader()
	moved.move("10.7.0.77")
	s.await("the others write", patience, writes(rest[0]))
	s.await("the leader is known elsewhere", moveTime, func() bool { return moved.at("10.7.0.77") && rest[0].status().Leader != "" })
	s.await("all are together again", patience, func() bool { return formed(3, s.hosts...) && writes(moved)() })
}
