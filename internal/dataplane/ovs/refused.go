package ovs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// isolateTries bounds the bundles by which the refused flows of one change are found. With one refused among 60,000 it takes 33.
const isolateTries = 100

// refusedMin and refusedMax are the pauses before what the switch refused is offered again.
const refusedMin, refusedMax = time.Second, 5 * time.Minute

// errFlood wraps a refusal of flows that broadcasts need and nothing else does: containers find and reach each other without.
var errFlood = errors.New("broadcasts and multicasts do not reach all containers; all else is in force")

// refusals are the flows of a network that the switch did not take. They are its trouble alone. Touched in a turn only.
type refusals struct {
	refused map[string]edit // by Key
	cause   error
	more    bool // flows besides those of broadcasts were refused since give last began
	pause   retry.Pause
	due     time.Time // when they are offered again
}

func newRefusals() refusals {
	return refusals{refused: map[string]edit{}, pause: retry.Pause{First: refusedMin, Last: refusedMax}}
}

// trouble is what the switch has against flows of the network, nil if it has them all.
func (r *refusals) trouble() error {
	if len(r.refused) == 0 {
		return nil
	}
	for _, e := range r.refused {
		if e.flow.Table != pipeline.TableFlood {
			return r.cause
		}
	}
	return fmt.Errorf("%w: %w", errFlood, r.cause)
}

// isRefusal says whether the switch, or the encoder, did not take flows: sent again they fail again.
func isRefusal(err error) bool {
	var refused *openflow.Error
	return errors.As(err, &refused) || errors.Is(err, openflow.ErrInvalid)
}

// give sends a change of one network in one bundle. If flows of it are refused, all others are sent without them, and the error
// is a refusal. Any other error leaves it open what the switch did.
func (p *Plane) give(ctx context.Context, n *network, c openflow.Change) error {
	if len(c.Add)+len(c.Delete) == 0 {
		return nil
	}
	p.stamp(c.Add)
	p.stamp(c.Delete)
	tries := 0
	before := len(n.refused)
	n.more = false
	if err := p.isolate(ctx, n, c, &tries); err != nil {
		return fmt.Errorf("%w: change %d flows of network %s: %w", ErrNotReady, len(c.Add)+len(c.Delete), n.id, err)
	}
	if len(n.refused) > before {
		n.due = time.Now().Add(n.pause.Next(0))
		if !n.more {
			return fmt.Errorf("%w: %w", errFlood, n.cause)
		}
		return n.cause
	}
	return nil
}

// isolate sends a change, and if that is refused what is left of it without the flows that the switch names, or, if it names none, its halves.
func (p *Plane) isolate(ctx context.Context, n *network, c openflow.Change, tries *int) error {
	err := p.conn.Apply(ctx, c)
	if err == nil || !isRefusal(err) {
		return err
	}
	n.cause = fmt.Errorf("flows of network %s are refused; the others are in force: %w", n.id, err)
	if *tries++; len(c.Add)+len(c.Delete) == 1 || *tries > isolateTries {
		n.refuse(c, func(openflow.Flow) bool { return true })
		return nil
	}
	named := map[string]bool{}
	for _, f := range openflow.Refused(err) {
		named[f.Key()] = true
	}
	if rest := n.refuse(c, func(f openflow.Flow) bool { return named[f.Key()] }); len(rest.Add)+len(rest.Delete) < len(c.Add)+len(c.Delete) {
		return p.isolate(ctx, n, rest, tries)
	}
	d, a := len(c.Delete)/2, len(c.Add)/2
	if len(c.Delete) > 0 && len(c.Add) > 0 {
		d, a = len(c.Delete), 0 // the deletes first: what is added may have to replace them
	}
	if err := p.isolate(ctx, n, openflow.Change{Delete: c.Delete[:d], Add: c.Add[:a]}, tries); err != nil {
		return err
	}
	return p.isolate(ctx, n, openflow.Change{Delete: c.Delete[d:], Add: c.Add[a:]}, tries)
}

// refuse notes the flows of a change that the switch does not take, and returns the others.
func (r *refusals) refuse(c openflow.Change, is func(openflow.Flow) bool) (rest openflow.Change) {
	for _, f := range c.Delete {
		if !is(f) { // the switch has no flow with a match that it refuses
			rest.Delete = append(rest.Delete, f)
		}
	}
	for _, f := range c.Add {
		if is(f) {
			r.refused[f.Key()] = edit{flow: f}
			r.more = r.more || f.Table != pipeline.TableFlood
		} else {
			rest.Add = append(rest.Add, f)
		}
	}
	return rest
}

// offer has what was refused sent again when its pause is over.
func (p *Plane) offer(n *network) {
	if len(n.refused) == 0 || time.Now().Before(n.due) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, e := range n.refused {
		if _, newer := n.edits.flows[key]; !newer {
			n.edits.flows[key] = e
		}
	}
	clear(n.refused)
}
