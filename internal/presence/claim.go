package presence

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/store"
)

// firstAnswer is how long the store may take to say whether this host has a sign of life. One that does not answer by then is asked again by Run: a start
// does not wait for it.
const firstAnswer = 500 * time.Millisecond

// OwnRecord hears what the cluster has of this host: another machine may have asked for its id. It is safe for concurrent use and waits for nothing.
func (p *Presence) OwnRecord(h store.Host) {
	if p.seat.hear(h) {
		p.log.Error("another machine has this host's id and is refused: it is a copy of this one, perhaps", "name", h.Asked.Name, "vtep", h.Asked.VTEP,
			"cure", copyCure)
	}
}

// Copied is the machine that has asked for this host's id of late, nil if none has. It is safe for concurrent use.
func (p *Presence) Copied() *doctor.Copy {
	q, is := p.seat.copied()
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

// ErrUnknown says that it could not be found out whether another machine acts under this host's id. Until it is, nothing is published
// under it: a copy that publishes first would pass for the host.
var ErrUnknown = fmt.Errorf("%w: whether another machine acts under this host's id is not known yet", store.ErrUnavailable)

// Claim returns store.ErrSameID if another machine's agent acts under this host's id, and ErrUnknown where that can't be found out now: Run asks
// again. Of a cluster that the agents form by themselves other members are asked, once, before this host's Consul starts. It takes up to 6 s, and
// is not for use beside Run.
func (p *Presence) Claim(ctx context.Context) error {
	p.seat.say(p.deps.Where().Addr)
	if p.deps.Admitted != nil && !p.claimed {
		if err := p.deps.Admitted(ctx); err != nil {
			return err
		}
		p.claimed = true
	}
	if p.deps.Admitted != nil || p.deps.Alone {
		p.seat.hold()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, seatLimit)
	defer cancel()
	soon, stop := context.WithTimeout(ctx, firstAnswer)
	alive, err := p.deps.Cluster.Alive(soon)
	stop()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	seen, err := p.seenCopy(ctx)
	if err != nil {
		return err
	}
	if since := time.Since(seen.Seen); alive && since >= 0 && since < seatAgain {
		return p.sameID("acts", seen)
	}
	q := store.Question{Nonce: store.NewNonce(), Asker: p.seat.asker, Name: p.deps.Name, VTEP: p.deps.Where().Addr}
	other, lives, err := p.deps.Cluster.AskSeat(ctx, q, p.seat.mine, seatAnswer)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if err := p.judge(ctx, seen, other, lives); err != nil {
		return err
	}
	p.seat.hold()
	return nil
}

// seenCopy is what this machine remembers of being a copy; the zero record if it does not.
func (p *Presence) seenCopy(ctx context.Context) (copyRecord, error) {
	e, err := p.deps.Local.Get(ctx, store.LocalCopyKey)
	if errors.Is(err, store.ErrNotFound) {
		return copyRecord{}, nil
	}
	if err != nil {
		return copyRecord{}, err
	}
	return store.Decode[copyRecord](e)
}

// judge decides on what was found, and remembers it: a copy must not take the id over while the other agent is restarted.
func (p *Presence) judge(ctx context.Context, seen copyRecord, other store.Host, lives bool) error {
	if lives {
		seen = copyRecord{Schema: store.Schema, Name: other.Name, VTEP: other.VTEP, Seen: time.Now().UTC()}
		put := store.Op{Kind: store.OpPut, Key: store.LocalCopyKey, Value: store.Encode(seen)}
		return errors.Join(p.sameID("acts", seen), p.deps.Local.Apply(ctx, put))
	}
	if seen.Schema == 0 {
		return nil
	}
	if since := time.Since(seen.Seen); other.ID != "" && since >= 0 && since < seatRest {
		return p.sameID("acted until a moment ago", seen)
	}
	return p.deps.Local.Apply(ctx, store.Op{Kind: store.OpRemove, Key: store.LocalCopyKey})
}

func (p *Presence) sameID(acts string, other copyRecord) error {
	return fmt.Errorf("%w: %s %s under the id %s at %s, and this machine is at %s: one of the two is a copy of the other: %s. "+
		"If the other one is gone for good, run 'socketplane host rm %s' on a third host, or wait %s",
		store.ErrSameID, other.Name, acts, p.deps.Cluster.Host(), other.VTEP, p.deps.Where().Addr, copyCure, p.deps.Cluster.Host(), seatRest)
}
