package trust

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/socketplane/socketplane/store"
)

// Gossip is what the rotation needs of Consul.
type Gossip interface {
	// EnsureACL makes the tokens that the keys name.
	EnsureACL(ctx context.Context, keys store.Keys) error
	// SweepACL removes tokens that neither the keys name nor a member has.
	SweepACL(ctx context.Context, keys store.Keys, members func(context.Context) ([]store.Member, error)) error
	// SetKeyring lets all members that are up have these gossip keys and no others, and use the first. It returns
	// nil when that is so.
	SetKeyring(ctx context.Context, keys []store.Secret) error
}

// Rotator moves the rotation of a cluster's keys on. One agent does it at a time, the one beside Consul's leader; when two do,
// nothing worse happens than that one of them is told of a conflict. It is not for concurrent use.
type Rotator struct {
	cluster *store.Cluster
	gossip  Gossip
	life    Lifetimes
	log     *slog.Logger
	// settled is the epoch whose gossip keys all members had when no rotation was under way: then nobody is asked again.
	settled uint64
	// swept is when tokens that nobody is to have were looked for, and among which members.
	swept   time.Time
	sweptOf string
	told    string
	waits   string // the hosts whose agents are too old
}

// sweepEvery is how often tokens that nobody is to have are looked for while no member goes: a Consul that was started with one
// may bring it back.
const sweepEvery = time.Minute

// NewRotator makes a Rotator.
func NewRotator(cluster *store.Cluster, gossip Gossip, life Lifetimes, log *slog.Logger) *Rotator {
	return &Rotator{cluster: cluster, gossip: gossip, life: life.Complete(), log: log}
}

// Advance takes a step if one can be taken. It is to be called every second while this host leads; it costs one read when there is
// nothing to do. What it does is done again by whoever comes next, should this host die in the middle. Up are the ids of
// hosts whose Consul gossips; those whose agents are up are waited for in any case.
func (r *Rotator) Advance(ctx context.Context, up map[string]bool, now time.Time) error {
	keys, err := r.cluster.AllKeys(ctx)
	if err != nil {
		return fmt.Errorf("rotation of the keys: %w", err)
	}
	if !keys.Split && keys.Phase == store.PhaseNone {
		if split, err := r.split(ctx); err != nil || split {
			return err
		}
	}
	quiet := keys.Phase == store.PhaseNone && !keys.Rotate && !expiring(keys, r.life, now)
	if quiet && r.settled == keys.Epoch {
		return r.sweep(ctx, keys, now)
	}
	// Without its new management token in Consul, a server would follow into a state in which it may do nothing.
	if err := r.gossip.EnsureACL(ctx, keys); err != nil {
		return fmt.Errorf("rotation of the keys: %w", err)
	}
	view := View{Now: now}
	if err := r.gossip.SetKeyring(ctx, keys.Gossip); err != nil {
		r.tell("the gossip keys are not yet those of the cluster on every host", err)
	} else {
		view.Gossip = true
	}
	if quiet {
		return r.settle(ctx, keys, view.Gossip)
	}
	if view.Epochs, err = r.epochs(ctx, up); err != nil {
		return fmt.Errorf("rotation of the keys: %w", err)
	}
	return r.step(ctx, keys, view)
}

// settle ends what a rotation leaves behind: tokens that know the cluster by an authority which is no more.
func (r *Rotator) settle(ctx context.Context, keys store.Keys, gossip bool) error {
	var cas []string
	for _, ca := range keys.CAs {
		hash, err := CAHash(ca)
		if err != nil {
			return fmt.Errorf("rotation of the keys: %w", err)
		}
		cas = append(cas, hash)
	}
	if err := r.cluster.RemoveTokensExcept(ctx, cas); err != nil {
		return fmt.Errorf("rotation of the keys: %w", err)
	}
	if gossip {
		r.settled, r.told, r.swept = keys.Epoch, "", time.Time{}
	}
	return nil
}

