package presence

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/socketplane/socketplane/store"
)

const (
	// seatAnswer is how long another agent may take to say that it lives. It hears of the question by its watch of the hosts.
	seatAnswer = 3 * time.Second
	// seatLimit bounds all of a check.
	seatLimit = 6 * time.Second
	// seatRest is for how long a machine that was found to be a copy stays refused after the other agent was last alive: that one may
	// just be restarted or upgraded.
	seatRest = 5 * time.Minute
	// seatAgain is how often a machine that was found to be a copy asks again: each question wakes the agents of all hosts.
	seatAgain = 30 * time.Second
	// copyFresh is how long a copy counts as there after it has asked: one that is refused asks again and again.
	copyFresh = 2*seatAgain + 10*time.Second
)

// seat is this agent's right to act under its host's id, which a copied machine has as well.
type seat struct {
	asker string // of this run of the agent
	// held says that no other machine acts under the id, as far as could be found out since the last announcement ended.
	held atomic.Bool

	mu sync.Mutex
	// said are the addresses that this agent has published as the host's.
	said map[netip.Addr]bool
	// asked is the last question of another machine's agent, at is when it came.
	asked store.Question
	at    time.Time
	// changed has room for the news that there is something to answer or to publish.
	changed chan struct{}
}

func newSeat() *seat {
	return &seat{asker: store.NewNonce(), said: map[netip.Addr]bool{}, changed: make(chan struct{}, 1)}
}

// say notes an address as this machine's.
func (s *seat) say(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said[addr] = true
}

func (s *seat) mine(addr netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said[addr]
}

// hear takes this host's record as the cluster has it, and says whether another machine has asked for the first time in a while.
func (s *seat) hear(h store.Host) (fresh bool) {
	if h.Asked == nil || h.Asked.Asker == s.asker {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked.Nonce == h.Asked.Nonce || s.said[h.Asked.VTEP] { // at its own address it has asked for itself, beside its former Consul
		return false
	}
	fresh = time.Since(s.at) > copyFresh || s.asked.VTEP != h.Asked.VTEP
	s.asked, s.at = *h.Asked, time.Now()
	s.wake()
	return fresh
}

// hold notes that the seat is this agent's, so that the host's record can be written.
func (s *seat) hold() {
	s.held.Store(true)
	s.wake()
}

func (s *seat) wake() {
	select {
	case s.changed <- struct{}{}:
	default: // it is known already
	}
}

// answer is the nonce of the last question.
func (s *seat) answer() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked.Nonce
}

// copied is the machine that asked for this host's id of late, and true if there is one.
func (s *seat) copied() (store.Question, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.asked.Nonce != "" && time.Since(s.at) < copyFresh
}
