package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/doctor"
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

// ownRecord hears what the cluster has of this host.
func (a *agent) ownRecord(h store.Host) {
	if a.seat.hear(h) {
		a.log.Error("another machine has this host's id and is refused: it is a copy of this one, perhaps", "name", h.Asked.Name, "vtep", h.Asked.VTEP,
			"cure", copyCure)
	}
}

// copied is the machine that has asked for this host's id of late, nil if none has.
func (a *agent) copied() *doctor.Copy {
	q, is := a.seat.copied()
	if !is {
		return nil
	}
	return &doctor.Copy{Name: q.Name, Addr: q.VTEP.String(), Cure: copyCure}
}

// copyCure is what to do on the copy.
const copyCure = admission.CopyCure

// copyRecord is what a host remembers of being a copy.
type copyRecord struct {
	Schema int        `json:"schema"`
	Name   string     `json:"name"`
	VTEP   netip.Addr `json:"vtep"`
	Seen   time.Time  `json:"seen"`
}

// errSeatUnknown says that it could not be found out whether another machine acts under this host's id. Until it is, nothing is published
// under it: a copy that publishes first would pass for the host.
var errSeatUnknown = fmt.Errorf("%w: whether another machine acts under this host's id is not known yet", store.ErrUnavailable)

// claimSeat returns store.ErrSameID if another machine's agent acts under this host's id, and errSeatUnknown where that can't be found out
// now: announce asks again. Of a cluster that the agents form by themselves other members are asked, once, before this host's Consul starts.
func (a *agent) claimSeat(ctx context.Context) error {
	a.seat.say(a.where().Addr)
	if a.storage.managed != nil && !a.claimed {
		if err := a.storage.managed.Claim(ctx); err != nil {
			return err
		}
		a.claimed = true
	}
	if a.storage.kind == config.StoreBolt || a.storage.managed != nil {
		a.seat.hold()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, seatLimit)
	defer cancel()
	soon, stop := context.WithTimeout(ctx, schemaTimeout)
	alive, err := a.cluster.Alive(soon)
	stop()
	if err != nil {
		return fmt.Errorf("%w: %w", errSeatUnknown, err)
	}
	seen, err := a.seenCopy(ctx)
	if err != nil {
		return err
	}
	if since := time.Since(seen.Seen); alive && since >= 0 && since < seatAgain {
		return a.sameID("acts", seen)
	}
	q := store.Question{Nonce: store.NewNonce(), Asker: a.seat.asker, Name: a.cfg.Name, VTEP: a.where().Addr}
	other, lives, err := a.cluster.AskSeat(ctx, q, a.seat.mine, seatAnswer)
	if err != nil {
		return fmt.Errorf("%w: %w", errSeatUnknown, err)
	}
	if err := a.judgeSeat(ctx, seen, other, lives); err != nil {
		return err
	}
	a.seat.hold()
	return nil
}

// seenCopy is what this machine remembers of being a copy; the zero record if it does not.
func (a *agent) seenCopy(ctx context.Context) (copyRecord, error) {
	e, err := a.local.Get(ctx, store.LocalCopyKey)
	if errors.Is(err, store.ErrNotFound) {
		return copyRecord{}, nil
	}
	if err != nil {
		return copyRecord{}, err
	}
	return store.Decode[copyRecord](e)
}

// judgeSeat decides on what was found, and remembers it: a copy must not take the id over while the other agent is restarted.
func (a *agent) judgeSeat(ctx context.Context, seen copyRecord, other store.Host, lives bool) error {
	if lives {
		seen = copyRecord{Schema: store.Schema, Name: other.Name, VTEP: other.VTEP, Seen: time.Now().UTC()}
		put := store.Op{Kind: store.OpPut, Key: store.LocalCopyKey, Value: store.Encode(seen)}
		return errors.Join(a.sameID("acts", seen), a.local.Apply(ctx, put))
	}
	if seen.Schema == 0 {
		return nil
	}
	if since := time.Since(seen.Seen); other.ID != "" && since >= 0 && since < seatRest {
		return a.sameID("acted until a moment ago", seen)
	}
	return a.local.Apply(ctx, store.Op{Kind: store.OpRemove, Key: store.LocalCopyKey})
}

func (a *agent) sameID(acts string, other copyRecord) error {
	return fmt.Errorf("%w: %s %s under the id %s at %s, and this machine is at %s: one of the two is a copy of the other: %s. "+
		"If the other one is gone for good, run 'socketplane host rm %s' on a third host, or wait %s",
		store.ErrSameID, other.Name, acts, a.id, other.VTEP, a.where().Addr, copyCure, a.id, seatRest)
}