// sweep removes tokens that nobody is to have, when a member has gone, and now and then.
func (r *Rotator) sweep(ctx context.Context, keys store.Keys, now time.Time) error {
	if !keys.Split {
		return nil // nobody has a token of its own, and which others there are is not known
	}
	members, err := r.cluster.Members(ctx)
	if err != nil {
		return err
	}
	var of strings.Builder
	for _, m := range members {
		of.WriteString(m.ID + " ")
	}
	if of.String() == r.sweptOf && now.Sub(r.swept) < sweepEvery {
		return nil
	}
	if err := r.gossip.SweepACL(ctx, keys, r.cluster.Members); err != nil {
		return err
	}
	r.swept, r.sweptOf = now, of.String()
	return nil
}

// split takes the keys that only servers are to hold away from the other members, and changes them all, as soon as every member's
// agent can do without.
func (r *Rotator) split(ctx context.Context) (done bool, err error) {
	members, err := r.cluster.Members(ctx)
	if err != nil {
		return false, err
	}
	var old []string
	for _, m := range members {
		if m.Trust < store.TrustLeaf {
			old = append(old, m.Name)
		}
	}
	if len(old) > 0 || len(members) == 0 {
		if text := strings.Join(old, ", "); text != r.waits {
			r.waits = text
			r.log.Warn("every member of this cluster holds all of its keys until socketplane is upgraded on all hosts", "hosts", text)
		}
		return false, nil
	}
	_, err = r.cluster.UpdateKeys(ctx, func(k *store.Keys) (bool, error) {
		if done = !k.Split && k.Phase == store.PhaseNone; !done {
			return false, nil
		}
		k.Split, k.Rotate, k.ConsulToken, k.AgentToken = true, true, store.Secret{}, store.Secret{}
		k.Epoch, k.Since = k.Epoch+1, time.Now().UTC()
		return true, nil
	})
	if err != nil {
		return false, fmt.Errorf("take the keys away from members that are no servers: %w", err)
	}
	r.log.Info("members that are no servers give the cluster's keys back, and all keys are changed")
	return done, nil
}

// step writes the next phase, unless the keys are others by now.
func (r *Rotator) step(ctx context.Context, seen store.Keys, view View) error {
	var stepped bool
	next, err := r.cluster.UpdateKeys(ctx, func(k *store.Keys) (bool, error) {
		if stepped = false; k.Epoch != seen.Epoch || k.Phase != seen.Phase {
			return false, nil
		}
		next, changed, err := Step(*k, view, r.life, func() (Fresh, error) {
			ca, err := newAuthority(k.Cluster, r.life.CA, view.Now)
			return Fresh{CA: ca, Gossip: newGossipKey(), Management: store.NewSecret(uuid())}, err
		})
		*k, stepped = next, changed
		return changed, err
	})
	if err != nil {
		return fmt.Errorf("rotation of the keys: %w", err)
	}
	if stepped {
		phase := next.Phase
		if phase == store.PhaseNone {
			phase = "done"
		}
		r.log.Info("the cluster's keys are rotated", "phase", string(phase), "epoch", next.Epoch)
	}
	return nil
}

// epochs are those of the members that are up: a Consul that runs without its agent votes, too. Who is down is admitted again by
// its key when it comes back.
func (r *Rotator) epochs(ctx context.Context, up map[string]bool) ([]uint64, error) {
	members, err := r.cluster.Members(ctx)
	if err != nil {
		return nil, err
	}
	hosts, err := r.cluster.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	var epochs []uint64
	for _, m := range members {
		if up[m.ID] || hosts.Alive[m.ID] {
			epochs = append(epochs, m.Epoch)
		}
	}
	return epochs, nil
}

// tell logs once what is mostly over in a second: a host that has just died is asked in vain.
func (r *Rotator) tell(what string, err error) {
	if text := err.Error(); text != r.told {
		r.told = text
		r.log.Info(what, "err", err)
	}
}
